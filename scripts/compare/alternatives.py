"""Other caching indexes: installs them, starts them as their own documentation says, and measures all of them alike.

They come from whatever index pip is configured with on this machine. None of them can mint a CodeArtifact token, so the
upstream that everybody gets here asks for none. What cannot be installed, or fails a single request, is reported with the
reason; it is never left out.
"""

import base64
import gzip
import json
import statistics
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import data
import load
from load import Request
from paths import median
from servers import Server, Stage, Void, free_port, fresh, start

# As pip asks for pages and files; one of the servers looks at the name of the client.
PAGE = {
    "Accept": "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "pip/26.3",
}
FILE = {"Accept-Encoding": "identity", "User-Agent": "pip/26.3"}
# The user whom devpi makes by itself.
DEVPI_USER = "root"
STARTS = 3
CROWD = 50
FAILURES = (Void, OSError, ValueError, KeyError, subprocess.SubprocessError)


@dataclass(frozen=True)
class Alternative:
    """Somebody to compare with. `serve` starts it in a directory, in front of an index, and says where its pages are."""

    name: str
    requirements: tuple[str, ...]
    how: str
    serve: Callable[[Stage, Path, Path, str], tuple[Server, str]]


def install(venvs: Path, name: str, requirements: tuple[str, ...]) -> Path:
    """A virtual environment with exactly this; made again when the requirements change. Returns its programs."""
    home = venvs / name
    marker, wanted = home / "installed", "\n".join((sys.version, *requirements))
    if not marker.exists() or marker.read_text() != wanted:
        fresh(home)
        for command in ([sys.executable, "-m", "venv", home], [home / "bin/pip", "install", "--quiet", *requirements]):
            done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600)
            if done.returncode:
                said = (done.stderr or done.stdout).strip().splitlines()
                raise Void(f"cannot be installed: {said[-1] if said else done.returncode}")
        marker.write_text(wanted)
    return home / "bin"


def peryx(stage: Stage, programs: Path, home: Path, index: str) -> tuple[Server, str]:
    port, config = free_port(), home / "peryx.toml"
    config.write_text(
        f'host = "127.0.0.1"\nport = {port}\ndata_dir = "{home}/data"\n'
        '[[index]]\nname = "pypi"\nroute = "pypi"\necosystem = "pypi"\n'
        f'[[index.upstream]]\nname = "origin"\nurl = "{index}"\n'
    )
    command = [programs / "peryx", "serve", "--config", config]
    return stage.add(start("peryx", command, port, home / "log")), "/pypi/simple/"


def proxpi(stage: Stage, programs: Path, home: Path, index: str) -> tuple[Server, str]:
    port, cache = free_port(), home / "cache"
    cache.mkdir(exist_ok=True)
    command = [programs / "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1", "--threads", "8"]
    command += ["--no-control-socket", "proxpi.server:app"]
    settings = {"PROXPI_INDEX_URL": index, "PROXPI_CACHE_DIR": str(cache), "HOME": str(home)}
    return stage.add(start("proxpi", command, port, home / "log", settings, "/health")), "/index/"


def devpi(stage: Stage, programs: Path, home: Path, index: str) -> tuple[Server, str]:
    port, store = free_port(), home / "store"
    new = not store.exists()
    if new:
        # Nothing secret: it is the first user of an index on loopback that lives for minutes.
        command = [programs / "devpi-init", "--serverdir", store, "--no-root-pypi", "--root-passwd", "compare"]
        subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=60)
    command = [programs / "devpi-server", "--serverdir", store, "--host", "127.0.0.1", "--port", port]
    server = stage.add(start("devpi", command, port, home / "log", {"HOME": str(home)}, "/+api"))
    if new:
        login = say(server, "POST", "/+login", {"user": DEVPI_USER, "password": "compare"})
        right = base64.b64encode(f"{DEVPI_USER}:{login['result']['password']}".encode()).decode()
        mirror = {"type": "mirror", "mirror_url": index, "volatile": False}
        say(server, "PUT", f"/{DEVPI_USER}/mirror", mirror, {"X-Devpi-Auth": right})
    return server, f"/{DEVPI_USER}/mirror/+simple/"


ALTERNATIVES = [
    Alternative("peryx", ("peryx==2026.1010.0",), "`peryx serve`, one cached index", peryx),
    Alternative(
        "proxpi",
        ("proxpi==1.3.1", "gunicorn==27.0.1"),
        "gunicorn, one worker, as it asks for, with 8 threads",
        proxpi,
    ),
    Alternative("devpi", ("devpi-server==6.20.3",), "`devpi-server` with 50 threads, its default; one mirror index", devpi),
]


