"""The programs that the tests of `deploy/` run."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from collections.abc import Callable

import pytest

import install_tools

ROOT = install_tools.ROOT
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
CHART = KUBERNETES / "chart"
HERE = pathlib.Path(__file__).resolve().parent
REQUIRED = os.environ.get("WHEELPORT_DEPLOY_TOOLS") == "required"


def tool(name: str) -> str:
    """Where it is; without it the test is skipped, or fails where every tool is required."""
    found = shutil.which(name, path=f"{install_tools.HOME / 'bin'}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        (pytest.fail if REQUIRED else pytest.skip)(f"{name} is not installed")
    assert found is not None
    return found


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
