"""Warm responses over TLS, beside nginx with the same certificate in the same run."""

import os
import shutil
import subprocess
import urllib.request
from pathlib import Path

import data
import paths
from load import Request
from paths import GZIP, JSON, Path_, Side
from servers import Server, Stage, fresh


def certificate(home: Path) -> tuple[Path, Path]:
    """A throw-away certificate for loopback, and its key. This process trusts it from now on."""
    chain, key = home / "certificate.pem", home / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-out", chain, "-keyout", key]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    os.environ["SSL_CERT_FILE"] = str(chain)
    # The usual opener may have been built before there was anything to trust.
    urllib.request.install_opener(urllib.request.build_opener())
    return chain, key


def warm_paths(
    stage: Stage, origin: Server, control: int, wheels: dict[str, data.Wheel], files: Path, env: dict[str, str]
) -> list[Path_]:
    """What is answered from the cache. nginx has the very same pages and files from us."""
    pair = certificate(fresh(stage.work / "certificate"))
    same = fresh(stage.work / "same-tls")
    options = ["--tls-certificate", pair[0], "--tls-key", pair[1]]
    ours = stage.wheelport(origin.port, control, *options, name="wheelport-tls", env=env, scheme="https")
    paths.same_answers(ours, wheels, same)
    small, large = wheels["wheel-10k"], wheels["wheel-16m"]
    for wheel in (small, large):
        paths.get(ours, f"/{data.PREFIX}/{wheel.project}/", JSON)
        paths.get(ours, wheel.address, {})
    nginx = stage.nginx(stage.stand("same-tls-origin", same, "--gzip", "yes").port, files, pair=pair)

    others = [nginx]
    if shutil.which("h2o"):
        others.append(stage.h2o(same, files, pair))
    else:
        print("h2o is not installed, and left out", flush=True)
    page = f"/{data.PREFIX}/page-75k/"
    asked = [
        ("page 75 KB, gzip, 1 reader", 1, page, GZIP, ""),
        ("page 75 KB, gzip, 32 readers", 32, page, GZIP, ""),
        ("file 10 KB, 32 readers", 32, small.address, {}, ""),
        ("file 16 MB, 1 reader", 1, large.address, {}, "/files"),
        ("file 16 MB, 32 readers", 32, large.address, {}, "/files"),
    ]

    def beside(other: Server, name: str, connections: int, path: str, headers: dict[str, str], below: str) -> Path_:
        sides = Side(ours, Request(path, headers)), Side(other, Request(below + path, headers))
        return Path_(f"TLS, {name}", f"{other.name}, TLS", 0.9, connections, *sides)

    return [beside(other, *each) for each in asked for other in others]
