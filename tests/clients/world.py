"""The world a test plays in: the emulator, the proxy in front of it, and what a test wants to see or do to both.

Processes are the built program itself, on free ports of loopback, each with its own directory, and are ended by their
process id.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import TypeVar

import boto3
import botocore.config

from wheels import Distribution

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = pathlib.Path(os.environ.get("WHEELPORT_BINARY", TARGET / "debug" / "wheelport"))
START_LIMIT = 60.0
STOP_LIMIT = 60.0
REPOSITORY = "python"
DOMAIN = "demo"
OWNER = "111122223333"
Result = TypeVar("Result")
ADDRESS = r"(https?://127\.0\.0\.1:\d+)"


def free_of_settings() -> dict[str, str]:
    """The environment of a process that must see no configuration of this machine."""
    kept = ("PATH", "LANG", "TMPDIR", "RUST_BACKTRACE")
    return {name: os.environ[name] for name in kept if name in os.environ}


class Process:
    """One process of the program; everything that it prints is kept."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str], folder: pathlib.Path) -> None:
        self.name = name
        folder.mkdir(parents=True, exist_ok=True)
        self._output = ""
        self._grown = threading.Condition()
        home = folder / "home"
        home.mkdir(exist_ok=True)
        assert PROGRAM.exists(), f"{PROGRAM} is missing: run `cargo build --locked` first"
        self._process = subprocess.Popen(
            [PROGRAM, *arguments],
            env={**free_of_settings(), "HOME": str(home), **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, name=f"read {name}", daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        with self._grown:
            return self._output

    def until(self, pattern: str) -> re.Match[str]:
        """Waits until the output matches; the end of the process, or of patience, is a failure that shows the output."""
        limit = time.monotonic() + START_LIMIT
        with self._grown:
            while not (found := re.search(pattern, self._output)):
                left = limit - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    raise AssertionError(f"{self.name} did not print /{pattern}/, but:\n{self._output}")
                self._grown.wait(min(left, 0.5))
            return found

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> int:
        """Ends the process, and says how it ended."""
        if self._process.poll() is None:
            self._process.send_signal(with_signal)
        try:
            code = self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"{self.name} did not stop in {STOP_LIMIT} s:\n{self.output}") from None
        self._reader.join(5)
        return code

    def kill(self) -> None:
        """The process gets no chance to tidy up."""
        self.stop(signal.SIGKILL)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            with self._grown:
                self._output += line.decode(errors="replace")
                self._grown.notify_all()
        with self._grown:
            self._grown.notify_all()


class Emulator:
    """`wheelport emulate`."""

    def __init__(self, folder: pathlib.Path, *flags: str, public_index: str | None = None, ports: tuple[int, int] = (0, 0)) -> None:
        self._folder = folder
        public = ["--public-index", public_index] if public_index else ["--no-public-index"]
        self._process = Process(
            "emulate",
            [
                "emulate", "--listen", f"127.0.0.1:{ports[0]}", "--control-listen", f"127.0.0.1:{ports[1]}",
                "--dir", str(folder / "store"), "--domain", DOMAIN, "--domain-owner", OWNER,
                "--repository", REPOSITORY, "--no-seed", *public, *flags,
            ],
            {},
            folder,
        )  # fmt: skip
        # The last line of the banner: everything before it is then printed too.
        self._process.until(r"aws codeartifact login")
        output = self._process.output
        self.data = re.search(rf"data plane\s+{ADDRESS}", output)[1]
        self.control = re.search(rf"control plane\s+{ADDRESS}", output)[1]
        self.exported = dict(re.findall(r"\b(AWS_\w+)=(\S+)", output))
        self._token: str | None = None

    @property
    def endpoint(self) -> str:
        """The repository's endpoint, with its final slash."""
        return f"{self.data}/pypi/{REPOSITORY}/"

    @property
    def ports(self) -> tuple[int, int]:
        data, control = (urllib.parse.urlsplit(url).port for url in (self.data, self.control))
        assert data and control
        return data, control

    def codeartifact(self):
        """A boto3 client of the control plane."""
        return boto3.client(
            "codeartifact",
            endpoint_url=self.control,
            region_name=self.exported["AWS_REGION"],
            aws_access_key_id=self.exported["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.exported["AWS_SECRET_ACCESS_KEY"],
            config=botocore.config.Config(retries={"max_attempts": 1}),
        )

    def token(self) -> str:
        """A token for the data plane."""
        if self._token is None:
            answer = self.codeartifact().get_authorization_token(domain=DOMAIN, domainOwner=OWNER)
            self._token = answer["authorizationToken"]
        return self._token

    def index_with_credentials(self) -> str:
        """The index as its users have to write it without a proxy."""
        address = self.data.removeprefix("http://")
        return f"http://aws:{self.token()}@{address}/pypi/{REPOSITORY}/simple/"

    def upload(self, *distributions: Distribution) -> None:
        """Publishes files as twine does."""
        for distribution in distributions:
            fields = {
                ":action": "file_upload",
                "protocol_version": "1",
                "metadata_version": "2.2",
                "name": distribution.name,
                "version": distribution.version,
                "filetype": distribution.filetype,
                "pyversion": "py3" if distribution.filetype == "bdist_wheel" else "source",
                "sha256_digest": distribution.sha256,
            }
            if distribution.requires_python:
                fields["requires_python"] = distribution.requires_python
            body, content_type = form(fields, distribution)
            request = urllib.request.Request(
                self.endpoint, body, {"Content-Type": content_type, "Authorization": basic("aws", self.token())}
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert answer.status == 200, answer.status

    def set(self, **oddities: object) -> None:
        """Turns switches."""
        self._admin("POST", "oddities", oddities)

    def stats(self) -> dict[str, object]:
        """What was asked for so far."""
        return self._admin("GET", "stats")

    def requests(self, kind: str) -> int:
        """How often one kind of thing was asked for since the last `forget`."""
        return self.stats()["requests"].get(kind, 0)

    def forget(self) -> None:
        """Resets the count."""
        self._admin("DELETE", "stats")

    def shift_clock(self, seconds: int) -> None:
        """Moves the emulator's calendar; tokens age with it."""
        self._admin("POST", "clock", {"shift_seconds": seconds})

    def revoke_tokens(self) -> None:
        """From now on every token issued so far is refused."""
        self._token = None
        self._admin("DELETE", "tokens")

    def stop(self) -> None:
        self._process.stop()

    def _admin(self, method: str, what: str, body: object = None) -> dict[str, object]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.data}/_emulator/{what}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {what}: {error.code} {error.read().decode()}") from None


class Proxy:
    """`wheelport serve` in front of an emulator, configured by environment alone, as a container is."""

    def __init__(self, folder: pathlib.Path, emulator: Emulator, **environment: str) -> None:
        self._folder = folder
        self.cache = folder / "cache"
        self.environment = {
            "AWS_ENDPOINT_URL_CODEARTIFACT": emulator.control,
            "AWS_ENDPOINT_URL_STS": emulator.control,
            "AWS_EC2_METADATA_DISABLED": "true",
            **{name: emulator.exported[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")},
            "WHEELPORT_LISTEN": "127.0.0.1:0",
            "WHEELPORT_OPS_LISTEN": "127.0.0.1:0",
            "WHEELPORT_DOMAIN": DOMAIN,
            "WHEELPORT_DOMAIN_OWNER": OWNER,
            "WHEELPORT_REPOSITORY": REPOSITORY,
            "WHEELPORT_CACHE_DIR": str(self.cache),
            **environment,
        }
        self.start()

    def start(self) -> None:
        self._process = Process("serve", ["serve"], self.environment, self._folder)
        self.origin = self._process.until(rf"listens on {ADDRESS}")[1]
        self.operations = self._process.until(rf"operations on {ADDRESS}")[1]
        # The next start has to find the same addresses: clients and lock files hold them.
        self.environment["WHEELPORT_LISTEN"] = self.origin.partition("://")[2]
        self.environment["WHEELPORT_OPS_LISTEN"] = self.operations.removeprefix("http://")
        wait_for(lambda: get(f"{self.operations}/healthz")[0] == 200, "the proxy answers")

    @property
    def index(self) -> str:
        return f"{self.origin}/simple/"

    @property
    def output(self) -> str:
        return self._process.output

    def until(self, pattern: str) -> re.Match[str]:
        """Waits until the log matches; lines are written a moment after what they tell of."""
        return self._process.until(pattern)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        wait_for(lambda: get(f"{self.operations}/readyz")[0] == 200, "the proxy is ready")

    def answered(self, **labels: str) -> int:
        """How many requests with these labels (`kind`, `status`, `served`) it has responded to, by its own count."""
        status, body = get(f"{self.operations}/metrics")
        assert status == 200, status
        total = 0
        for line in body.decode().splitlines():
            found = re.match(r"wheelport_requests_total\{(.*)\} (\d+)", line)
            if found:
                fields = dict(re.findall(r'(\w+)="([^"]*)"', found[1]))
                if all(fields.get(name) == value for name, value in labels.items()):
                    total += int(found[2])
        return total

    def stop(self) -> int:
        return self._process.stop()

    def kill(self) -> None:
        self._process.kill()

    def start_with(self, configuration: str) -> None:
        """Restarts with a configuration file in addition to the environment."""
        path = self._folder / "wheelport.toml"
        path.write_text(configuration)
        self.environment["WHEELPORT_CONFIG"] = str(path)
        self.start()

    def restart(self) -> None:
        """A clean end and a new start with the same cache and address."""
        self.stop()
        self.start()


class World:
    """Emulator and proxy together, stopped together."""

    def __init__(self, folder: pathlib.Path, *flags: str, public_index: str | None = None, **environment: str) -> None:
        self.folder = folder
        self.emulator = Emulator(folder / "emulator", *flags, public_index=public_index)
        try:
            self.proxy = Proxy(folder / "proxy", self.emulator, **environment)
            self.proxy.wait_until_ready()
        except BaseException:
            self.emulator.stop()
            raise

    def close(self) -> None:
        try:
            self.proxy.stop()
        finally:
            self.emulator.stop()


def get(url: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of one GET; no connection is status 0."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (urllib.error.URLError, ConnectionError, http.client.HTTPException):
        return 0, b""


def wait_for(holds: Callable[[], bool], what: str, limit: float = START_LIMIT) -> None:
    """Looks again and again until something holds."""
    end = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < end, f"it did not come to pass in {limit} s that {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def in_background(work: Callable[[], Result]) -> Iterator[concurrent.futures.Future[Result]]:
    """Runs something beside the body of the block; the block's end waits for it."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(work)
        yield future
        future.result()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def form(fields: dict[str, str], distribution: Distribution) -> tuple[bytes, str]:
    """A multipart form with the file at its end."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{distribution.filename}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n".encode()
    )
    return b"".join([*parts, distribution.data, f"\r\n--{boundary}--\r\n".encode()]), (
        f"multipart/form-data; boundary={boundary}"
    )
