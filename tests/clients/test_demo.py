"""`wheelport demo` prints lines to paste; here they are pasted."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

import pytest

from clients import PIP, Bench, Installed, project_table, tool
from world import Process

LINE = re.compile(r"^  (pip|uv|poetry|pdm) +(\S.*)$", re.MULTILINE)
POETRY_NEEDS = "\n[tool.poetry]\npackage-mode = false\n"
PDM_NEEDS = "\n[tool.pdm]\ndistribution = false\n"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The printed line of each tool, while the demo runs."""
    demo = Process("demo", ["demo", "--listen", "127.0.0.1:0"], {}, tmp_path_factory.mktemp("demo"))
    try:
        demo.until("Ctrl-C")
        yield dict(LINE.findall(demo.output))
    finally:
        assert demo.stop() == 0


@pytest.mark.parametrize("name", ["pip", "uv", "poetry", "pdm"])
def test_each_printed_line_installs_the_sample_package(name: str, lines: dict[str, str], bench: Bench) -> None:
    folder = bench.place("project")
    table = project_table(()) + {"poetry": POETRY_NEEDS, "pdm": PDM_NEEDS}.get(name, "")
    (folder / "pyproject.toml").write_text(table)
    environment = bench.new_environment(folder / ".venv")
    pasted(bench, folder, environment, name, lines[name])
    assert {"wheelport-hello", "wheelport-greeting"} <= Installed(environment, "").versions.keys()


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
