"""Compares Wheelport with other servers under load, side by side on this machine, and writes docs/PERFORMANCE.md.

    python3 scripts/compare                    # everything, then docs/PERFORMANCE.md; needs wrk and nginx
    python3 scripts/compare --only resolve     # one part (repeatable); its result is kept, nothing is rendered
    python3 scripts/compare --render           # docs/PERFORMANCE.md from the results that are kept

Everything listens on loopback, ends by itself and is ended by process id. A single failed request, an unexpected status
or a wrong body voids the part in which it happens, and the command fails.
"""

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import across
import before
import data
import encrypted
import gated
import growth
import load
import paths
import report
import resolve
import results
import alternatives
from servers import Server, Stage, Void, fresh

ROOT = Path(__file__).resolve().parents[2]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = [*PARTS, *OPTIONAL]
    parser.add_argument("--only", action="append", metavar="PART", choices=parts, help=f"only this part: {', '.join(parts)}")
    parser.add_argument("--path", help="of the part `paths`, only those whose name contains this; nothing is kept")
    parser.add_argument("--render", action="store_true", help="measure nothing, only write the document")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--seconds", type=int, default=3, help="length of a turn")
    parser.add_argument("--target", type=Path, default=ROOT / "target", help="cargo's target directory")
    parser.add_argument("--binary", type=Path, help="a Wheelport to measure; otherwise it is built")
    parser.add_argument("--before", type=Path, help="an earlier build of Wheelport, for the part `before`")
    parser.add_argument("--log", default="info", help="Wheelport's log level; info has a line for every request")
    return parser.parse_args()


def build(options: argparse.Namespace) -> Path:
    """The bare server and its clients, in a target directory of their own, and Wheelport."""
    stand = options.target / "stand"
    cargo = ["cargo", "build", "--release", "--locked", "--manifest-path"]
    subprocess.run([*cargo, ROOT / "benches/stand/Cargo.toml", "--target-dir", stand], check=True)
    if options.binary is None:
        subprocess.run([*cargo, ROOT / "Cargo.toml", "--bin", "wheelport", "--target-dir", options.target], check=True)
        options.binary = options.target / "release" / "wheelport"
    options.binary = options.binary.resolve()
    return stand / "release" / "stand"


@dataclass
class Scene:
    """What one part plays in: the files of the upstream, its servers, and where everything is kept."""

    options: argparse.Namespace
    stage: Stage
    stand: Path
    home: Path

    @cached_property
    def files(self) -> tuple[Path, dict[str, data.Wheel]]:
        root = self.stage.work.parent / "upstream"
        data.write_pages(root)
        data.write_pages(root, growth.sizes())
        wheels = data.write_wheels(root)
        data.write_projects(root)
        return root, wheels

    @property
    def wheels(self) -> dict[str, data.Wheel]:
        return self.files[1]

    @cached_property
    def origin(self) -> Server:
        return self.stage.stand("upstream", self.files[0])

    @cached_property
    def control(self) -> int:
        return self.stage.emulator("--no-seed")[1]

    def ours(self, name: str = "wheelport") -> Server:
        return self.stage.wheelport(self.origin.port, self.control, name=name, env={"WHEELPORT_LOG": self.options.log})


def compared(scene: Scene, found: Iterable[paths.Path_]) -> list[dict]:
    each = []
    for path in found:
        each.append(paths.compare(path, scene.options.rounds, scene.options.seconds, scene.stand).plain())
        print(report.line(each[-1]), flush=True)
    return each


def warm(scene: Scene) -> list[dict]:
    all_of_them = paths.warm_paths(scene.stage, scene.ours(), scene.wheels, scene.files[0])
    wanted = scene.options.path or ""
    return compared(scene, (path for path in all_of_them if wanted in path.name))


def tls(scene: Scene) -> list[dict]:
    root, wheels = scene.files
    env = {"WHEELPORT_LOG": scene.options.log}
    return compared(scene, encrypted.warm_paths(scene.stage, scene.origin, scene.control, wheels, root, env))


def behind_the_gate(scene: Scene) -> list[dict]:
    env = {"WHEELPORT_LOG": scene.options.log}
    return compared(scene, gated.warm_paths(scene.stage, scene.origin, scene.control, scene.wheels, env))


def large_files_across_veth(scene: Scene) -> list[dict]:
    with across.veth() as (host, client):
        scene.stage.where = {"host": host, "client": tuple(client)}
        all_of_them = paths.warm_paths(scene.stage, scene.ours(), scene.wheels, scene.files[0])
        # Our own client stays on loopback.
        return compared(scene, (replace(path, once=None) for path in all_of_them if path.against == "nginx sendfile"))


