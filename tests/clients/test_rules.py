"""What package clients do when the newest version is blocked: what docs/POLICY.md says, in the cells that matter."""

from __future__ import annotations

import pathlib
import re

import pytest

from blocked import CLIENTS, REASON, WAYS, Blocked, run
from world import World

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "POLICY.md"
# pdm says nothing but "403 Forbidden", whatever the index says.
SILENT = {"pdm"}


def documented() -> dict[str, dict[str, str]]:
    """The table of docs/POLICY.md: outcomes by client and by way to ask."""
    text = DOCUMENT.read_text()
    head, _, *rows = re.search(r"^(\| client \| unpinned .*\n(?:\|.*\n)+)", text, re.MULTILINE)[1].splitlines()
    ways = [way.strip() for way in head.strip("|").split("|")][1:]
    table = {}
    for row in rows:
        client, *outcomes = (field.strip() for field in row.strip("|").split("|"))
        name = client if client in CLIENTS else client.rsplit(" ", 1)[0]
        table[name] = dict(zip(ways, outcomes, strict=True))
    return table


def test_the_document_names_every_client_and_every_way() -> None:
    table = documented()
    assert list(table) == list(CLIENTS)
    assert all(list(row) == list(WAYS) for row in table.values())


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_steps_back_or_says_why(name: str, world: World, tmp_path: pathlib.Path) -> None:
    blocked, table = Blocked(world), documented()
    for way in ["unpinned", "`==2.0`", "locked with hashes"]:
        cell = run(blocked, CLIENTS[name], way, tmp_path / f"bench-{len(way)}")
        assert cell is not None
        assert cell.outcome == table[name][way], f"{way}: {cell}"
        if way == "unpinned":
            assert cell.version == "1.0"
        else:
            assert cell.code != 0, f"{way}: {cell}"
            assert REASON in cell.sentence or name in SILENT, f"{way}: {cell}"
