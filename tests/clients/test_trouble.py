"""Trouble behind the proxy that no client gets to see."""

from __future__ import annotations

import pytest

from clients import DIFFERENT, PIP, PIP_20, POETRY, UV, Bench, Client, ClientFailed
from public_index import PublicIndex
from wheels import wheel
from world import DOMAIN, PROGRAM, REPOSITORY, World, get, in_background, wait_for

MANY = 20

each_different_client = pytest.mark.parametrize("client", DIFFERENT, ids=repr)


def upload_many(world: World) -> str:
    """Twenty packages and one that requires them all, which is returned."""
    names = [f"part-{number:02}" for number in range(MANY)]
    world.emulator.upload(*(wheel(name, "1.0") for name in names), wheel("whole", "1.0", requires=tuple(names)))
    return "whole"


@each_different_client
def test_a_token_that_ends_in_the_middle_of_an_install(client: Client, world: World, bench: Bench) -> None:
    whole = upload_many(world)
    world.emulator.forget()
    world.emulator.set(latency="20ms")
    with in_background(lambda: client.install(bench, world.proxy.index, whole)) as installing:
        wait_for(lambda: world.emulator.requests("page") >= 3, "the install is under way")
        world.emulator.revoke_tokens()
    assert len(installing.result().versions) == MANY + 1
    assert world.emulator.stats()["statuses"].get("401", 0) > 0, "no request met the ended token"


def test_a_token_that_grows_too_old(world: World, bench: Bench) -> None:
    world.emulator.upload(wheel("acme-core", "1.0"), wheel("acme-colour", "1.0"))
    assert UV.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": "1.0"}
    world.emulator.forget()
    world.emulator.shift_clock(13 * 3600)
    assert UV.install(bench, world.proxy.index, "acme-colour").versions == {"acme-colour": "1.0"}
    assert world.emulator.stats()["statuses"].get("401", 0) > 0, "no request met the ended token"


@each_different_client
def test_files_that_are_listed_but_not_imported_yet(
    client: Client, begin, public_index: PublicIndex, bench: Bench
) -> None:
    public_index.add(wheel("widget", "1.0", requires=("gadget",)), wheel("gadget", "1.0"))
    world = begin("--cold-404", "1200ms", public_index=public_index.url)
    installed = client.install(bench, world.proxy.index, "widget")
    assert installed.versions == {"widget": "1.0", "gadget": "1.0"}
    assert world.emulator.stats()["statuses"].get("404", 0) > 0, "no file was cold"


@each_different_client
def test_bursts_of_errors(client: Client, world: World, bench: Bench) -> None:
    whole = upload_many(world)
    world.emulator.forget()
    world.emulator.set(error_burst="1/6", error_status=500)
    assert len(client.install(bench, world.proxy.index, whole).versions) == MANY + 1
    assert world.emulator.stats()["statuses"].get("500", 0) > 0, "nothing failed"


@pytest.mark.parametrize("client", [PIP_20, PIP, UV], ids=repr)
def test_throttling(client: Client, world: World, bench: Bench) -> None:
    whole = upload_many(world)
    world.emulator.forget()
    world.emulator.set(throttle=6)
    assert len(client.install(bench, world.proxy.index, whole).versions) == MANY + 1
    assert world.emulator.stats()["statuses"].get("429", 0) > 0, "nothing was throttled"


@pytest.mark.parametrize("ranges", [True, False], ids=["resumable", "not-resumable"])
@pytest.mark.parametrize("client", [PIP_20, PIP, UV, POETRY], ids=repr)
def test_bodies_that_break_off(client: Client, ranges: bool, world: World, bench: Bench) -> None:
    """Old pip and poetry cannot resume: for them the proxy has to."""
    world.emulator.upload(wheel("bulky", "1.0", padding=300_000))
    world.emulator.set(cut_body="100000:2", ranges=ranges, validators=ranges)
    assert client.install(bench, world.proxy.index, "bulky").versions == {"bulky": "1.0"}


def test_a_service_as_it_was_before_it_spoke_json(begin, bench: Bench) -> None:
    world = begin("--json", "off")
    world.emulator.upload(wheel("acme-core", "1.0", requires_python=">=3.8"))
    for client in (PIP_20, PIP, UV):
        assert client.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": "1.0"}


@pytest.mark.parametrize("form", ["packages", "absolute"])
def test_other_spellings_of_file_addresses(form: str, begin, bench: Bench) -> None:
    world = begin("--urls", form)
    world.emulator.upload(wheel("acme-core", "1.0"))
    for client in (PIP, UV):
        assert client.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": "1.0"}


def test_files_that_come_from_an_object_store(begin, bench: Bench) -> None:
    """The store refuses the token with 400, as real ones do; the proxy must not send it there."""
    world = begin("--redirect-assets", "127.0.0.1:0")
    world.emulator.upload(wheel("acme-core", "1.0"))
    for client in (PIP, UV):
        assert client.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": "1.0"}


def publish_again(world: World) -> None:
    """Deletes a version that the proxy has a page of, and publishes other bytes under its name."""
    world.emulator.upload(wheel("acme-core", "1.0"))
    assert get(f"{world.proxy.index}acme-core/")[0] == 200
    world.emulator.codeartifact().delete_package_versions(
        domain=DOMAIN, repository=REPOSITORY, format="pypi", package="acme-core", versions=["1.0"]
    )
    world.emulator.upload(wheel("acme-core", "1.0", padding=1000))


@pytest.mark.parametrize("client", [PIP, UV], ids=repr)
def test_a_version_that_was_deleted_and_published_again(client: Client, world: World, bench: Bench) -> None:
    publish_again(world)
    try:
        client.install(bench, world.proxy.index, "acme-core")
    except ClientFailed:  # The page was out of date, which the file has shown.
        pass
    assert client.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": "1.0"}


@pytest.mark.parametrize("client", [PIP, UV], ids=repr)
def test_other_bytes_are_refused_with_a_reason_until_they_are_accepted(client: Client, begin, bench: Bench) -> None:
    world = begin(WHEELPORT_CHANGED_FILES="refuse")
    publish_again(world)
    for _ in range(2):
        with pytest.raises(ClientFailed, match="other bytes than first seen"):
            client.install(bench, world.proxy.index, "acme-core")
    accept = ["cache", "accept", "acme-core", "--route", REPOSITORY, "--reason", "a test"]
    done = bench.run([PROGRAM, *accept], WHEELPORT_OPS_LISTEN=world.proxy.operations.removeprefix("http://"))
    assert done.stdout.startswith("accepted: acme_core-1.0-py3-none-any.whl")
    assert client.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": "1.0"}
