"""The service's image, built with buildah and run with podman, without an image registry."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.network import free_port
from support.service import PATIENCE, PROJECT, UNLIMITED, Service, wait_for

IMAGE = "todo-backend"
DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
(PYTHON,) = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
(UV,) = re.findall(r"^COPY --from=(\S+/\S+)", DOCKERFILE, re.MULTILINE)
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# podman's own limits, of 1,048,576 files, are more than some machines allow.
LIMITS = ("--ulimit=nofile=20000:20000", "--ulimit=nproc=1000:1000")
# It complains that no systemd is there for its timers.
QUIET = "--log-level=fatal"


class Containers:
    """buildah's and podman's programs, with a storage of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        storage = [f"--root={folder}/storage", f"--runroot={folder}/run", _driver()]
        self._buildah = [program("buildah"), *storage]
        runtime = f"--runtime={program('runc')}"
        self._podman = [program("podman"), *storage, QUIET, runtime, "--cgroup-manager=cgroupfs"]

    def buildah(self, *arguments: str | Path) -> str:
        return _output(*self._buildah, *arguments)

    def podman(self, *arguments: str) -> str:
        return _output(*self._podman, *arguments)

    def build(self) -> None:
        """Build the image; its bases are made here, and never pulled."""
        with self._new_image(UV) as root:
            shutil.copy(os.environ["UV"], root / "uv")
        with self._new_image(PYTHON) as root:
            _install_debian(PYTHON.rpartition("-")[2], root)
        options = ["--isolation=chroot", "--network=host", "--pull-never", "--format=docker"]
        self.buildah("bud", *options, f"--tag={IMAGE}", PROJECT)

    def size(self, image: str) -> int:
        return int(self.podman("image", "inspect", "--format={{.Size}}", image))

    def run(self, env: Mapping[str, str], log: Path, name: str) -> subprocess.Popen[bytes]:
        """Run the image in the foreground: signals are passed on, the exit code is its own."""
        inside = {name: env[name] for name in env if name not in {"PATH", "HOME"}}
        locked = ["--read-only", "--read-only-tmpfs=false", "--cap-drop=all"]
        variables = [f"--env={name}={value}" for name, value in inside.items()]
        command = [*self._podman, "run", "--rm", f"--name={name}", "--network=host", *LIMITS]
        with log.open("wb") as file:
            return subprocess.Popen(
                [*command, *locked, *variables, IMAGE], stdout=file, stderr=subprocess.STDOUT
            )

    @contextmanager
    def running(self, env: Mapping[str, str], port: int | None = None) -> Iterator[Service]:
        """Run the image, wait until it answers, and end it."""
        port = port or free_port()
        log = self.folder / f"{port}.log"
        process = self.run({**env, "PORT": str(port)}, log, f"todo-{port}")
        url = f"http://127.0.0.1:{port}"
        try:
            with httpx.Client(base_url=url, timeout=PATIENCE, limits=UNLIMITED) as client:
                service = Service(process, log, url, client)
                wait_for(service.answers)
                yield service
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)

    @contextmanager
    def _new_image(self, name: str) -> Iterator[Path]:
        container = self.buildah("from", "scratch")
        yield Path(self.buildah("mount", container))
        self.buildah("config", f"--env=SSL_CERT_FILE=/{CERTIFICATES}", container)
        self.buildah("commit", "--quiet", "--rm", container, name)


@contextmanager
def containers() -> Iterator[Containers]:
    """Build the image in a folder that is deleted in the end."""
    with tempfile.TemporaryDirectory(prefix="todo-backend-") as folder:
        containers = Containers(Path(folder))
        try:
            containers.build()
            yield containers
        finally:
            # They would stay mounted.
            containers.podman("rm", "--all", "--force", "--time=0")
            containers.buildah("rm", "--all")


def _driver() -> str:
    """Choose overlay, which copies nothing, unless this machine is itself in a container."""
    with tempfile.TemporaryDirectory() as folder:
        places = [f"--root={folder}/storage", f"--runroot={folder}/run"]
        command = [program("buildah"), *places, "--storage-driver=overlay", "from", "scratch"]
        possible = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return "--storage-driver=overlay" if possible else "--storage-driver=vfs"


def _install_debian(suite: str, root: Path) -> None:
    """Make what the Python image is made of, from Debian's packages."""
    settings = root / "etc/dpkg/dpkg.cfg.d"
    settings.mkdir(parents=True)
    # Nothing is lost if the machine stops in between.
    (settings / "fast").write_text("force-unsafe-io\n")
    packages = "--include=ca-certificates,python3"
    _output(program("debootstrap"), "--variant=minbase", packages, suite, root, _mirror())
    for unneeded in ("var/cache/apt", "var/lib/apt/lists"):
        shutil.rmtree(root / unneeded)
    (root / "usr/bin/python").symlink_to("python3")
    # A proxy between this machine and the package index may have a certificate of its own.
    shutil.copy(os.environ.get("SSL_CERT_FILE", f"/{CERTIFICATES}"), root / CERTIFICATES)


def _mirror() -> str:
    """Take Debian's mirror from this machine's own package manager."""
    form = "$(ORIGIN) $(LABEL) $(SITE)"
    listed = _output("apt-get", "indextargets", "--format", form, "Created-By: Packages")
    sites = [line.split()[2] for line in listed.splitlines() if line.startswith("Debian Debian ")]
    assert sites, "apt knows no Debian mirror: apt-get update"
    return sites[0]


def program(name: str) -> str:
    """Find a program that Debian may keep in root's folder."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    assert found, (
        f"{name} is not installed: apt-get install buildah podman runc debootstrap haproxy"
    )
    return found


def _output(*command: str | Path) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{command}: {run.stdout[-2000:]}{run.stderr[-2000:]}"
    return run.stdout.strip()
