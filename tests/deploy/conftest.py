"""What the tests of `deploy/` may ask for: the program, and a world in which it serves."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "clients"))

from wheels import wheel  # noqa: E402
from world import PROGRAM, World  # noqa: E402: the path has to be known first


@pytest.fixture(scope="session")
def program() -> pathlib.Path:
    """The built program."""
    assert PROGRAM.exists(), f"{PROGRAM} is missing: run `cargo build --locked` first"
    return PROGRAM


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An emulator with one package, and a proxy in front of it."""
    world = World(tmp_path_factory.mktemp("world"))
    world.emulator.upload(wheel("wheelport-hello", "1.1.0"))
    yield world
    world.close()
