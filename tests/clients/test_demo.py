"""`wheelport demo` prints lines to paste; here they are pasted."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

import pytest

import publish
from clients import PIP, Bench, Installed, project_table, tool
from wheels import sdist, wheel
from world import Process

LINE = re.compile(r"^  (pip|uv|poetry|pdm|twine) +(\S.*)$", re.MULTILINE)
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
    assert "2.0.0 was released by mistake; use 1.1.0." in done.stdout + done.stderr
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


def pasted(bench: Bench, folder: pathlib.Path, environment: pathlib.Path, name: str, line: str) -> None:
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
    )
