"""Installs the package clients that the tests drive, each into a virtual environment of its own.

Run by `scripts/test` with the machine's own Python 3, before anything else exists; therefore only the standard library.
The packages come by name from whatever index pip is configured with on this machine: this file names none, and it is
the only part of the tests that uses the network. An environment is reinstalled only when its line in `clients.toml`
changes.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
HOME = pathlib.Path(os.environ.get("WHEELPORT_CLIENTS", HERE.parent.parent / "target" / "clients"))
TABLE = HERE / "clients.toml"
READY = "wheelport-ready.json"
TRIES = 3


def table() -> dict[str, list[str]]:
    """Environment name to requirements."""
    import tomllib

    with TABLE.open("rb") as file:
        return {name: entry["requirements"] for name, entry in tomllib.load(file).items()}


def python_of(name: str) -> pathlib.Path:
    """The interpreter of an environment."""
    return HOME / name / "bin" / "python"


def is_ready(name: str, requirements: list[str]) -> bool:
    """Whether the environment was completed with these requirements and this interpreter."""
    try:
        found = json.loads((HOME / name / READY).read_text())
    except (OSError, ValueError):
        return False
    return found == stamp(requirements) and python_of(name).exists()


def stamp(requirements: list[str]) -> dict[str, object]:
    return {"requirements": requirements, "python": sys.version}


def install(name: str, requirements: list[str], with_pip: bool = False) -> None:
    """Makes one environment, or leaves it as it is."""
    if is_ready(name, requirements):
        return
    began = time.monotonic()
    folder = HOME / name
    shutil.rmtree(folder, ignore_errors=True)
    run([sys.executable, "-m", "venv", *([] if with_pip else ["--without-pip"]), str(folder)])
    if with_pip:
        command = [str(python_of(name)), "-m", "pip", "install", "--upgrade"]
    else:
        command = [str(python_of("bootstrap")), "-m", "pip", "--python", str(python_of(name)), "install"]
    command += ["--quiet", "--disable-pip-version-check", "--no-compile", *requirements]
    for attempt in range(1, TRIES + 1):
        try:
            run(command)
            break
        except RuntimeError:
            if attempt == TRIES:
                raise
    (folder / READY).write_text(json.dumps(stamp(requirements)))
    print(f"{name}: {', '.join(requirements)} ({time.monotonic() - began:.0f} s)", flush=True)


def run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")


def main() -> int:
    if sys.version_info < (3, 11):
        print(f"the client tests need Python 3.11 or newer; {sys.executable} is {sys.version}", file=sys.stderr)
        return 1
    wanted = table()
    HOME.mkdir(parents=True, exist_ok=True)
    try:
        install("bootstrap", wanted.pop("bootstrap"), with_pip=True)
        with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
            for future in [pool.submit(install, name, what) for name, what in wanted.items()]:
                future.result()
    except RuntimeError as error:
        print(f"a package client could not be installed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
