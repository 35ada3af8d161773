"""This program against an earlier build of it, in the same run: every kind of warm request, a cold file, and memory."""

import statistics
from pathlib import Path

import data
import load
import paths
from load import Request
from servers import Server, Stage

Sides = tuple[Server, Server]


def measure(
    stage: Stage,
    stand: Path,
    origin: Server,
    control: int,
    wheels: dict[str, data.Wheel],
    before: Path,
    rounds: int,
    seconds: int,
    log: str,
) -> dict:
    now, earlier = stage.binary, before.resolve()

    def server(binary: Path, name: str) -> Server:
        stage.binary = binary
        try:
            return stage.wheelport(origin.port, control, name=name, env={"WHEELPORT_LOG": log})
        finally:
            stage.binary = now

    found = {"warm": [], "memory": {}}
    sides = (server(now, "now"), server(earlier, "before"))
    for path in warm_paths(sides, wheels):
        compared = paths.compare(path, rounds, seconds, stand)
        found["warm"].append(compared.plain())
        print(f"{path.name:32} {compared.ratio:5.2f} x the requests, {compared.cpu_ratio:5.2f} x per CPU second", flush=True)
    for one in sides:
        stage.end(one)
    found["cold"] = cold_file(stand, stage, server, (now, earlier), wheels["wheel-200m"], rounds)
    print(f"{'file 200 MB, cold':32} {found['cold']:5.2f} x as fast", flush=True)
    for name, binary in (("now", now), ("before", earlier)):
        fresh = server(binary, f"memory-{name}")
        paths.get(fresh, "/", {})
        idle = fresh.memory() / 2**20
        wheel = wheels["wheel-300m"]
        paths.get(fresh, f"/{data.PREFIX}/{wheel.project}/", paths.JSON)
        load.fetch(stand, fresh, wheel.address, wheel.path, 1)
        found["memory"][name] = {"idle_mib": idle, "downloads_mib": paths.many_downloads(fresh, wheel, 500, 8)}
        stage.end(fresh)
    print(f"memory: {found['memory']}", flush=True)
    return found


def warm_paths(sides: Sides, wheels: dict[str, data.Wheel]) -> list[paths.Path_]:
    now, before = sides
    page, small = f"/{data.PREFIX}/page-75k/", wheels["wheel-10k"].address
    middle, large = wheels["wheel-16m"], wheels["wheel-300m"]
    for server in sides:
        for wheel in (wheels["wheel-10k"], middle, large):
            paths.get(server, f"/{data.PREFIX}/{wheel.project}/", paths.JSON)
            paths.get(server, wheel.address, {})
        paths.get(server, small + ".metadata", {})
        paths.get(server, page, paths.GZIP)
    tags = [paths.get(server, page, paths.JSON)[1]["etag"] for server in sides]

    def path(name, connections, requests, once=None):
        ours, theirs = (paths.Side(server, request) for server, request in zip(sides, requests, strict=True))
        return paths.Path_(name, "before", 1.0, connections, ours, theirs, once)

    def same(name, connections, address, headers, once=None):
        return path(name, connections, [Request(address, headers)] * 2, once)

    return [
        same("page 75 KB, gzip", 32, page, paths.GZIP),
        same("page 75 KB, identity", 32, page, paths.JSON),
        path("page, 304", 32, [Request(page, {**paths.JSON, "If-None-Match": tag}, 304) for tag in tags]),
        same("core metadata", 32, small + ".metadata", {}),
        same("file 10 KB", 32, small, {}),
        same("file 16 MB, 1 reader", 1, middle.address, {}),
        same("file 16 MB, 32 readers", 32, middle.address, {}),
        same("file 300 MB, 1 reader", 1, large.address, {}, large.path),
        same("file 300 MB, 32 readers", 32, large.address, {}, large.path),
    ]


def cold_file(stand: Path, stage: Stage, server, binaries, wheel: data.Wheel, rounds: int) -> float:
    """How many times as fast as before a file that nothing asked for yet is there completely."""
    seconds = ([], [])
    for number in range(rounds):
        for binary, taken in zip(binaries, seconds, strict=True):
            fresh = server(binary, f"cold-{number}-{len(seconds[1])}-{binary.name}")
            paths.get(fresh, f"/{data.PREFIX}/{wheel.project}/", paths.JSON)
            taken.append(load.fetch(stand, fresh, wheel.address, wheel.path, 1)["whole"][0])
            stage.end(fresh)
    now, before = (statistics.median(taken) for taken in seconds)
    return before / now
