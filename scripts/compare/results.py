"""Keeps what the parts measured, with everything one has to know about how that came about."""

import argparse
import datetime
import hashlib
import json
import os
import platform
import subprocess
import time
from pathlib import Path


def begin(root: Path, options: argparse.Namespace) -> dict:
    """What holds for a part from its beginning on."""
    return {
        "began": time.time(),
        "when": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(root),
        "binary": hashlib.sha256(options.binary.read_bytes()).hexdigest()[:12],
        "rounds": options.rounds,
        "seconds": options.seconds,
        "log": options.log,
        "load_before": os.getloadavg()[0],
        "machine": machine(options.binary),
    }


def keep(home: Path, name: str, about: dict, found: object) -> None:
    """Writes a part's result, in place of the last one."""
    took = time.time() - about.pop("began")
    directory = home / "results"
    directory.mkdir(exist_ok=True)
    whole = {"part": name, **about, "took_s": took, "load_after": os.getloadavg()[0], "found": found}
    new = directory / f"{name}.new"
    new.write_text(json.dumps(whole, indent=1) + "\n")
    new.rename(directory / f"{name}.json")


def read(home: Path, names: list[str]) -> dict[str, dict]:
    """The results that are kept, by part."""
    kept = {name: home / "results" / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in kept.items() if path.exists()}


def commit(root: Path) -> str:
    """Which commit the sources are, and whether they differ from it."""
    described = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*", "--abbrev=10"]
    done = subprocess.run(described, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def machine(binary: Path) -> dict:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    versions = {}
    for name, command in (("nginx", ["nginx", "-v"]), ("wrk", ["wrk", "-v"]), ("wheelport", [str(binary), "--version"])):
        done = subprocess.run(command, capture_output=True, text=True)
        versions[name] = (done.stdout + done.stderr).strip().splitlines()[0].strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python = platform.python_version()
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": memory,
        "kernel": platform.release(),
        "python": python,
        **versions,
    }
