"""Puts load on a server and reads what came of it. A run in which anything failed is void and ends the comparison."""

import gzip
import hashlib
import json
import re
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from servers import Server, Void

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# A response of so many bytes is a large part of a turn.
LARGE = 64 << 20
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    status: int = 200


@dataclass(frozen=True)
class Result:
    requests_per_second: float
    bytes_per_second: float
    p50: float
    p99: float
    cpu_per_request: float
    peak_memory: int


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(server: Server, request: Request) -> tuple[int, str]:
    """Asks once; how many bytes the body takes, and the digest of what it says. The status must be the expected one."""

    class Unfollowed(urllib.request.HTTPErrorProcessor):
        def http_response(self, _, response):
            return response

    opener = urllib.request.build_opener(Unfollowed)
    with opener.open(urllib.request.Request(server.url(request.path), headers=request.headers), timeout=60) as answer:
        body = answer.read()
        if answer.status != request.status:
            raise Void(f"{server.name} answers {request.path} with {answer.status}")
        # A server that compresses each response again may put the time into the compressed form.
        said = gzip.decompress(body) if answer.headers.get("Content-Encoding") == "gzip" else body
    return len(body), hashlib.sha256(said).hexdigest()


def run(server: Server, request: Request, connections: int, seconds: float, threads: int = 1) -> Result:
    """Keeps so many connections busy for so long."""
    before = check(server, request)
    server.forget_peak()
    began = server.cpu_seconds()
    command = [*server.client, "wrk", "--latency", "-t", threads, "-c", connections, "-d", f"{int(seconds)}s", "--timeout", "30s"]
    for name, value in request.headers.items():
        command += ["-H", f"{name}: {value}"]
    command.append(server.url(request.path))
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True, timeout=seconds + 60)
    spent = server.cpu_seconds() - began
    text = done.stdout
    if bad := re.search(r"(Non-2xx or 3xx responses|Socket errors): .*", text):
        raise Void(f"{server.name}, {request.path}: {bad[0]}")
    if check(server, request) != before:
        raise Void(f"{server.name}, {request.path}: the answer has changed")
    count, volume, unit = re.search(r"(\d+) requests in [^,]+, ([\d.]+)(\w?)B read", text).groups()
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    volume = float(volume) * UNITS[unit]
    length = before[0]
    if int(count) and volume / int(count) < length * 0.98:
        raise Void(f"{server.name}, {request.path}: {volume / int(count):.0f} bytes an answer instead of {length}")
    transfer, unit = re.search(r"Transfer/sec:\s+([\d.]+)(\w?)B", text).groups()
    transfer = float(transfer) * UNITS[unit]
    # Of large files few are complete when the time ends; those under way count by their bytes.
    if length >= LARGE:
        rate, count = transfer / length, volume / length
    latency = {}
    for percent, value, scale in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s|m)", text):
        latency[percent] = float(value) * SECONDS[scale]
    return Result(
        rate,
        transfer,
        latency["50"],
        latency["99"],
        spent / max(1, float(count)),
        server.peak_memory(),
    )


def once(stand: Path, server: Server, request: Request, expect: Path, clients: int) -> Result:
    """A number of clients that each get one file once, as a result like that of a run."""
    server.forget_peak()
    began = server.cpu_seconds()
    report = fetch(stand, server, request.path, expect, clients)
    spent = server.cpu_seconds() - began
    whole = sorted(report["whole"])
    return Result(
        clients / report["seconds"],
        report["bytes"] / report["seconds"],
        whole[len(whole) // 2],
        whole[-1],
        spent / clients,
        server.peak_memory(),
    )


def fetch(stand: Path, server: Server, path: str, expect: Path, clients: int) -> dict:
    """A number of clients that each get one address once."""
    command = [*server.client, stand, "fetch", "--to", f"{server.host}:{server.port}", "--path", path, "--expect", expect, "--clients", clients]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=400)
    if done.returncode:
        raise Void(f"{server.name}, {path}: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    if report["failures"]:
        raise Void(f"{server.name}, {path}: {len(report['failures'])} failures, first {report['failures'][0]}")
    return report
