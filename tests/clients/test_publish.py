"""Publishing with twine: straight to CodeArtifact it is there for everybody at once; through the proxy it is refused as
long as that is off, in words that a person can act on."""

from __future__ import annotations

import subprocess

from clients import UV, Bench, tool
from wheels import Distribution, wheel
from world import World


def twine(bench: Bench, url: str, file: Distribution, **environment: str) -> subprocess.CompletedProcess[str]:
    path = bench.place("dist") / file.filename
    path.write_bytes(file.data)
    command = [tool("twine", "twine"), "upload", "--verbose", "--non-interactive", "--disable-progress-bar"]
    return bench.run([*command, "--repository-url", url, path], check=False, **environment)


def test_what_twine_publishes_can_be_installed_through_the_proxy(world: World, bench: Bench) -> None:
    credentials = {"TWINE_USERNAME": "aws", "TWINE_PASSWORD": world.emulator.token()}
    done = twine(bench, world.emulator.endpoint, wheel("acme-core", "1.0"), **credentials)
    assert done.returncode == 0, done.stdout
    assert UV.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": "1.0"}


def test_a_proxy_that_takes_no_uploads_says_so(world: World, bench: Bench) -> None:
    done = twine(bench, world.proxy.origin + "/", wheel("acme-core", "1.0"), TWINE_USERNAME="", TWINE_PASSWORD="")
    assert done.returncode != 0
    assert "Uploads are off for route 'python'" in done.stdout, done.stdout
    assert world.emulator.requests("upload") == 0
