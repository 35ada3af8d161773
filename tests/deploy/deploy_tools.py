"""Tools that the tests of deploy/ drive, installed by name into target/deploy/ when a test first asks for one.

Everything is pinned beside this file: Python packages in `requirements-NAME.txt`, node packages in `node/`. They come from
whatever index pip and npm are configured with on this machine; this file names none. An environment is made anew only
when what pins it changes. May not read the AWS configuration of whoever runs the tests.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
HOME = pathlib.Path(os.environ.get("WHEELPORT_DEPLOY_TOOLS", ROOT / "target" / "deploy"))
INSTALL_SECONDS = 900
TRIES = 3


def binary() -> pathlib.Path:
    """The built program."""
    path = pathlib.Path(os.environ.get("WHEELPORT_BINARY", ROOT / "target" / "debug" / "wheelport")).absolute()
    assert path.exists(), f"{path} is missing: build the program or set WHEELPORT_BINARY"
    return path


def python_environment(name: str) -> pathlib.Path:
    """The folder with the programs of the environment that `requirements-NAME.txt` describes."""
    folder = HOME / name
    pins = HERE / f"requirements-{name}.txt"
    texts = [pins.read_text()]
    for line in texts[0].splitlines():
        if line.startswith("-r "):
            texts.append((HERE / line.removeprefix("-r ")).read_text())
    if _is_new(folder, [*texts, sys.version]):
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", folder])
        command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*command, "--requirement", pins])
        _remember(folder, [*texts, sys.version])
    return folder / "bin"


def node_environment() -> pathlib.Path:
    """The folder with the programs of `node/package.json`."""
    debian_program("rsync")  # gitlab-ci-local copies with it
    folder = HOME / "node"
    texts = [(HERE / "node" / name).read_text() for name in ("package.json", "package-lock.json")]
    if _is_new(folder, texts):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(HERE / "node", folder)
        # Scripts of dependencies are not needed and stay unrun.
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder])
        _remember(folder, texts)
    return folder / "node_modules" / ".bin"


def debian_program(name: str) -> None:
    """Makes sure that a program of the Debian package of the same name is there; installs it where that can be done."""
    if shutil.which(name):
        return
    can_install = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get")
    assert can_install, f"{name} is not installed (on Debian: apt-get install {name})"
    _run(["apt-get", "update", "-qq"])
    _run(["apt-get", "install", "-qq", "--yes", "--no-install-recommends", name])


def _digest(texts: list[str]) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _is_new(folder: pathlib.Path, texts: list[str]) -> bool:
    ready = folder / "wheelport-ready"
    return not ready.exists() or ready.read_text() != _digest(texts)


def _remember(folder: pathlib.Path, texts: list[str]) -> None:
    (folder / "wheelport-ready").write_text(_digest(texts))


def _run(command: list) -> None:
    """Runs an installer, again if it fails: a package index may stumble."""
    for _ in range(TRIES):
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_SECONDS
        )
        if done.returncode == 0:
            return
    raise AssertionError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
