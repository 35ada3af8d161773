"""Health check, shell completions and man pages of the built program."""

from __future__ import annotations

import pathlib

import pytest

from tools import output, tool
from world import World

CHECKS = {"bash": "wheelport.bash", "zsh": "_wheelport", "fish": "wheelport.fish"}


def test_health_check_of_a_running_server(program: pathlib.Path, served: World) -> None:
    listen = served.proxy.origin.removeprefix("http://")
    for arguments in (["--listen", listen], ["--listen", listen, "--ready"], ["--url", f"{served.proxy.operations}/readyz"]):
        assert output(program, "healthcheck", *arguments) == ""
    told = output(program, "healthcheck", "--url", f"{served.proxy.origin}/simple/no-such-project/", check=lambda code: code == 1)
    assert "404" in told
    output(program, "healthcheck", "--url", "ftp://127.0.0.1/", check=lambda code: code == 2)


@pytest.mark.parametrize("shell", CHECKS)
def test_shells_take_the_completions(shell: str, program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    output(program, "generate", "completions", "--dir", tmp_path)
    path = tmp_path / CHECKS[shell]
    assert output(program, "generate", "completions", shell) == path.read_text()
    output(tool(shell), "-n", path)


def test_bash_completes(program: pathlib.Path) -> None:
    script = """
        source <("$1" generate completions bash)
        COMP_WORDS=(wheelport serve --cache-m); COMP_CWORD=2
        _wheelport wheelport --cache-m serve
        echo "${COMPREPLY[@]}"
    """
    assert output(tool("bash"), "-c", script, "bash", program).strip() == "--cache-max-size"


def test_man_pages_are_clean(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    output(program, "generate", "man", "--dir", tmp_path)
    pages = sorted(tmp_path.glob("*.1"))
    assert {"wheelport.1", "wheelport-serve.1", "wheelport-cache-verify.1"} <= {page.name for page in pages}
    assert not [page for page in pages if "generate" in page.name], "hidden commands stay hidden"
    for page in pages:
        output(tool("mandoc"), "-T", "lint", "-W", "error", page)
    plain = output(tool("mandoc"), "-T", "man", tmp_path / "wheelport-serve.1")
    assert "WHEELPORT_DOMAIN" in plain, "the environment is described"
