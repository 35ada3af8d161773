"""Starts, watches and ends the servers that are compared. Everything listens on loopback only, or on one end of a veth pair."""

import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
# How often a starting server is asked, in seconds: the resolution of start times.
STEP = 0.002


class Void(Exception):
    """A run that does not count, with the reason."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Server:
    """A running server: the process that was started and whatever it started itself."""

    name: str
    process: subprocess.Popen
    port: int
    log: Path
    # Seconds from the start of the process to its first answer.
    started: float = 0.0
    scheme: str = "http"
    host: str = "127.0.0.1"
    # What a command begins with that puts load on it.
    client: tuple[str, ...] = ()

    def tree(self) -> list[int]:
        """The process ids of the server."""
        found, parents = [], [self.process.pid]
        while parents:
            pid = parents.pop()
            found.append(pid)
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            except OSError:
                continue
            parents += [int(child) for child in children]
        return found

    def cpu_seconds(self) -> float:
        total = 0
        for pid in self.tree():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def peak_memory(self) -> int:
        """The most memory that was resident at once, in bytes, summed over the processes."""
        return self._memory("VmHWM")

    def memory(self) -> int:
        return self._memory("VmRSS")

    def _memory(self, what: str) -> int:
        total = 0
        for pid in self.tree():
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            if found := re.search(rf"{what}:\s+(\d+) kB", status):
                total += int(found[1]) * 1024
        return total

    def forget_peak(self) -> None:
        """Begins to watch for the peak again."""
        for pid in self.tree():
            try:
                Path(f"/proc/{pid}/clear_refs").write_text("5")
            except OSError:
                pass

    def stop(self) -> None:
        """Ends the process, and what it started itself and did not end."""
        family = [(pid, born(pid)) for pid in self.tree()]
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        for pid, birth in family:
            if birth is not None and born(pid) == birth:
                os.kill(pid, signal.SIGKILL)

    def url(self, path: str) -> str:
        return f"{self.scheme}://{self.host}:{self.port}{path}"


def born(pid: int) -> str | None:
    """When a process began, which tells it from a later one with the same id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


def leave_with_us() -> None:
    """In a new process: it is told to end when this program ends, however that comes."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def start(
    name: str, command: list, port: int, log: Path, env: dict | None = None, ready: str = "/", scheme: str = "http", **where
) -> Server:
    began = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            preexec_fn=leave_with_us,
        )
    server = Server(name, process, port, log, scheme=scheme, **where)
    wait_for(server, ready)
    server.started = time.monotonic() - began
    return server


def wait_for(server: Server, path: str, patience: float = 60) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            urllib.request.urlopen(server.url(path), timeout=10).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(STEP)
    server.stop()
    raise Void(f"{server.name} does not start: {server.log.read_text(errors='replace')[-1000:]}")


def wait_until_ready(server: Server, patience: float = 30) -> None:
    """Waits until a Wheelport has its token, which its start does not wait for."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(server.url("/readyz"), timeout=10).close()
            return
        except OSError:
            time.sleep(STEP)
    raise Void(f"{server.name} does not become ready")


