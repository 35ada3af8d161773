"""How cost grows: with the files of a page, with the files in the cache, with the number of connections."""

import concurrent.futures
import os
import shutil
import statistics
import threading
import time
from pathlib import Path

import data
import load
import paths
from load import Request
from servers import STEP, Server, Stage, Void, fresh

PAGE_FILES = (10, 100, 1000, 4000, 15_000)
CONNECTIONS = (1, 4, 16, 64, 250, 1000, 2000)
BLOBS = (1000, 10_000, 100_000, 1_000_000)
STARTS = 3
# What a made-up blob seems to weigh; it takes an inode and no space.
BLOB_SIZE = 1000
PAGE = Request(f"/{data.PREFIX}/page-75k/", paths.GZIP)


def sizes() -> dict[str, int]:
    return {f"page-{count}": count for count in PAGE_FILES}


def by_files(stage: Stage, origin: Server, control: int, seconds: int) -> list[dict]:
    found = []
    ours = stage.wheelport(origin.port, control, name="sizes")
    for name, count in sizes().items():
        address = f"/{data.PREFIX}/{name}/"
        began = time.monotonic()
        paths.get(ours, address, paths.GZIP)
        cold = time.monotonic() - began
        warm = load.run(ours, Request(address, paths.GZIP), 8, seconds)
        found.append(
            {
                "files": count,
                "first_ms": cold * 1000,
                "rps": warm.requests_per_second,
                "cpu_us": warm.cpu_per_request * 1e6,
                "peak_mib": warm.peak_memory / 2**20,
            }
        )
    stage.end(ours)
    return found


def by_connections(stage: Stage, origin: Server, control: int, seconds: int) -> list[dict]:
    found = []
    ours = stage.wheelport(origin.port, control, name="connections")
    for count in CONNECTIONS:
        result = load.run(ours, PAGE, count, seconds)
        found.append(
            {
                "connections": count,
                "rps": result.requests_per_second,
                "p50_ms": result.p50 * 1000,
                "p99_ms": result.p99 * 1000,
                "cpu_us": result.cpu_per_request * 1e6,
                "peak_mib": result.peak_memory / 2**20,
            }
        )
    stage.end(ours)
    return found


def first_sight(stage: Stage, origin: Server, control: int, rounds: int) -> dict:
    """What a page of 15,000 files does to everybody else when it is first asked for."""
    found: dict[str, list[float]] = {"alone": [], "beside": []}
    for number in range(rounds):
        for name, results in found.items():
            ours = stage.wheelport(origin.port, control, name=f"sight-{name}-{number}")
            load.check(ours, PAGE)
            asked: list[int] = []
            if name == "beside":
                big = (ours, f"/{data.PREFIX}/page-5m/", paths.GZIP)
                timer = threading.Timer(1.0, lambda big=big, asked=asked: asked.append(len(paths.get(*big)[0])))
                timer.start()
            results.append(load.run(ours, PAGE, 4, 4).p99 * 1000)
            if name == "beside":
                timer.join()
                if not asked:
                    raise Void("the large page was not answered")
            stage.end(ours)
    return {f"p99_{name}_ms": statistics.median(results) for name, results in found.items()}


def by_blobs(stage: Stage, origin: Server, control: int, wheel: data.Wheel, seconds: int, place: Path) -> list[dict]:
    """The same directory with more and more in it; the files are laid out as the cache does, but are holes."""
    found = []
    cache = fresh(place / "blobs")
    try:
        (cache / "format").write_text("wheelport cache 1\n")
        written = 0
        for count in BLOBS:
            fill(cache, written, count)
            written = count
            found.append(with_blobs(stage, origin, control, wheel, seconds, cache, count))
            print(found[-1], flush=True)
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return found


def with_blobs(stage: Stage, origin: Server, control: int, wheel: data.Wheel, seconds: int, cache: Path, count: int) -> dict:
    answering, measured = [], []
    for number in range(STARTS):
        began = time.monotonic()
        options = ("--cache-max-size", "100GiB")
        ours = stage.wheelport(origin.port, control, *options, name=f"blobs-{count}-{number}", cache=cache)
        answering.append(ours.started * 1000)
        measured.append(inventory(ours, began) * 1000)
        if number < STARTS - 1:
            stage.end(ours)
    paths.get(ours, f"/{data.PREFIX}/{wheel.project}/", paths.JSON)
    idle, most = ours.memory(), ours.peak_memory()
    warm = load.run(ours, Request(wheel.address, {}), 32, seconds)
    stage.end(ours)
    return {
        "blobs": count,
        "start_ms": statistics.median(answering),
        "inventory_ms": statistics.median(measured),
        "idle_mib": idle / 2**20,
        "peak_mib": most / 2**20,
        "rps": warm.requests_per_second,
        "p99_ms": warm.p99 * 1000,
        "cpu_us": warm.cpu_per_request * 1e6,
    }


def inventory(ours: Server, began: float, patience: float = 120) -> float:
    """Seconds until the log says that the cache is counted."""
    while time.monotonic() < began + patience:
        if "cache measured" in ours.log.read_text(errors="replace"):
            return time.monotonic() - began
        if ours.process.poll() is not None:
            break
        time.sleep(STEP)
    raise Void(f"{ours.name} does not say that its cache is counted")


def fill(cache: Path, first: int, until: int) -> None:
    """Adds made-up blobs, spread over the shards as digests are."""
    room = os.statvfs(cache)
    if room.f_favail < (until - first) * 1.2:
        raise Void(f"{room.f_favail} free inodes are too few for {until - first} files")
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        done = list(pool.map(fill_shard, *zip(*[(cache, shard, first, until) for shard in range(256)], strict=True)))
    if sum(done) != until - first:
        raise Void(f"{sum(done)} files were made instead of {until - first}")


def fill_shard(cache: Path, shard: int, first: int, until: int) -> int:
    directory = cache / "blobs" / f"{shard:02x}"
    directory.mkdir(parents=True, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    made = 0
    try:
        for number in range(first + (shard - first) % 256, until, 256):
            # An odd multiplier leaves no two alike and looks like the beginning of a digest.
            name = f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}{number:046x}"
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=handle)
            os.truncate(file, BLOB_SIZE)
            os.close(file)
            made += 1
    finally:
        os.close(handle)
    return made
