"""Questions beside page and file that some tools ask."""

from __future__ import annotations

import pytest

from clients import PIP, PIP_TOOLS, PIPENV, Bench
from wheels import sdist, wheel
from world import REPOSITORY, World


@pytest.mark.parametrize("below", ["", f"/pypi/{REPOSITORY}"], ids=["default", "routed"])
def test_pip_tools_gets_hashes_without_downloading_files(below: str, world: World, bench: Bench) -> None:
    files = [wheel("acme.core", "1.0+cpu"), sdist("acme.core", "1.0+cpu")]
    world.emulator.upload(*files)
    index = f"{world.proxy.origin}{below}/simple/"
    compiled = PIP_TOOLS.compile(bench, index, "acme-core", options=("--generate-hashes",))
    for file in files:
        assert f"--hash=sha256:{file.sha256}" in compiled
    # Its resolver takes the wheel that it chooses; no file more is needed.
    assert world.proxy.answered(kind="file") == 1


def test_pipenv_locks_the_hashes_of_all_files(world: World, bench: Bench) -> None:
    files = [wheel("acme-core", "1.0"), sdist("acme-core", "1.0")]
    world.emulator.upload(*files)
    lock = PIPENV.lock(bench, world.proxy.index, "acme-core")
    assert set(lock["default"]["acme-core"]["hashes"]) == {f"sha256:{file.sha256}" for file in files}


def test_pip_lists_the_versions_of_a_project(world: World, bench: Bench) -> None:
    world.emulator.upload(*(wheel("acme-core", version) for version in ("1.0", "1.10", "1.9")))
    python = bench.new_environment() / "bin" / "python"
    done = PIP.run(bench, python, "index", "versions", "acme-core", "--index-url", world.proxy.index)
    assert "Available versions: 1.10, 1.9, 1.0" in done.stdout


def test_pip_sees_that_an_installed_package_is_outdated(world: World, bench: Bench) -> None:
    world.emulator.upload(wheel("acme-core", "1.0"), wheel("acme-core", "1.1"))
    installed = PIP.install(bench, world.proxy.index, "acme-core==1.0")
    python = installed.environment / "bin" / "python"
    done = PIP.run(bench, python, "list", "--outdated", "--index-url", world.proxy.index, "--path", *installed.sites)
    assert "acme-core" in done.stdout and "1.1" in done.stdout
