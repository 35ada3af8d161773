"""Runs one of the installed servers on a port of the loopback address for as long as its standard input is open: a free
port, or the one that is given.

Prints `PORT PID` when the server listens. The test that starts this holds the other end of the pipe, so the server ends
with the test's process, however that ends.
"""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import install

DEADLINE = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(name: str, port: int, folder: pathlib.Path) -> tuple[list[str], dict[str, str]]:
    bin_dir = install.HOME / name / "bin"
    if name == "ministack":
        settings = {
            "GATEWAY_PORT": str(port),
            "BIND_HOST": "127.0.0.1",
            "S3_PERSIST": "0",
            "S3_DATA_DIR": str(folder / "s3"),
            "DOCKER_HOST": f"unix://{folder}/none.sock",
        }
        return [str(bin_dir / "ministack")], settings
    if name == "moto":
        return [str(bin_dir / "moto_server"), "-H", "127.0.0.1", "-p", str(port)], {}
    if name == "valkey":
        server = next((install.HOME / name).rglob("valkey-server"))
        return [str(server), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)], {}
    if name == "localbucket":
        return [str(bin_dir / "localbucket"), str(folder / "buckets"), "--port", str(port)], {}
    if name == "fauxqs":
        script = pathlib.Path(__file__).resolve().parent / "fauxqs.mjs"
        return ["node", str(script), str(install.HOME / name), str(port)], {}
    raise SystemExit(f"no such server: {name}")


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("the server does not listen")


def main(name: str, port: int) -> int:
    if install.main([name]) != 0:
        return 1
    with tempfile.TemporaryDirectory(prefix="wheelport-fleet-") as folder:
        port = port or free_port()
        arguments, settings = command(name, port, pathlib.Path(folder))
        environment = {**os.environ, "HOME": folder, "TMPDIR": folder, **settings}
        log = open(pathlib.Path(folder) / "log", "wb")
        server = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=environment
        )
        try:
            wait_for(port, server)
            print(port, server.pid, flush=True)
            sys.stdin.buffer.read()
        finally:
            # A server that a test has stopped has to go on to end.
            server.send_signal(signal.SIGCONT)
            server.kill()
            server.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