class Stage:
    """Everything that runs during a comparison; ends it all when left."""

    def __init__(self, work: Path, target: Path, binary: Path):
        self.work, self.target, self.binary = work, target, binary
        self.running: list[Server] = []
        # Where the servers listen that are measured, and where their clients are.
        self.where: dict = {"host": "127.0.0.1", "client": ()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in reversed(self.running):
            try:
                server.stop()
            except OSError as error:
                print(f"{server.name}: {error}", file=sys.stderr)

    def add(self, server: Server) -> Server:
        self.running.append(server)
        return server

    def end(self, server: Server) -> None:
        self.running.remove(server)
        server.stop()

    def stand(self, name: str, directory: Path, *options) -> Server:
        """Nothing but hyper, serving a directory from memory."""
        port = free_port()
        command = [self.target / "stand" / "release" / "stand", "serve", "--dir", directory, "--listen", f"127.0.0.1:{port}"]
        return self.add(start(name, [*command, *options], port, self.work / f"{name}.log"))

    def emulator(self, *options, name: str = "emulator") -> tuple[Server, int]:
        """The emulator, for tokens; with its data plane's port, its control plane's."""
        data, control = free_port(), free_port()
        command = [self.binary, "emulate", "--no-public-index", "--listen", f"127.0.0.1:{data}"]
        command += ["--control-listen", f"127.0.0.1:{control}", *options]
        return self.add(start(name, command, data, self.work / f"{name}.log")), control

    def wheelport(
        self,
        upstream: int,
        control: int,
        *options,
        name: str = "wheelport",
        cache: Path | None = None,
        env: dict | None = None,
        scheme: str = "http",
        config: Path | None = None,
    ) -> Server:
        """With a configuration, which has its route."""
        port = free_port()
        cache = cache or fresh(self.work / f"{name}-cache")
        command = [self.binary, "serve", "--listen", f"{self.where['host']}:{port}", "--cache-dir", cache]
        command += ["--region", "eu-central-1", *options]
        if config:
            command += ["--config", config]
        else:
            command += ["--domain", "demo", "--domain-owner", "111122223333", "--repository", "python"]
            command += ["--endpoint", f"http://127.0.0.1:{upstream}/pypi/python/"]
        keys = {
            "AWS_ENDPOINT_URL_CODEARTIFACT": f"http://127.0.0.1:{control}",
            "AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{control}",
            "AWS_ACCESS_KEY_ID": "AKIAEMULATOR00000000",
            "AWS_SECRET_ACCESS_KEY": "wheelport-emulator-secret-key-0000000000",
            **(env or {}),
        }
        return self.add(start(name, command, port, self.work / f"{name}.log", keys, "/healthz", scheme, **self.where))

    def nginx(
        self, upstream: int, files: Path, access_log: bool = False, pair: tuple[Path, Path] | None = None
    ) -> Server:
        """`/pypi/…` through proxy_cache, `/files/…` straight from disk with sendfile. Over TLS with this certificate and key."""
        port, home = free_port(), fresh(self.work / "nginx")
        config = home / "nginx.conf"
        config.write_text(
            NGINX.format(
                home=home,
                host=self.where["host"],
                port=port,
                upstream=upstream,
                files=files,
                ssl=" ssl" if pair else "",
                certificate=CERTIFICATE.format(*pair) if pair else "",
                log=f"{home}/access.log" if access_log else "off",
                # The workers would give up root's rights, and with them the working directory.
                user="user root;" if os.geteuid() == 0 else "",
            )
        )
        command = ["nginx", "-e", home / "error.log", "-c", config]
        scheme = "https" if pair else "http"
        return self.add(start("nginx", command, port, home / "out.log", scheme=scheme, **self.where))

    def h2o(self, same: Path, files: Path, pair: tuple[Path, Path] | None = None) -> Server:
        """`/pypi/…` from `same`, precompressed where there is a `.gz`, `/files/…` from `files`; both from disk."""
        port, home = free_port(), fresh(self.work / f"h2o{'-tls' if pair else ''}")
        config = home / "h2o.conf"
        ssl = H2O_TLS.format(*pair) if pair else ""
        user = "user: root" if os.geteuid() == 0 else ""
        config.write_text(H2O.format(host=self.where["host"], home=home, port=port, same=same, files=files, ssl=ssl, user=user))
        scheme = "https" if pair else "http"
        command = ["h2o", "-m", "worker", "-c", config]
        return self.add(start("h2o", command, port, home / "out.log", scheme=scheme, **self.where))


H2O = """
{user}
num-threads: 2
pid-file: {home}/pid
error-log: {home}/error.log
http1-request-timeout: 300
listen:
  host: {host}
  port: {port}
{ssl}
hosts:
  default:
    paths:
      /files:
        file.dir: {files}
      /:
        file.dir: {same}
        file.index: ["index.json"]
        file.send-compressed: ON
"""

H2O_TLS = """  ssl:
    certificate-file: {}
    key-file: {}
    minimum-version: TLSv1.2"""

NGINX = """
daemon off;
{user}
worker_processes 2;
worker_rlimit_nofile 8192;
pid {home}/pid;
error_log {home}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  types {{ application/octet-stream whl; }}
  default_type application/octet-stream;
  access_log {log};
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 300;
  keepalive_requests 100000000;
  open_file_cache max=10000 inactive=300s;
  open_file_cache_valid 300s;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  proxy_cache_path {home}/cache levels=1:2 keys_zone=index:50m max_size=5g inactive=1h use_temp_path=off;
  upstream origin {{ server 127.0.0.1:{upstream}; keepalive 32; }}
  server {{
    listen {host}:{port}{ssl} backlog=4096;
    {certificate}
    location /files/ {{ alias {files}/; }}
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Accept-Encoding $http_accept_encoding;
      proxy_cache index;
      proxy_cache_key $uri$http_accept_encoding;
      proxy_cache_valid 200 1h;
      proxy_cache_lock on;
    }}
  }}
}}
"""


CERTIFICATE = """ssl_certificate {};
    ssl_certificate_key {};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:sessions:4m;"""


def fresh(directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory
