"""The commands beside the servers, run as an operator runs them."""

from __future__ import annotations

import json
import subprocess

import pytest

from clients import PIP, Bench
from wheels import wheel
from world import PROGRAM, World, free_of_settings, get


def run(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with the environment that the proxy of this world has."""
    environment = {**free_of_settings(), "HOME": str(world.folder), **world.proxy.environment}
    return subprocess.run(
        [PROGRAM, *arguments], env=environment, cwd=world.folder, capture_output=True, text=True, timeout=60
    )


def test_check_finds_nothing_wrong_and_then_what_is(world: World) -> None:
    done = run(world, "check", "--format", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fail" not in statuses(done.stdout)

    world.emulator.stop()
    done = run(world, "check", "--format", "json")
    assert done.returncode == 1
    assert "fail" in statuses(done.stdout)


def statuses(report: str) -> set[str]:
    """Every value of a key `status`, however deep."""

    def walk(value: object) -> set[str]:
        if isinstance(value, dict):
            own = {value["status"]} if isinstance(value.get("status"), str) else set()
            return own.union(*map(walk, value.values()))
        return set().union(*map(walk, value)) if isinstance(value, list) else set()

    found = walk(json.loads(report))
    assert found, report
    return found


def test_cache_verify_finds_damage_and_the_next_install_heals_it(world: World, bench: Bench) -> None:
    bulky = wheel("bulky", "1.0", padding=50_000)
    world.emulator.upload(bulky)
    PIP.install(bench, world.proxy.index, "bulky")
    world.proxy.stop()
    assert run(world, "cache", "verify").returncode == 0

    (blob,) = [path for path in world.proxy.cache.rglob("*") if path.is_file() and path.stat().st_size >= 50_000]
    damaged = bytearray(blob.read_bytes())
    damaged[1000] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(damaged)
    done = run(world, "cache", "verify")
    assert done.returncode == 1, done.stdout
    assert "1 damaged" in done.stdout

    world.proxy.start()
    status, body = get(f"{world.proxy.index}bulky/1.0/{bulky.filename}")
    assert (status, body) == (200, bulky.data)


@pytest.mark.parametrize(
    ("arguments", "code"), [(["serve", "--no-such-flag"], 2), (["serve", "--listen", "nonsense"], 2), (["--version"], 0)]
)
def test_exit_codes(arguments: list[str], code: int, world: World) -> None:
    assert run(world, *arguments).returncode == code


def test_a_proxy_that_is_asked_to_stop_ends_with_0(world: World) -> None:
    assert world.proxy.stop() == 0
