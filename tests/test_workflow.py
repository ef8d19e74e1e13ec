"""The workflow that CI runs for a fork calls what exists, and dependencies are kept fresh."""

import os
import re
import shutil
from typing import Any

import yaml

from support.service import PROJECT


def read(name: str) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load((PROJECT / ".github" / name).read_text("utf-8"))
    return document


def steps() -> list[dict[str, Any]]:
    return [step for job in read("workflows/ci.yml")["jobs"].values() for step in job["steps"]]


def test_every_command_exists() -> None:
    programs = {step["run"].split()[0] for step in steps() if "run" in step}
    assert programs == {"uv", "git", ".ci/run"}
    assert shutil.which(PROJECT / ".ci" / "run")


def test_every_action_is_pinned_by_its_commit() -> None:
    actions = [step["uses"] for step in steps() if "uses" in step]
    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []


def test_it_may_only_read() -> None:
    assert read("workflows/ci.yml")["permissions"] == {"contents": "read"}


def test_the_oldest_supported_python_is_the_first_tested() -> None:
    project = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    versions = read("workflows/ci.yml")["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert f'requires-python = ">={versions[0]}"' in project


def test_every_lock_file_is_kept_fresh() -> None:
    covered = {
        (entry["package-ecosystem"], folder)
        for entry in read("dependabot.yml")["updates"]
        for folder in entry.get("directories", [entry.get("directory")])
    }
    locked = {("uv", "/"), ("github-actions", "/"), ("docker", "/")}
    for folder, folders, files in os.walk(PROJECT):
        folders[:] = [name for name in folders if name != "node_modules" and name[0] != "."]
        if "package-lock.json" in files:
            locked.add(("npm", folder.removeprefix(str(PROJECT))))
    assert covered == locked
