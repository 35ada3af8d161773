"""What the tests of `deploy/` may ask for: the program, and a world in which it serves. At the end, what this machine lacked."""

from __future__ import annotations

import collections
import pathlib
import sys
from collections.abc import Iterator

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "clients"))

from tools import NOT_TRIED, binary  # noqa: E402: the path has to be known first
from wheels import wheel  # noqa: E402
from world import World  # noqa: E402


@pytest.fixture(scope="session")
def program() -> pathlib.Path:
    """The built program."""
    return binary()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An emulator with one package, and a proxy in front of it."""
    world = World(tmp_path_factory.mktemp("world"))
    world.emulator.upload(wheel("wheelport-hello", "1.1.0"))
    yield world
    world.close()


class Scheduling(LoadScopeScheduling):
    """Every test goes to whichever worker is free, but those of Terraform stay together, and first: their world takes long to make.
    Those of the site stay together, too: they share a browser."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file.endswith(("/test_terraform.py", "/test_site.py")) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Skipped tests are easily overlooked, so each reason is told in a place of its own."""
    reasons: collections.Counter[str] = collections.Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if NOT_TRIED in reason:
            reasons[reason.partition(NOT_TRIED)[2]] += 1
    if reasons:
        terminalreporter.section("NOT TRIED ON THIS MACHINE", sep="!", red=True, bold=True)
        for reason, tests in sorted(reasons.items()):
            terminalreporter.line(f"{reason}: {tests} test{'s' if tests > 1 else ''} left out")