def say(server: Server, method: str, path: str, body: dict, headers: dict | None = None) -> dict:
    sent = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
    request = urllib.request.Request(server.url(path), json.dumps(body).encode(), sent, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def page(server: Server, base: str, project: str) -> list[dict]:
    """The files of a page, whatever its encoding."""
    request = urllib.request.Request(server.url(f"{base}{project}/"), headers=PAGE)
    with urllib.request.urlopen(request, timeout=60) as answer:
        body = answer.read()
        if answer.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if "json" not in answer.headers.get("Content-Type", ""):
            raise Void(f"the page of {project} is not JSON")
    return json.loads(body)["files"]


def address(server: Server, base: str, wheel: data.Wheel) -> str:
    """Where a server's own page says that a file is; the digest must be that of the file."""
    (file,) = page(server, base, wheel.project)
    joined = urllib.parse.urlsplit(urllib.parse.urljoin(f"{base}{wheel.project}/", file["url"]))
    digest = load.digest(wheel.path)
    if file["hashes"].get("sha256") != digest:
        raise Void(f"the page of {wheel.project} names another digest")
    return joined.path


class Contest:
    """All servers in front of one upstream, measured in turns."""

    def __init__(self, stage: Stage, stand: Path, origin: Server, wheels: dict[str, data.Wheel], rounds: int, seconds: int):
        self.stage, self.stand, self.origin, self.wheels = stage, stand, origin, wheels
        self.rounds, self.seconds = rounds, seconds
        self.index = origin.url(f"/{data.PREFIX}/")
        self.running: dict[str, tuple[Server, str]] = {}
        self.rows: dict[str, dict] = {}

    def enter(self, name: str, how: str, serve: Callable[[Path], tuple[Server, str]]) -> None:
        """Starts a server several times, each time with nothing cached, and keeps the last one."""
        row = self.rows[name] = {"how": how, "failed": {}}
        try:
            starts = []
            for number in range(STARTS):
                server, base = serve(fresh(self.stage.work / "alternatives" / f"{name}-{number}"))
                starts.append(server.started * 1000)
                if number < STARTS - 1:
                    self.stage.end(server)
            row["start_ms"] = statistics.median(starts)
            row["idle_mib"] = server.memory() / 2**20
            self.running[name] = server, base
        except FAILURES as error:
            row["failed"]["start"] = reason(error)
        print(name, row, flush=True)

    def each(self, what: str, measure: Callable[[Server, str], dict], rounds: int = 1, combine=lambda found: found[0]) -> None:
        """Measures something of every server, in turns; who fails it is out of it, with the reason."""
        found: dict[str, list] = {name: [] for name in self.running}
        for number in range(rounds):
            names = list(self.running)
            for name in names[number % len(names) :] + names[: number % len(names)]:
                if what in self.rows[name]["failed"]:
                    continue
                try:
                    found[name].append(measure(*self.running[name]))
                except FAILURES as error:
                    self.rows[name]["failed"][what] = reason(error)
        for name, results in found.items():
            if what not in self.rows[name]["failed"]:
                self.rows[name][what] = combine(results)
        print(what, {name: self.rows[name].get(what, self.rows[name]["failed"].get(what)) for name in found}, flush=True)

    def cold(self, server: Server, base: str) -> dict:
        wheel = self.wheels["wheel-16m"]
        report = load.fetch(self.stand, server, address(server, base, wheel), wheel.path, 1)
        return {"first_byte_ms": report["first_byte"][0] * 1000, "whole_ms": report["whole"][0] * 1000}

    def crowd(self, server: Server, base: str) -> dict:
        wheel = self.wheels["wheel-32m"]
        # Some fetch the file, or parts of it, as soon as its page is asked for, so the page is counted with it.
        before = self.asked()
        where = address(server, base, wheel)
        report = load.fetch(self.stand, server, where, wheel.path, CROWD)
        return {"clients": CROWD, "upstream_requests": self.asked() - before, "seconds": report["seconds"]}

    def page(self, server: Server, base: str) -> load.Result:
        count = len(page(server, base, "page-75k"))
        if count != data.PAGES["page-75k"]:
            raise Void(f"the page lists {count} files instead of {data.PAGES['page-75k']}")
        return load.run(server, Request(f"{base}page-75k/", PAGE), 32, self.seconds)

    def file(self, project: str, connections: int) -> Callable[[Server, str], load.Result]:
        def measure(server: Server, base: str) -> load.Result:
            wheel = self.wheels[project]
            request = Request(address(server, base, wheel), FILE)
            load.fetch(self.stand, server, request.path, wheel.path, 1)
            return load.run(server, request, connections, self.seconds)

        return measure

    def asked(self) -> int:
        with urllib.request.urlopen(self.origin.url("/_asked"), timeout=30) as answer:
            return int(answer.read())


def reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"answers {error.code}"
    return " ".join(str(error).split())[:200] or type(error).__name__


def measure(
    stage: Stage, stand: Path, origin: Server, control: int, wheels: dict, venvs: Path, rounds: int, seconds: int
) -> dict:
    contest = Contest(stage, stand, origin, wheels, rounds, seconds)
    contest.enter(
        "wheelport",
        "as it is, logging every request",
        lambda home: (stage.wheelport(origin.port, control, name="contest", cache=home), f"/{data.PREFIX}/"),
    )
    if contest.rows["wheelport"]["failed"]:
        raise Void(contest.rows["wheelport"]["failed"]["start"])
    for alternative in ALTERNATIVES:
        name = alternative.requirements[0].replace("==", " ")
        try:
            programs = install(venvs, alternative.name, alternative.requirements)
        except FAILURES as error:
            contest.rows[name] = {"how": alternative.how, "failed": {"start": reason(error)}}
            continue
        serve = lambda home, alternative=alternative, programs=programs: alternative.serve(stage, programs, home, contest.index)  # noqa: E731
        contest.enter(name, alternative.how, serve)
    contest.running["upstream itself"] = origin, f"/{data.PREFIX}/"
    contest.rows["upstream itself"] = {"how": "nothing but hyper, from memory", "failed": {}}
    combined = lambda found: asdict(median(found))  # noqa: E731
    contest.each("cold", contest.cold)
    contest.each("crowd", contest.crowd)
    contest.each("page", contest.page, rounds, combined)
    contest.each("file_10k", contest.file("wheel-10k", 32), rounds, combined)
    contest.each("file_16m", contest.file("wheel-16m", 8), rounds, combined)
    for name, (server, _) in contest.running.items():
        if server is origin:
            continue
        results = [contest.rows[name].get(what) for what in ("page", "file_10k", "file_16m")]
        contest.rows[name]["peak_mib"] = max((each["peak_memory"] for each in results if each), default=0) / 2**20
        stage.end(server)
    ours = contest.rows["wheelport"]["failed"]
    if ours:
        raise Void(f"wheelport: {ours}")
    return contest.rows
