"""`wheelport demo` prints lines to paste; here they are pasted. With `--tls`, over both versions of TLS."""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Iterator

import pytest

import publish
from clients import PIP, Bench, ClientFailed, Installed, project_table, tool
from wheels import sdist, wheel
from world import Process

LINE = re.compile(r"^  (pip|uv|poetry|pdm|twine) +(\S.*)$", re.MULTILINE)
TRUST = re.compile(r"^  ([a-z, ]+?)  +(\S.*)$", re.MULTILINE)
# For clients on Python's ssl module: the newest version they may speak. uv always speaks the newest there is.
OPENSSL = """openssl_conf = settings
[settings]
ssl_conf = ssl
[ssl]
system_default = limits
[limits]
MaxProtocol = {}
"""
SPOKEN = """
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as plain:
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted:
        print(encrypted.version())
"""
POETRY_NEEDS = "\n[tool.poetry]\npackage-mode = false\n"
PDM_NEEDS = "\n[tool.pdm]\ndistribution = false\n"


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the demo prints, while it runs."""
    demo = Process("demo", ["demo", "--listen", "127.0.0.1:0"], {}, tmp_path_factory.mktemp("demo"))
    try:
        demo.until("Ctrl-C")
        yield demo.output
    finally:
        assert demo.stop() == 0


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the demo prints with TLS, while it runs."""
    demo = Process("demo", ["demo", "--tls", "--listen", "127.0.0.1:0"], {}, tmp_path_factory.mktemp("demo-tls"))
    try:
        demo.until("Ctrl-C")
        yield demo.output
    finally:
        assert demo.stop() == 0


def trusting(text: str, name: str) -> str:
    """The printed lines that let a client trust the demo."""
    found = TRUST.findall(text.split("Let the clients trust it:")[1].split("Try it")[0])
    return " && ".join(line for names, line in found if name in names.replace(" ", "").split(","))


def limited(bench: Bench, printed: str, version: str) -> dict[str, str]:
    """The environment in which Python's clients speak no newer version; Python itself says that it is so."""
    path = bench.place("openssl") / f"{version}.cnf"
    path.write_text(OPENSSL.format(version))
    environment = {"OPENSSL_CONF": str(path)}
    port = re.search(r"https://127\.0\.0\.1:(\d+)", printed)[1]
    authority = re.search(r"PIP_CERT=(\S+)", printed)[1]
    spoken = bench.run([sys.executable, "-c", SPOKEN, port, authority], **environment).stdout.strip()
    assert spoken == version
    return environment


@pytest.mark.parametrize(
    ("name", "version"),
    [("pip", "TLSv1.2"), ("pip", "TLSv1.3"), ("poetry", "TLSv1.2"), ("poetry", "TLSv1.3"), ("pdm", "TLSv1.3"), ("uv", "TLSv1.3")],
)
def test_each_client_installs_over_tls(name: str, version: str, encrypted: str, bench: Bench) -> None:
    lines = dict(LINE.findall(encrypted.split("Try it")[1].split("Publish")[0]))
    assert "https://127.0.0.1:" in lines[name]
    folder = bench.place("project")
    (folder / "pyproject.toml").write_text(project_table(()) + {"poetry": POETRY_NEEDS, "pdm": PDM_NEEDS}.get(name, ""))
    environment = bench.new_environment(folder / ".venv")
    pasted(bench, folder, environment, name, f"{trusting(encrypted, name)} && {lines[name]}", **limited(bench, encrypted, version))
    assert {"wheelport-hello", "wheelport-greeting"} <= Installed(environment, "").versions.keys()


@pytest.mark.parametrize(("name", "version"), [("twine", "TLSv1.2"), ("twine", "TLSv1.3"), ("uv", "TLSv1.3"), ("poetry", "TLSv1.3")])
def test_each_client_publishes_over_tls(name: str, version: str, encrypted: str, bench: Bench) -> None:
    lines = dict(LINE.findall(encrypted.split("Publish")[1]))
    project = f"acme-tls-{name}-{version[-1]}"
    folder = publish.project(bench, (wheel(project, "1.0"), sdist(project, "1.0")))
    line = f"{trusting(encrypted, name)} && {lines[name].replace(' --build', '')}"
    pasted(bench, folder, bench.new_environment(), name, line, **limited(bench, encrypted, version))
    index, authority = re.search(r"--index-url (\S+)", encrypted)[1], re.search(r"PIP_CERT=(\S+)", encrypted)[1]
    python = bench.new_environment() / "bin" / "python"
    PIP.run(bench, python, "install", "--cert", authority, "--index-url", index, project)


