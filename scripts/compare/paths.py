"""The paths that are compared: for each, one request to us, one to another server, and the target ratio."""

import shutil
import statistics
import subprocess
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

import data
import load
from load import Request, Result
from servers import Server, Stage, fresh

JSON = {"Accept": "application/vnd.pypi.simple.v1+json"}
GZIP = {**JSON, "Accept-Encoding": "gzip, deflate"}


@dataclass(frozen=True)
class Side:
    server: Server
    request: Request


@dataclass(frozen=True)
class Path_:
    name: str
    against: str
    reach: float
    connections: int
    ours: Side
    theirs: Side
    # Each connection gets this file once, instead of asking again and again for some seconds.
    once: Path | None = None


@dataclass(frozen=True)
class Compared:
    path: Path_
    ours: Result
    theirs: Result

    @property
    def ratio(self) -> float:
        return self.ours.requests_per_second / self.theirs.requests_per_second

    @property
    def cpu_ratio(self) -> float:
        return self.theirs.cpu_per_request / self.ours.cpu_per_request if self.ours.cpu_per_request else 0.0

    def plain(self) -> dict:
        """As it is kept."""
        path = self.path
        about = {"name": path.name, "against": path.against, "reach": path.reach, "connections": path.connections}
        sides = {"ours": asdict(self.ours), "theirs": asdict(self.theirs)}
        return {**about, **sides, "ratio": self.ratio, "cpu_ratio": self.cpu_ratio}


def median(results: list[Result]) -> Result:
    return Result(*(statistics.median(getattr(result, name) for result in results) for name in Result.__annotations__))


def compare(path: Path_, rounds: int, seconds: float, stand: Path) -> Compared:
    """Alternates, so that whatever else the machine does meets both sides alike."""
    ours, theirs = [], []
    for number in range(rounds):
        turns = [(path.ours, ours), (path.theirs, theirs)]
        for side, results in turns if number % 2 == 0 else reversed(turns):
            if path.once:
                results.append(load.once(stand, side.server, side.request, path.once, path.connections))
            else:
                results.append(load.run(side.server, side.request, path.connections, seconds))
    return Compared(path, median(ours), median(theirs))


def get(server: Server, path: str, headers: dict) -> tuple[bytes, dict]:
    with urllib.request.urlopen(urllib.request.Request(server.url(path), headers=headers), timeout=60) as answer:
        return answer.read(), dict(answer.headers.items())


def same_answers(ours: Server, wheels: dict[str, data.Wheel], directory: Path) -> dict[str, str]:
    """Our answers as files, so that the others serve the very same bytes; with the entity tags of the pages."""
    tags = {}
    for project in ("page-75k", "page-1500k"):
        address = f"/{data.PREFIX}/{project}/"
        home = directory / address.lstrip("/")
        home.mkdir(parents=True, exist_ok=True)
        for name, headers in (("index.json", JSON), ("index.json.gz", GZIP)):
            body, answered = get(ours, address, headers)
            (home / name).write_bytes(body)
            tags.setdefault(project, {k.lower(): v for k, v in answered.items()}["etag"])
    (directory / "empty.json").write_bytes(b"")
    small = wheels["wheel-10k"]
    home = directory / small.address.lstrip("/")
    home.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(small.path, home)
    (home.parent / f"{small.file}.metadata").write_bytes(get(ours, small.address + ".metadata", {})[0])
    return tags


