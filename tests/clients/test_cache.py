"""What the proxy keeps: metadata instead of wheels, one fetch for all, and an index that outlives CodeArtifact."""

from __future__ import annotations

import hashlib
import urllib.request

import pytest

from clients import PIP, PIP_20, POETRY, UV, Bench, Client
from wheels import wheel
from world import World, get, in_background

NOISE = 20_000_000


@pytest.mark.parametrize(
    "arguments", [("install", "--dry-run"), ("lock", "--output", "pylock.toml")], ids=["dry-run", "lock"]
)
def test_pip_resolves_without_a_single_wheel(arguments: tuple[str, ...], world: World, bench: Bench) -> None:
    world.emulator.upload(wheel("kit", "1.0", requires=("acme-core",)), wheel("acme-core", "1.0"))
    python = bench.new_environment() / "bin" / "python"
    PIP.run(bench, python, *arguments, "--index-url", world.proxy.index, "kit")
    assert world.proxy.answered(kind="metadata", status="200") == 2
    assert world.proxy.answered(kind="file") == 0


def test_uv_resolves_without_a_single_wheel(world: World, bench: Bench) -> None:
    world.emulator.upload(wheel("kit", "1.0", requires=("acme-core",)), wheel("acme-core", "1.0"))
    UV.lock(bench, world.proxy.index, "kit")
    assert world.proxy.answered(kind="metadata", status="200") == 2
    assert world.proxy.answered(kind="file") == 0


def test_two_clients_at_once_fetch_a_cold_file_once(world: World, bench: Bench) -> None:
    world.emulator.upload(wheel("bulky", "1.0", padding=3_000_000))
    world.emulator.forget()
    # Where ranges are honoured, core metadata is one more request.
    world.emulator.set(slow_body=2_000_000, ranges=False)
    other = Bench(bench.folder / "other")
    with in_background(lambda: PIP_20.install(bench, world.proxy.index, "bulky")) as first:
        with in_background(lambda: UV.install(other, world.proxy.index, "bulky")) as second:
            pass
    assert first.result().versions == second.result().versions == {"bulky": "1.0"}
    assert world.emulator.requests("asset") == 1


@pytest.mark.parametrize("client", [PIP_20, PIP, UV, POETRY], ids=repr)
def test_what_was_installed_once_is_there_after_a_restart_without_codeartifact(
    client: Client, world: World, bench: Bench
) -> None:
    world.emulator.upload(wheel("kit", "1.0", requires=("acme-core",)), wheel("acme-core", "1.0"))
    expected = {"kit": "1.0", "acme-core": "1.0"}
    assert client.install(bench, world.proxy.index, "kit").versions == expected
    world.emulator.stop()
    world.proxy.restart()
    newcomer = Bench(bench.folder / "newcomer")
    assert client.install(newcomer, world.proxy.index, "kit").versions == expected


def test_a_warm_cache_asks_codeartifact_for_no_file(world: World, bench: Bench) -> None:
    world.emulator.upload(wheel("kit", "1.0", requires=("acme-core",)), wheel("acme-core", "1.0"))
    PIP.install(bench, world.proxy.index, "kit")
    world.emulator.forget()
    for number, client in enumerate((PIP_20, PIP, UV, POETRY)):
        client.install(Bench(bench.folder / f"user-{number}"), world.proxy.index, "kit")
    assert world.emulator.requests("asset") == 0


def test_a_proxy_that_is_killed_while_it_fetches_leaves_nothing_broken(world: World, bench: Bench) -> None:
    bulky = wheel("bulky", "1.0", padding=NOISE)
    world.emulator.upload(bulky)
    world.emulator.set(slow_body=4_000_000)
    address = f"{world.proxy.index}bulky/1.0/{bulky.filename}"
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert len(answer.read(1_000_000)) == 1_000_000
        world.proxy.kill()
    world.emulator.set(slow_body=0)
    world.proxy.start()
    assert PIP.install(bench, world.proxy.index, "bulky").versions == {"bulky": "1.0"}
    status, body = get(address)
    assert (status, hashlib.sha256(body).hexdigest()) == (200, bulky.sha256)


def test_nothing_known_and_no_codeartifact_is_503_and_never_404(world: World) -> None:
    world.emulator.stop()
    status, body = get(f"{world.proxy.index}acme-core/")
    assert status == 503, body
