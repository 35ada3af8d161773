"""Every client installs through the proxy what its user asked for, without credentials and without knowing of AWS."""

from __future__ import annotations

import pytest

from clients import EVERY, PIP, PIP_20, PIP_22, PIP_23, UV, Bench, Client, ClientFailed
from public_index import PublicIndex
from wheels import Distribution, sdist, wheel
from world import World

each_client = pytest.mark.parametrize("client", EVERY, ids=repr)


def acme() -> list[Distribution]:
    """A private package family with every way to spell a name: dots, capitals, underscores, a local version."""
    return [
        wheel("Acme.Tool_Kit", "1.0", requires=("acme-core",)),
        wheel(
            "Acme.Tool_Kit",
            "1.1",
            requires=("acme.core>=1,<2",),
            extras={"fancy": ("Acme.Colour==2.0+cpu",)},
            requires_python=">=3.8",
        ),
        wheel("acme-core", "1.0"),
        wheel("acme-core", "2.0"),
        wheel("Acme.Colour", "2.0+cpu", spelled="Acme.Colour"),
    ]


@each_client
def test_a_private_package_with_dependencies_and_an_extra(client: Client, world: World, bench: Bench) -> None:
    world.emulator.upload(*acme())
    installed = client.install(bench, world.proxy.index, "acme.TOOL-kit[fancy]")
    assert installed.versions == {"acme-tool-kit": "1.1", "acme-core": "1.0", "acme-colour": "2.0+cpu"}
    assert installed.run("import acme_tool_kit, acme_colour; print(acme_colour.VERSION)") == "2.0+cpu"


@each_client
def test_yanked_and_unsuitable_versions_are_left_out_unless_pinned(
    client: Client, begin, public_index: PublicIndex, bench: Bench
) -> None:
    public_index.add(
        wheel("widget", "1.0"),
        wheel("widget", "1.1").as_yanked("it was broken"),
        wheel("widget", "1.2", requires_python=">=99"),
    )
    world = begin(public_index=public_index.url)
    assert client.install(bench, world.proxy.index, "widget").versions == {"widget": "1.0"}
    assert client.install(bench, world.proxy.index, "widget==1.1").versions == {"widget": "1.1"}


@each_client
def test_a_package_that_has_only_an_sdist(client: Client, world: World, bench: Bench) -> None:
    world.emulator.upload(sdist("source-only", "3.1", requires=("acme-core",)), wheel("acme-core", "1.0"))
    installed = client.install(bench, world.proxy.index, "source-only")
    assert installed.versions == {"source-only": "3.1", "acme-core": "1.0"}
    assert installed.run("import source_only; print(source_only.VERSION)") == "3.1"


@pytest.mark.parametrize("client", [PIP_20, PIP_22, PIP_23, PIP, UV], ids=repr)
def test_required_hashes_are_those_of_the_published_files(client, world: World, bench: Bench) -> None:
    kit, core = wheel("kit", "1.0", requires=("acme-core",)), wheel("acme-core", "1.0")
    world.emulator.upload(kit, core)
    requirements = bench.place("pinned") / "requirements.txt"
    requirements.write_text(f"kit==1.0 --hash=sha256:{kit.sha256}\nacme-core==1.0 --hash=sha256:{core.sha256}\n")
    options = ("--require-hashes", "-r", requirements)
    installed = client.install(bench, world.proxy.index, options=options)
    assert installed.versions == {"kit": "1.0", "acme-core": "1.0"}

    requirements.write_text(f"kit==1.0 --hash=sha256:{core.sha256}\nacme-core==1.0 --hash=sha256:{core.sha256}\n")
    with pytest.raises(ClientFailed, match="(?i)hash"):
        client.install(bench, world.proxy.index, options=options)


@each_client
def test_a_name_that_nobody_has_is_a_clean_failure(client: Client, world: World, bench: Bench) -> None:
    with pytest.raises(ClientFailed, match="(?i)no-such-thing"):
        client.install(bench, world.proxy.index, "no-such-thing")
    assert world.proxy.answered(kind="page", status="404") > 0
    assert world.proxy.answered(kind="page", status="503") == 0


def test_a_new_version_is_seen_when_the_page_is_no_longer_fresh(begin, bench: Bench) -> None:
    world = begin()
    world.emulator.upload(wheel("acme-core", "1.0"))
    assert PIP.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": "1.0"}
    world.emulator.upload(wheel("acme-core", "1.1"))
    world.proxy.stop()
    world.proxy.start_with('[cache]\nfresh_for = "0s"\nstale_while_revalidate = "0s"\n')
    assert PIP.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": "1.1"}
