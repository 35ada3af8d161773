"""What every client test may ask for. The clients themselves are installed beforehand, by `install.py`."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Iterator

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from clients import Bench  # noqa: E402: the path has to be known first
from public_index import PublicIndex  # noqa: E402
from world import World  # noqa: E402


@pytest.fixture
def bench(tmp_path: pathlib.Path) -> Bench:
    """Home, caches and projects of one user who has never installed anything."""
    return Bench(tmp_path / "bench")


@pytest.fixture
def begin(tmp_path: pathlib.Path) -> Iterator[Callable[..., World]]:
    """Begins a world with switches of its own; it ends with the test."""
    worlds: list[World] = []

    def begin(*flags: str, **settings: str) -> World:
        worlds.append(World(tmp_path / f"world-{len(worlds)}", *flags, **settings))
        return worlds[-1]

    yield begin
    for world in worlds:
        world.close()


@pytest.fixture
def world(begin: Callable[..., World]) -> World:
    """The service on a good day, without a public index."""
    return begin()


@pytest.fixture
def public_index() -> Iterator[PublicIndex]:
    """An empty public registry."""
    with PublicIndex() as index:
        yield index
