"""Import the modules named on standard input; print what each adds by itself, in bytes resident.

A program of its own that itself imports next to nothing.
"""

import importlib
import json
import sys
from contextlib import suppress
from importlib import _bootstrap
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType


def resident() -> int:
    """Return the process's resident memory; the kernel's cheaper counters lag behind."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss:"))


def weigh(spec: ModuleSpec) -> ModuleType:
    """Load a module, and note what it adds without the modules that it imports."""
    before = resident()
    within.append(0)
    module: ModuleType = load(spec)
    total = resident() - before
    added[spec.name] = total - within.pop()
    within[-1] += total
    return module


added: dict[str, int] = {}
within = [0]
# Not public, but a finder, which is, would miss what a library's loading takes.
importing = vars(_bootstrap)
load = importing["_load_unlocked"]
importing["_load_unlocked"] = weigh
for name in sys.stdin.read().split():
    # What only looks like a module, or exists in the service's own start alone.
    with suppress(ImportError):
        importlib.import_module(name)
print(json.dumps(added))