def test_who_does_not_trust_the_demo_installs_nothing(encrypted: str, bench: Bench) -> None:
    line = dict(LINE.findall(encrypted.split("Try it")[1].split("Publish")[0]))["pip"]
    folder, environment = bench.place("project"), bench.new_environment()
    with pytest.raises(ClientFailed, match="CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSL"):
        pasted(bench, folder, environment, "pip", line, PIP_RETRIES="0")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl_speaks_the_version_it_is_told(version: str, encrypted: str, bench: Bench) -> None:
    line = next(line for names, line in TRUST.findall(encrypted) if names.strip() == "curl")
    command = f"{line} --silent --show-error --tls-max {version} --tlsv{version} --write-out '%{{http_version}} %{{ssl_verify_result}}'"
    printed = bench.run(["/bin/sh", "-ec", command], cwd=bench.place("curl")).stdout
    assert printed.endswith("1.1 0"), printed


@pytest.mark.parametrize("name", ["pip", "uv", "poetry", "pdm"])
def test_each_printed_line_installs_the_sample_package(name: str, printed: str, bench: Bench) -> None:
    lines = dict(LINE.findall(printed.split("Publish")[0]))
    folder = bench.place("project")
    table = project_table(()) + {"poetry": POETRY_NEEDS, "pdm": PDM_NEEDS}.get(name, "")
    (folder / "pyproject.toml").write_text(table)
    environment = bench.new_environment(folder / ".venv")
    pasted(bench, folder, environment, name, lines[name])
    assert {"wheelport-hello", "wheelport-greeting"} <= Installed(environment, "").versions.keys()


def test_the_blocked_release_explains_itself(printed: str, bench: Bench) -> None:
    index = re.search(r"^  blocked pip install --index-url (\S+) wheelport-hello==2.0.0$", printed, re.MULTILINE)[1]
    python = bench.new_environment() / "bin" / "python"
    done = PIP.run(bench, python, "install", "--index-url", index, "wheelport-hello==2.0.0", check=False)
    assert done.returncode == 1
    assert "2.0.0 was released by mistake; use 1.1.0." in done.stdout
    PIP.run(bench, python, "install", "--index-url", index, "wheelport-hello")
    assert Installed(python.parent.parent, "").versions["wheelport-hello"] == "1.1.0"


@pytest.mark.parametrize("name", ["twine", "uv", "poetry"])
def test_each_printed_line_publishes(name: str, printed: str, bench: Bench) -> None:
    lines = dict(LINE.findall(printed.split("Publish")[1]))
    files = wheel(f"acme-{name}", "1.0"), sdist(f"acme-{name}", "1.0")
    folder = publish.project(bench, files)
    # It is built already; building it again would need a build backend from a public index.
    line = lines[name].replace(" --build", "")
    pasted(bench, folder, bench.new_environment(), name, line)
    python = bench.new_environment() / "bin" / "python"
    index = re.search(r"--index-url (\S+)", printed)[1]
    PIP.run(bench, python, "install", "--index-url", index, f"acme-{name}")


def pasted(bench: Bench, folder: pathlib.Path, environment: pathlib.Path, name: str, line: str, **more: str) -> None:
    """Runs a line in a shell in which the tool is installed and the environment is active."""
    programs = bench.place("bin")
    if name == "pip":
        program = f'#!/bin/sh\nPYTHONPATH={PIP.site()} exec {environment}/bin/python -m pip "$@"\n'
    else:
        program = f'#!/bin/sh\nexec {tool(name, name)} "$@"\n'
    (programs / name).write_text(program)
    (programs / name).chmod(0o755)
    path = f"{programs}:{environment / 'bin'}:{bench.environment()['PATH']}"
    bench.run(
        ["/bin/sh", "-ec", line],
        cwd=folder,
        PATH=path,
        VIRTUAL_ENV=str(environment),
        POETRY_VIRTUALENVS_IN_PROJECT="true",
        PDM_CHECK_UPDATE="false",
        **more,
    )
