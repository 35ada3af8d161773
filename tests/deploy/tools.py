"""The programs that the tests of `deploy/` run, as `install_tools.py` has left them; nothing is installed here."""

from __future__ import annotations

import os
import pathlib
import subprocess
from collections.abc import Callable
from typing import NoReturn

import pytest

import install_tools
from world import PROGRAM

ROOT = install_tools.ROOT
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
CHART = KUBERNETES / "chart"
HERE = install_tools.HERE
# Begins the reason of each test that was left out; `conftest.py` collects them for the end of the run.
NOT_TRIED = "not tried: "


def without(what: str, *, always: bool = False) -> NoReturn:
    """Leaves a test out for what this machine lacks. Where every tool is required it fails, unless no registry has the tool (`always`)."""
    if install_tools.REQUIRED and not always:
        pytest.fail(f"{what}, and every tool is required here (WHEELPORT_DEPLOY_TOOLS, CI)")
    pytest.skip(NOT_TRIED + what)


def tool(name: str) -> str:
    """Where it is; without it the test is left out."""
    return install_tools.find(name) or without(f"{name} is not installed")


def root_rights(what: str) -> None:
    if os.geteuid() != 0:
        without(f"only root may {what}")


def binary() -> pathlib.Path:
    """The built program."""
    assert PROGRAM.exists(), f"{PROGRAM} is missing: run `cargo build --locked` first"
    return PROGRAM.absolute()


def python_environment(name: str) -> pathlib.Path:
    """The folder with the programs of one of the Python environments."""
    if not install_tools.is_python_ready(name):
        without(f"the Python packages of {install_tools.PYTHON[name].name} ({name}) are not installed")
    return install_tools.python_folder(name)


def node_environment() -> pathlib.Path:
    """The folder with the programs of `node/package.json`."""
    if not install_tools.is_node_ready():
        without("the packages of tests/deploy/node are not installed")
    return install_tools.node_folder()


def output(*command: str | pathlib.Path, check: Callable[[int], bool] = lambda code: code == 0, **more: object) -> str:
    """Runs a program and gives what it printed; if it ends otherwise than expected, that is the failure."""
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **more,  # type: ignore[call-overload]
    )
    assert check(done.returncode), f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout
