"""Lock files: the same through the proxy as straight at CodeArtifact, good for years, and portable between the two."""

from __future__ import annotations

import pytest

from clients import PDM, POETRY, UV, Bench, toml_packages
from wheels import Distribution, sdist, wheel
from test_commands import run
from world import REPOSITORY, World, get

ROOT = "acme-app"


def family() -> list[Distribution]:
    return [
        wheel("acme-app", "1.0", requires=("acme-core>=1", "acme.colour==2.0+cpu")),
        sdist("acme-app", "1.0", requires=("acme-core>=1", "acme.colour==2.0+cpu")),
        wheel("acme-core", "1.0"),
        wheel("acme-core", "1.5"),
        wheel("acme.colour", "2.0+cpu"),
    ]


def routed(world: World) -> str:
    """The proxy's index below CodeArtifact's own path."""
    return f"{world.proxy.origin}/pypi/{REPOSITORY}/simple/"


def without_content_hash(lock: str) -> str:
    """The lock without poetry's hash of the project file, in which the index is named."""
    return "\n".join(line for line in lock.splitlines() if not line.startswith("content-hash"))


def test_uv_writes_the_same_lock_through_the_proxy_as_without(world: World, bench: Bench) -> None:
    world.emulator.upload(*family())
    straight = UV.lock(bench, world.emulator.index_with_credentials(), ROOT)
    through = UV.lock(bench, routed(world), ROOT)
    assert through.replace(world.proxy.origin, world.emulator.data) == straight
    (file,) = toml_packages(through)["acme-core"]["wheels"]
    assert {"url", "hash", "size", "upload-time"} <= file.keys()


def test_poetry_writes_the_same_lock_through_the_proxy_as_without(world: World, bench: Bench) -> None:
    world.emulator.upload(*family())
    straight = POETRY.lock(bench, f"{world.emulator.endpoint}simple/", ROOT, password=world.emulator.token())
    through = POETRY.lock(bench, routed(world), ROOT)
    assert without_content_hash(through.replace(world.proxy.origin, world.emulator.data)) == without_content_hash(straight)
    assert set(toml_packages(through)) == {"acme-app", "acme-core", "acme-colour"}


def test_uv_syncs_a_lock_though_nobody_ever_asked_for_a_page(world: World, bench: Bench) -> None:
    """A lock made at CodeArtifact itself works after nothing but scheme and host have been replaced in it."""
    world.emulator.upload(*family())
    lock = UV.lock(bench, world.emulator.index_with_credentials(), ROOT)
    moved = lock.replace(world.emulator.data, world.proxy.origin)
    other_user = Bench(bench.folder / "other")
    installed = UV.sync(other_user, routed(world), moved, ROOT)
    assert installed.versions == {"acme-app": "1.0", "acme-core": "1.5", "acme-colour": "2.0+cpu"}
    assert world.proxy.answered(kind="page") == 0


def test_a_lock_made_through_the_proxy_works_without_it(world: World, bench: Bench) -> None:
    world.emulator.upload(*family())
    lock = UV.lock(bench, routed(world), ROOT)
    world.proxy.stop()
    moved = lock.replace(world.proxy.origin, world.emulator.data)
    other_user = Bench(bench.folder / "other")
    installed = UV.sync(other_user, world.emulator.index_with_credentials(), moved, ROOT)
    assert installed.versions == {"acme-app": "1.0", "acme-core": "1.5", "acme-colour": "2.0+cpu"}


def exported(bench: Bench, index: str, kind: str) -> str:
    """What uv makes of a lock for tools that do not read it."""
    UV.lock(bench, index, ROOT)
    folder = next(bench.folder.rglob("uv.lock")).parent
    return UV.run(bench, "export", "--frozen", "--no-emit-project", "--format", kind, cwd=folder, UV_NO_CONFIG="0").stdout


@pytest.mark.parametrize("name", ["uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "requirements.txt"])
def test_what_a_lock_names_is_there_before_a_client_asks(name: str, world: World, bench: Bench) -> None:
    world.emulator.upload(*family())
    index = routed(world)
    lock = {
        "uv.lock": lambda: UV.lock(bench, index, ROOT),
        "poetry.lock": lambda: POETRY.lock(bench, index, ROOT),
        "pdm.lock": lambda: PDM.lock(bench, index, ROOT),
        "pylock.toml": lambda: exported(bench, index, "pylock.toml"),
        "requirements.txt": lambda: exported(bench, index, "requirements.txt"),
    }[name]()
    # Nothing is left of what the lock made the proxy fetch.
    world.proxy.stop()
    assert run(world, "cache", "clear").returncode == 0
    world.proxy.start()
    path = world.folder / name
    path.write_text(lock)
    done = run(world, "cache", "warm", str(path), "--route", REPOSITORY)
    assert done.returncode == 0, done.stdout + done.stderr
    fetched = {line.removeprefix("fetched: ") for line in done.stdout.splitlines() if line.startswith("fetched: ")}
    locked = [file for file in family() if (file.project, file.version) != ("acme-core", "1.0")]
    assert fetched == {file.filename for file in locked}, lock
    world.emulator.stop()
    for file in locked:
        status, body = get(f"{index}{file.project}/{file.version}/{file.filename}")
        assert (status, body) == (200, file.data)


def test_what_cannot_be_fetched_is_named(world: World, bench: Bench) -> None:
    world.emulator.upload(*family())
    path = world.folder / "uv.lock"
    path.write_text(UV.lock(bench, routed(world), ROOT).replace("acme_core-1.5-py3", "acme_core-9.9-py3"))
    done = run(world, "cache", "warm", str(path), "--route", REPOSITORY)
    assert done.returncode == 1, done.stdout
    assert "failed: acme_core-9.9-py3-none-any.whl of acme-core: the index does not list it" in done.stdout
