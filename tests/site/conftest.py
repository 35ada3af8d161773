"""What the tests of the site may ask for: a repository with tame and hostile projects, a proxy in front of it, and a browser."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "clients"))

import install_browser  # noqa: E402: the path has to be known first
from browser import Browser, chromium  # noqa: E402
from projects import RULES, projects  # noqa: E402
from world import World  # noqa: E402


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An emulator with the sample projects, and a proxy with rules in front of it."""
    folder = tmp_path_factory.mktemp("site")
    configuration = folder / "wheelport.toml"
    configuration.write_text(RULES)
    world = World(folder, WHEELPORT_CONFIG=str(configuration))
    world.emulator.upload(*projects())
    yield world
    world.close()


@pytest.fixture(scope="session")
def window() -> Iterator[Browser]:
    lacking = install_browser.missing()
    if lacking:
        pytest.skip(f"not tried: {'; '.join(lacking)}")
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(window: Browser) -> Browser:
    """The window as a reader has it who has set nothing."""
    window.scripts(True)
    window.open("about:blank")
    window.prefer("light")
    window.size(1280)
    window.errors()
    return window