def warm_paths(stage: Stage, ours: Server, wheels: dict[str, data.Wheel], files: Path) -> list[Path_]:
    """What is answered from the cache."""
    same = fresh(stage.work / "same")
    tags = same_answers(ours, wheels, same)
    for wheel in wheels.values():
        if wheel.project not in ("wheel-32m", "wheel-200m"):
            get(ours, f"/{data.PREFIX}/{wheel.project}/", JSON)
            get(ours, wheel.address, {})
    bare = stage.stand("bare", same)
    nginx = stage.nginx(stage.stand("same-origin", same, "--gzip", "yes").port, files)
    page, big = f"/{data.PREFIX}/page-75k/", f"/{data.PREFIX}/page-1500k/"
    small, middle, large = wheels["wheel-10k"].address, wheels["wheel-16m"], wheels["wheel-300m"]

    def alike(name, against, server, reach, connections, path, headers):
        request = Request(path, headers)
        return Path_(name, against, reach, connections, Side(ours, request), Side(server, request))

    def from_disk(name, connections, wheel, once=False):
        ours_, theirs = Side(ours, Request(wheel.address, {})), Side(nginx, Request("/files" + wheel.address, {}))
        return Path_(name, "nginx sendfile", 1.0, connections, ours_, theirs, wheel.path if once else None)

    # Both sides read the same request.
    conditional = {**JSON, "If-None-Match": tags["page-75k"]}
    unchanged = Side(ours, Request(page, conditional, 304))
    beside_h2o = []
    if shutil.which("h2o"):
        h2o = stage.h2o(same, files)
        beside_h2o = [alike("page 75 KB, gzip", "h2o", h2o, 0.9, 32, page, GZIP), alike("file 10 KB", "h2o", h2o, 0.9, 32, small, {})]
    return [
        *beside_h2o,
        alike("page 75 KB, gzip", "nginx proxy_cache", nginx, 1.3, 32, page, GZIP),
        alike("page 75 KB, identity", "bare hyper", bare, 0.9, 32, page, JSON),
        alike("page 1.5 MB, identity", "bare hyper", bare, 0.9, 8, big, JSON),
        Path_("page, 304", "bare hyper, empty", 0.85, 32, unchanged, Side(bare, Request("/empty.json", conditional))),
        alike("core metadata", "bare hyper", bare, 0.85, 32, small + ".metadata", {}),
        alike("file 10 KB", "nginx proxy_cache", nginx, 0.9, 32, small, {}),
        from_disk("file 16 MB, 1 reader", 1, middle),
        from_disk("file 16 MB, 32 readers", 32, middle),
        from_disk("file 300 MB, 1 reader", 1, large, once=True),
        from_disk("file 300 MB, 32 readers", 32, large, once=True),
    ]


def cold_file(stand: Path, stage: Stage, origin: Server, control: int, wheel: data.Wheel, rounds: int) -> dict:
    """One client and a file that no client asked for before: first byte and whole body, beside straight at upstream.

    Once with an upstream as fast as memory, where both cores are the limit, and once with one of 200 MB/s.
    """
    paced = stage.stand("paced", wheel.path.parents[data.PREFIX.count("/") + 3], "--rate", 200)
    fast, steady = (_cold_file(stand, stage, server, control, wheel, rounds) for server in (origin, paced))
    stage.end(paced)
    return {**fast, "paced_whole_ratio": steady["whole_ratio"]}


def _cold_file(stand: Path, stage: Stage, origin: Server, control: int, wheel: data.Wheel, rounds: int) -> dict:
    first, whole = {"ours": [], "straight": []}, {"ours": [], "straight": []}
    for number in range(rounds):
        ours = stage.wheelport(origin.port, control, name=f"cold-{number}")
        get(ours, f"/{data.PREFIX}/{wheel.project}/", JSON)
        for name, server in (("ours", ours), ("straight", origin)):
            report = load.fetch(stand, server, wheel.address, wheel.path, 1)
            first[name].append(report["first_byte"][0])
            whole[name].append(report["whole"][0])
        stage.end(ours)
    middle = statistics.median
    return {
        "first_byte_extra_ms": (middle(first["ours"]) - middle(first["straight"])) * 1000,
        "whole_ratio": middle(whole["straight"]) / middle(whole["ours"]),
    }


def storm(stand: Path, stage: Stage, origin: Server, control: int, wheel: data.Wheel, clients: int) -> dict:
    """Many clients on one file that no client asked for before, then the same once it is there."""
    ours = stage.wheelport(origin.port, control, name="storm")
    get(ours, f"/{data.PREFIX}/{wheel.project}/", JSON)
    asked = int(get(origin, "/_asked", {})[0])
    cold = load.fetch(stand, ours, wheel.address, wheel.path, clients)["seconds"]
    asked = int(get(origin, "/_asked", {})[0]) - asked
    warm = load.fetch(stand, ours, wheel.address, wheel.path, clients)["seconds"]
    peak = ours.peak_memory()
    stage.end(ours)
    return {
        "clients": clients,
        "upstream_gets": asked,
        "cold_s": cold,
        "warm_s": warm,
        "ratio": cold / warm,
        "peak_mib": peak / 2**20,
    }


def many_downloads(ours: Server, wheel: data.Wheel, clients: int, seconds: int) -> float:
    """The most memory that so many downloads at once take, in MiB. They are under way for some seconds, then left."""
    ours.forget_peak()
    command = ["wrk", "-t", "1", "-c", str(clients), "-d", f"{seconds}s", "--timeout", "60s", ours.url(wheel.address)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise load.Void(f"{clients} downloads: {text}")
    return ours.peak_memory() / 2**20
