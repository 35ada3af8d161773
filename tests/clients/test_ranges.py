"""Core metadata by range: what real installers notice of it, which is nothing."""

from __future__ import annotations

import pytest

from clients import PIP, UV, Bench, Client
from public_index import PublicIndex
from wheels import wheel

PADDING = 200_000

each_reader_of_metadata = pytest.mark.parametrize("client", [PIP, UV], ids=repr)


def publish(public_index: PublicIndex) -> dict[str, str]:
    """Three wheels that are worth reading by range, each needing the next one."""
    names = ["widget", "gadget", "gizmo"]
    for name, needed in zip(names, [*names[1:], None]):
        public_index.add(wheel(name, "1.0", requires=(needed,) if needed else (), padding=PADDING))
    return dict.fromkeys(names, "1.0")


@each_reader_of_metadata
@pytest.mark.parametrize("flags", [(), ("--ranges", "off"), ("--head-range-cold-500", "on")], ids=["on", "off", "cold"])
def test_an_install_with_ranges_without_and_with_refused_ones(
    client: Client, flags: tuple[str, ...], begin, public_index: PublicIndex, bench: Bench
) -> None:
    expected = publish(public_index)
    world = begin(*flags, public_index=public_index.url)
    installed = client.install(bench, world.proxy.index, "widget")
    assert installed.versions == expected
    failed = world.emulator.stats()["statuses"].get("500", 0)
    assert (failed > 0) == ("--head-range-cold-500" in flags), "ranges of cold versions are refused, and only those"


def test_a_lock_moves_no_wheels(begin, public_index: PublicIndex, bench: Bench) -> None:
    expected = publish(public_index)
    world = begin(public_index=public_index.url)
    lock = UV.lock(bench, world.proxy.index, "widget")
    assert all(f'name = "{name}"' in lock for name in expected)
    stats = world.emulator.stats()
    assert stats["asset_bytes"] < PADDING, stats
    assert stats["requests"]["asset"] == len(expected), stats
