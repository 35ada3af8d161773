"""Certificates as openssl and curl see them: which one a server name gets, what a renewal changes, and health over TLS."""

from __future__ import annotations

import pathlib
import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from world import PROGRAM, Process, free_of_settings

LIMIT = 30.0


class Authority:
    """Makes certificates with openssl."""

    def __init__(self, folder: pathlib.Path) -> None:
        folder.mkdir()
        self.folder, self.certificate, self._key = folder, folder / "ca.pem", folder / "ca.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "30",
                "-subj", "/CN=An authority of a test", "-keyout", self._key, "-out", self.certificate)  # fmt: skip

    def issue(self, name: str, certificate: pathlib.Path, key: pathlib.Path, *kind: str, uri: str | None = None) -> None:
        """A certificate for one name, with a key of this kind, in place of what is there."""
        names = f"subjectAltName=DNS:{name}" + (f",URI:{uri}" if uri else "")
        kind = kind or ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
        new_key, new_certificate = key.with_suffix(".new-key"), certificate.with_suffix(".new")
        openssl("req", "-x509", *kind, "-noenc", "-days", "30", "-subj", f"/CN={name}", "-addext", names,
                "-addext", "basicConstraints=critical,CA:FALSE", "-CA", self.certificate, "-CAkey", self._key,
                "-keyout", new_key, "-out", new_certificate)  # fmt: skip
        new_key.rename(key)
        new_certificate.rename(certificate)


def openssl(*arguments: str | pathlib.Path, stdin: str = "") -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Served:
    """A running server with three certificates, one of them with an RSA key."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.authority = Authority(folder / "ca")
        self.pairs = {name: (folder / f"{name}.crt", folder / f"{name}.key") for name in ("default.test", "a.test", "b.test")}
        self.authority.issue("default.test", *self.pairs["default.test"])
        self.authority.issue("a.test", *self.pairs["a.test"])
        self.authority.issue("b.test", *self.pairs["b.test"], "-newkey", "rsa:2048")
        table = "[server]\nallowed_hosts = ['*']\n[server.tls]\ncertificate = '{}'\nkey = '{}'\n".format(*self.pairs["default.test"])
        for name in ("a.test", "b.test"):
            table += "[[server.tls.certificate_for]]\ncertificate = '{}'\nkey = '{}'\n".format(*self.pairs[name])
        configuration = folder / "wheelport.toml"
        configuration.write_text(table)
        environment = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
        arguments = ["serve", "--config", str(configuration), "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--domain", "acme",
                     "--repository", "python", "--cache-dir", str(folder / "cache")]  # fmt: skip
        self.process = Process("serve", arguments, environment, folder / "serve")
        self.port = self.process.until(r"listens on https://127\.0\.0\.1:(\d+)")[1]

    def serial(self, *name: str) -> str:
        """The serial number of the certificate that openssl is shown, and the name on it."""
        shown = openssl("s_client", "-connect", f"127.0.0.1:{self.port}", *(("-servername", *name) if name else ("-noservername",)))
        return openssl("x509", "-noout", "-subject", "-serial", stdin=shown)

    def curl(self, name: str, *more: str) -> subprocess.CompletedProcess[str]:
        command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", str(self.authority.certificate),
                   "--resolve", f"{name}:{self.port}:127.0.0.1", *more, f"https://{name}:{self.port}/healthz"]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("tls"))
    yield served
    assert served.process.stop() == 0


def test_the_server_name_chooses_the_certificate(served: Served) -> None:
    assert "default.test" in served.serial()
    assert "default.test" in served.serial("unknown.test")
    assert "a.test" in served.serial("a.test") and "b.test" in served.serial("b.test")
    for version in ("1.2", "1.3"):
        for name in ("default.test", "a.test", "b.test"):
            answered = served.curl(name, "--tls-max", version, f"--tlsv{version}")
            assert answered.stdout == "alive\n", answered
    assert served.curl("unknown.test").returncode == 60, "curl verifies the name"
    assert served.curl("a.test", "--tls-max", "1.1", "--tlsv1.0").returncode == 35, "old versions are not spoken"


def test_a_renewed_certificate_is_shown_without_a_restart(served: Served) -> None:
    before, other = served.serial("a.test"), served.serial("b.test")
    served.authority.issue("a.test", *served.pairs["a.test"], "-newkey", "rsa:2048")
    deadline = time.monotonic() + LIMIT
    while served.serial("a.test") == before:
        assert time.monotonic() < deadline, served.process.output
        time.sleep(0.2)
    assert served.serial("b.test") == other
    assert served.curl("a.test").stdout == "alive\n"


def test_the_health_check_speaks_tls_where_there_is_a_certificate(served: Served) -> None:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [PROGRAM, "healthcheck", "--listen", f"127.0.0.1:{served.port}", *arguments]
        return subprocess.run(command, env={**free_of_settings(), **environment}, capture_output=True, text=True, timeout=LIMIT)

    assert run("--tls").returncode == 0
    assert run(WHEELPORT_TLS_CERTIFICATE=str(served.pairs["a.test"][0])).returncode == 0
    plain = run()
    assert plain.returncode == 1 and "This port speaks HTTPS" in plain.stdout, plain


def test_check_judges_the_certificates(served: Served, tmp_path: pathlib.Path) -> None:
    environment = {**free_of_settings(), "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": "eu-central-1"}
    command = [PROGRAM, "check", "--domain", "acme", "--repository", "python", "--cache-dir", tmp_path / "cache",
               "--tls-certificate", served.pairs["b.test"][0], "--tls-key", served.pairs["b.test"][1], "--public-url", "https://c.test/"]  # fmt: skip
    report = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120).stdout
    assert re.search(r"b\.test\.crt: for b\.test, 29 days left", report), report
    assert "no certificate is for c.test, which public_url names" in report, report
