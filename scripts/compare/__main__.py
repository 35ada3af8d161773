"""Compares Wheelport with other servers under load, side by side on this machine, and writes docs/PERFORMANCE.md.

    cargo build --release --locked --bin wheelport
    python3 scripts/compare                    # about ten minutes; needs wrk and nginx on the path
    python3 scripts/compare --only "304"       # one path, printed only

Everything runs on loopback, ends by itself and is ended by process id. A single failed request, an unexpected status or
a wrong body voids the run.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import data
import load
import paths
import report
from load import Request
from servers import Stage

ROOT = Path(__file__).resolve().parents[2]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--seconds", type=int, default=4, help="length of a turn")
    parser.add_argument("--only", help="only paths whose name contains this; nothing is written")
    parser.add_argument("--target", type=Path, default=ROOT / "target", help="cargo's target directory")
    parser.add_argument("--work", type=Path, help="working directory, kept; otherwise a temporary one")
    parser.add_argument("--log", default="info", help="Wheelport's log level; info has a line for every request")
    return parser.parse_args()


def build_stand(target: Path) -> Path:
    """The bare server and the clients, in a target directory of their own."""
    manifest = ROOT / "benches/stand/Cargo.toml"
    directory = target / "stand"
    command = ["cargo", "build", "--release", "--locked", "--manifest-path", str(manifest), "--target-dir", str(directory)]
    subprocess.run(command, check=True)
    return directory / "release" / "stand"


def first_sight(stage: Stage, origin, control: int) -> dict:
    """What a page of 15,000 files does to everybody else when it is first asked for."""
    page = Request(f"/{data.PREFIX}/page-75k/", paths.GZIP)
    found = {}
    for name in ("alone", "beside"):
        ours = stage.wheelport(origin.port, control, name=f"sight-{name}")
        load.check(ours, page)
        if name == "beside":
            url = (ours, f"/{data.PREFIX}/page-5m/", paths.GZIP)
            timer = threading.Timer(1.0, lambda url=url: paths.get(*url))
            timer.start()
        found[name] = load.run(ours, page, 4, 4).p99 * 1000
        stage.end(ours)
    return {"p99_alone_ms": found["alone"], "p99_beside_ms": found["beside"]}


def by_connections(ours, seconds: int) -> list[tuple[int, float, float]]:
    page = Request(f"/{data.PREFIX}/page-75k/", paths.GZIP)
    counts = (1, 4, 16, 64, 250, 1000, 2000)
    results = [(count, load.run(ours, page, count, seconds)) for count in counts]
    return [(count, result.requests_per_second, result.p99 * 1000) for count, result in results]


def by_files(stage: Stage, origin, control: int, sizes: dict[str, int], seconds: int) -> list[dict]:
    import time

    found = []
    ours = stage.wheelport(origin.port, control, name="sizes")
    for name, count in sizes.items():
        began = time.monotonic()
        paths.get(ours, f"/{data.PREFIX}/{name}/", paths.GZIP)
        cold = time.monotonic() - began
        warm = load.run(ours, Request(f"/{data.PREFIX}/{name}/", paths.GZIP), 8, seconds)
        found.append({"files": count, "first_ms": cold * 1000, "rps": warm.requests_per_second})
    stage.end(ours)
    return found


def compare(options: argparse.Namespace, work: Path) -> dict:
    stand = build_stand(options.target)
    root = work / "upstream"
    sizes = {f"page-{count}": count for count in (10, 100, 1000, 4000, 15000)}
    data.write_pages(root)
    data.write_pages(root, sizes)
    wheels = data.write_wheels(root)
    found: dict = {"log": options.log}
    with Stage(work, options.target) as stage:
        origin = stage.stand("upstream", root)
        _, control = stage.emulator("--no-seed")
        ours = stage.wheelport(origin.port, control, env={"WHEELPORT_LOG": options.log})
        paths.get(ours, "/", {})
        found["idle_mib"] = ours.memory() / 2**20
        compared = []
        for path in paths.warm_paths(stage, ours, wheels, root):
            if options.only and options.only not in path.name:
                continue
            compared.append(paths.compare(path, options.rounds, options.seconds, stand))
            print(report.line(compared[-1]), flush=True)
        found["compared"] = compared
        if options.only:
            return found
        steps = {
            "downloads_mib": lambda: paths.many_downloads(ours, wheels["wheel-300m"], 500, 8),
            "connections": lambda: by_connections(ours, 2),
            "cold": lambda: paths.cold_file(stand, stage, origin, control, wheels["wheel-200m"], 5),
            "storm": lambda: paths.storm(stand, stage, origin, control, wheels["wheel-200m"], 200),
            "sight": lambda: first_sight(stage, origin, control),
            "sizes": lambda: by_files(stage, origin, control, sizes, 2),
            "starts": lambda: [(n, paths.start_with(stage, origin, control, n) * 1000) for n in (1000, 10_000, 100_000)],
        }
        for name, step in steps.items():
            found[name] = step()
            print(name, found[name], flush=True)
    return found


def machine() -> dict:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":")[1].strip()
            break
    versions = {}
    for name, command in (("nginx", ["nginx", "-v"]), ("wrk", ["wrk", "-v"])):
        done = subprocess.run(command, capture_output=True, text=True)
        versions[name] = (done.stdout + done.stderr).splitlines()[0].strip()
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "load": os.getloadavg(), **versions}


def main() -> None:
    options = arguments()
    missing = [tool for tool in ("wrk", "nginx") if not shutil.which(tool)]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}")
    options.target = options.target.resolve()
    about = machine()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        found = compare(options, work)
    if not options.only:
        about["load_after"] = os.getloadavg()
        report.write(ROOT / "docs", about, found, options.rounds, options.seconds)


main()