def memory(scene: Scene) -> dict:
    ours = scene.ours()
    paths.get(ours, "/", {})
    idle = ours.memory() / 2**20
    wheel = scene.wheels["wheel-300m"]
    paths.get(ours, f"/{data.PREFIX}/{wheel.project}/", paths.JSON)
    load.fetch(scene.stand, ours, wheel.address, wheel.path, 1)
    return {"idle_mib": idle, "downloads": 500, "downloads_mib": paths.many_downloads(ours, wheel, 500, 8)}


def cold(scene: Scene) -> dict:
    wheel, rounds = scene.wheels["wheel-200m"], scene.options.rounds
    found = paths.cold_file(scene.stand, scene.stage, scene.origin, scene.control, wheel, rounds)
    return {"file": found, "storm": paths.storm(scene.stand, scene.stage, scene.origin, scene.control, wheel, 200)}


def pages(scene: Scene) -> dict:
    by_files = growth.by_files(scene.stage, scene.origin, scene.control, 2)
    return {"by_files": by_files, "sight": growth.first_sight(scene.stage, scene.origin, scene.control, 3)}


def connections(scene: Scene) -> list[dict]:
    return growth.by_connections(scene.stage, scene.origin, scene.control, scene.options.seconds)


def blobs(scene: Scene) -> list[dict]:
    wheel = scene.wheels["wheel-10k"]
    return growth.by_blobs(scene.stage, scene.origin, scene.control, wheel, 2, scene.home)


def contest(scene: Scene) -> dict:
    options, venvs = scene.options, scene.home / "venvs"
    rounds, seconds = min(options.rounds, 3), options.seconds
    return alternatives.measure(scene.stage, scene.stand, scene.origin, scene.control, scene.wheels, venvs, rounds, seconds)


def resolving(scene: Scene) -> dict:
    return resolve.measure(scene.stage, ROOT, scene.home / "venvs", min(scene.options.rounds, 3))


def against_before(scene: Scene) -> dict:
    options = scene.options
    if options.before is None:
        raise Void("the part `before` needs --before PROGRAM")
    return before.measure(
        scene.stage,
        scene.stand,
        scene.origin,
        scene.control,
        scene.wheels,
        options.before,
        options.rounds,
        options.seconds,
        options.log,
    )


PARTS: dict[str, Callable[[Scene], object]] = {
    "paths": warm,
    "tls": tls,
    "gated": behind_the_gate,
    "memory": memory,
    "cold": cold,
    "pages": pages,
    "connections": connections,
    "blobs": blobs,
    "alternatives": contest,
    "resolve": resolving,
}
# Parts that are only played when they are named.
OPTIONAL = {"before": against_before, "veth": large_files_across_veth}


def play(name: str, options: argparse.Namespace, stand: Path, home: Path) -> bool:
    """Plays one part and keeps its result; whether that went well."""
    about = results.begin(ROOT, options)
    print(f"== {name}", flush=True)
    try:
        with Stage(fresh(home / "work" / "stage"), options.target, options.binary) as stage:
            found = {**PARTS, **OPTIONAL}[name](Scene(options, stage, stand, home))
    except (Void, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        print(f"{name} is void: {error}", file=sys.stderr, flush=True)
        return False
    if not options.path:
        results.keep(home, name, about, found)
    return True


def leave(number: int, _frame: object) -> None:
    """A signal ends the servers like any other end."""
    sys.exit(128 + number)


def main() -> int:
    options = arguments()
    home = options.target.resolve() / "compare"
    home.mkdir(parents=True, exist_ok=True)
    if options.render:
        report.write(ROOT / "docs", results.read(home, list(report.SECTIONS)))
        return 0
    missing = [tool for tool in ("wrk", "nginx") if not shutil.which(tool)]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("another comparison is under way here")
        options.target = options.target.resolve()
        stand = build(options)
        began = time.monotonic()
        names = options.only or (["paths"] if options.path else list(PARTS))
        try:
            failed = [name for name in names if not play(name, options, stand, home)]
        finally:
            shutil.rmtree(home / "work", ignore_errors=True)
    print(f"took {(time.monotonic() - began) / 60:.1f} minutes; load {os.getloadavg()}")
    if failed:
        print(f"void: {', '.join(failed)}; the others are kept, nothing is rendered", file=sys.stderr)
        return 1
    if not options.only and not options.path:
        report.write(ROOT / "docs", results.read(home, list(report.SECTIONS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
