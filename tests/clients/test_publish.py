"""Publishing through the proxy with every tool, without an account and with a token; then the next install has it."""

from __future__ import annotations

import hashlib
import pathlib
import re
import socket
import threading
import urllib.parse
from collections.abc import Callable

import pytest

import publish
from clients import PIP, UV, Bench, tool
from publish import EVERY, Done, Publisher
from wheels import Distribution, sdist, wheel
from world import World, basic, get, in_background, wait_for

Begin = Callable[..., World]
TOKEN = "d1ff1cult-to-gue55"
PUBLISHERS = f"""
[[publisher]]
name = "ci"
token_sha256 = "{hashlib.sha256(TOKEN.encode()).hexdigest()}"
projects = ["acme-*"]
"""
every = pytest.mark.parametrize("name", EVERY)


@pytest.fixture
def open_world(begin: Begin) -> World:
    """Anybody may publish."""
    return begin(WHEELPORT_UPLOAD="anonymous")


@pytest.fixture
def token_world(begin: Begin, tmp_path: pathlib.Path) -> World:
    """Who has the token may publish."""
    configuration = tmp_path / "publishers.toml"
    configuration.write_text(PUBLISHERS)
    return begin(WHEELPORT_UPLOAD="token", WHEELPORT_CONFIG=str(configuration))


def files(version: str = "1.0", name: str = "acme-core") -> tuple[Distribution, Distribution]:
    return wheel(name, version), sdist(name, version)


def well(done: Done) -> Done:
    assert done.returncode == 0, done.stdout
    return done


def badly(done: Done) -> str:
    assert done.returncode != 0, done.stdout
    return done.stdout


def installed(world: World, bench: Bench, version: str = "1.0") -> None:
    """What was published is installed, and comes from the cache."""
    before = world.emulator.requests("asset")
    assert UV.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": version}
    assert PIP.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": version}
    assert world.emulator.requests("asset") == before


@every
def test_every_tool_publishes_without_an_account_twice_and_the_next_install_has_it(
    name: str, open_world: World, bench: Bench
) -> None:
    publisher = EVERY[name]
    for _ in range(2):
        well(publisher(bench, f"{open_world.proxy.origin}/", *files()))
        installed(open_world, bench)
    well(publisher(bench, f"{open_world.proxy.origin}/pypi/python/", *files("1.1")))
    installed(open_world, bench, "1.1")
    if name != "flit":
        page = get(open_world.proxy.index + "acme-core/")[1].decode()
        assert all(f"{file.filename}#sha256={file.sha256}" in page for file in files() + files("1.1")), page


@every
def test_every_tool_publishes_with_a_token(name: str, token_world: World, bench: Bench) -> None:
    publisher, url = EVERY[name], f"{token_world.proxy.origin}/"
    badly(publisher(bench, url, *files(), token="wrong"))
    assert token_world.emulator.requests("upload") == 0
    well(publisher(bench, url, *files(), token=TOKEN))
    installed(token_world, bench)
    assert TOKEN not in token_world.proxy.output


@pytest.mark.parametrize("name", ["twine", "uv", "poetry", "pdm", "hatch", "flit"])
def test_an_expired_token_of_ours_and_a_lagging_index_go_unnoticed(
    name: str, open_world: World, bench: Bench
) -> None:
    open_world.emulator.set(index_lag="1h")
    open_world.emulator.revoke_tokens()
    well(EVERY[name](bench, f"{open_world.proxy.origin}/", *files()))
    installed(open_world, bench)


@pytest.mark.parametrize("name", ["twine", "twine-5", "uv", "poetry", "maturin", "curl"])
def test_other_bytes_under_the_same_name_are_a_conflict_that_the_tool_shows(
    name: str, open_world: World, bench: Bench
) -> None:
    publish.UV(bench, f"{open_world.proxy.origin}/", wheel("acme-core", "1.0", requires=("nothing",)))
    shown = badly(EVERY[name](bench, f"{open_world.proxy.origin}/", wheel("acme-core", "1.0")))
    assert re.search(r"File\s+already\s+exists", shown), shown


@pytest.mark.parametrize("name", ["twine-5", "poetry", "pdm", "maturin", "hatch"])
def test_tools_that_can_skip_what_exists_do(name: str, open_world: World, bench: Bench) -> None:
    url = f"{open_world.proxy.origin}/"
    well(publish.UV(bench, url, wheel("acme-core", "1.0", requires=("nothing",))))
    # hatch asks the index first, unasked.
    more = () if name == "hatch" else ("--skip-existing",)
    well(EVERY[name](bench, url, wheel("acme-core", "1.0"), more=more))


def test_uv_checks_the_index_itself(open_world: World, bench: Bench) -> None:
    url, check = f"{open_world.proxy.origin}/", ("--check-url", open_world.proxy.index)
    well(publish.UV(bench, url, *files(), more=check))
    before = open_world.emulator.requests("upload")
    well(publish.UV(bench, url, *files(), more=check))
    assert open_world.emulator.requests("upload") == before
    badly(publish.UV(bench, url, wheel("acme-core", "1.0", requires=("nothing",)), more=check))


def test_two_tools_that_race_with_different_bytes_leave_one_winner(open_world: World, bench: Bench) -> None:
    one, two = wheel("acme-core", "1.0"), wheel("acme-core", "1.0", requires_python=">=3.8")
    other = Bench(bench.folder / "other")
    url, start = f"{open_world.proxy.origin}/", threading.Barrier(2)

    def racing(publisher: Publisher, bench: Bench, file: Distribution) -> Done:
        start.wait()
        return publisher(bench, url, file)

    open_world.emulator.set(latency="300ms")
    with in_background(lambda: racing(publish.curl, bench, one)) as first:
        second = racing(publish.curl, other, two)
    codes = sorted((first.result().returncode == 0, second.returncode == 0))
    assert codes == [False, True], (first.result().stdout, second.stdout)
    winner = one if first.result().returncode == 0 else two
    assert winner.sha256 in get(open_world.proxy.index + "acme-core/")[1].decode()


@pytest.mark.parametrize("name", ["uv", "poetry", "pdm", "hatch"])
def test_tools_that_try_only_once_wait_for_their_turn(name: str, begin: Begin, bench: Bench, tmp_path: pathlib.Path) -> None:
    configuration = tmp_path / "one.toml"
    configuration.write_text("[upload]\nmax_at_once = 1\n")
    world = begin(WHEELPORT_UPLOAD="anonymous", WHEELPORT_CONFIG=str(configuration))
    address = urllib.parse.urlsplit(world.proxy.origin)

    def in_flight(count: int) -> bool:
        return f"wheelport_requests_in_flight {count}\n" in get(f"{world.proxy.operations}/metrics")[1].decode()

    with socket.create_connection((address.hostname, address.port)) as holder:
        head = f"POST / HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 9999\r\n\r\n--x"
        holder.sendall(head.encode())
        wait_for(lambda: in_flight(1), "the only place is taken")
        with in_background(lambda: EVERY[name](bench, f"{world.proxy.origin}/", wheel("acme-core", "1.0"))) as done:
            wait_for(lambda: in_flight(2), f"{name} waits")
            holder.close()
    well(done.result())


def test_a_token_is_for_its_projects_only(token_world: World, bench: Bench) -> None:
    shown = badly(publish.TWINE(bench, f"{token_world.proxy.origin}/", wheel("other", "1.0"), token=TOKEN))
    assert "may not publish the project 'other'" in shown, shown
    assert token_world.emulator.requests("upload") == 0


def test_a_package_that_blocks_publishing_is_explained(open_world: World, bench: Bench) -> None:
    url = f"{open_world.proxy.origin}/"
    well(publish.UV(bench, url, wheel("acme-core", "1.0")))
    open_world.emulator.codeartifact().put_package_origin_configuration(
        domain="demo", repository="python", format="pypi", package="acme-core",
        restrictions={"publish": "BLOCK", "upstream": "BLOCK"},
    )  # fmt: skip
    shown = badly(publish.TWINE(bench, url, wheel("acme-core", "2.0")))
    assert "origin controls" in shown and "put-package-origin-configuration" in shown, shown
    well(publish.TWINE(bench, url, wheel("acme-core", "1.0")))


ROLES = """
[[roles]]
arn = "arn:aws:iam::111122223333:role/read"
actions = [
    "codeartifact:GetAuthorizationToken",
    "codeartifact:GetRepositoryEndpoint",
    "codeartifact:ReadFromRepository",
    "sts:GetServiceBearerToken",
]

[[roles]]
arn = "arn:aws:iam::111122223333:role/publish"
actions = ["codeartifact:GetAuthorizationToken", "codeartifact:PublishPackageVersion", "sts:GetServiceBearerToken"]
"""


@pytest.mark.parametrize(("role", "can"), [("publish", True), ("read", False)])
def test_another_role_may_do_the_publishing(
    role: str, can: bool, begin: Begin, bench: Bench, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "roles.toml").write_text(ROLES)
    reading = '[aws]\nrole_arn = "arn:aws:iam::111122223333:role/read"\n'
    publishing = f'[[route]]\nupload = "anonymous"\npublish_role_arn = "arn:aws:iam::111122223333:role/{role}"\n'
    (tmp_path / "wheelport.toml").write_text(reading + publishing)
    configuration = str(tmp_path / "wheelport.toml")
    world = begin("--identities", str(tmp_path / "roles.toml"), WHEELPORT_CONFIG=configuration)
    done = publish.TWINE(bench, f"{world.proxy.origin}/", *files())
    if can:
        well(done)
        installed(world, bench)
    else:
        assert "codeartifact:PublishPackageVersion" in badly(done), done.stdout


def test_every_attempt_leaves_an_audit_line(token_world: World, bench: Bench) -> None:
    file, url = wheel("acme-core", "1.0"), f"{token_world.proxy.origin}/"
    well(publish.curl(bench, url, file, token=TOKEN))
    badly(publish.curl(bench, url, file, token="wrong"))
    token_world.proxy.until(r"upload-unauthorized[^\n]*wheelport::audit[^\n]*\n")
    lines = [line for line in token_world.proxy.output.splitlines() if "wheelport::audit" in line]
    assert len(lines) == 2, lines
    parts = ("python", "127.0.0.1", "ci", "acme-core", "1.0", file.filename, file.sha256, str(len(file.data)), "published")
    assert all(part in lines[0] for part in parts), lines[0]
    assert "upload-unauthorized" in lines[1], lines[1]


def test_a_killed_proxy_leaves_no_spool_and_nothing_half_visible(open_world: World, bench: Bench) -> None:
    open_world.emulator.set(latency="5s")
    bulky = wheel("acme-core", "1.0", padding=3_000_000)
    with in_background(lambda: publish.curl(bench, f"{open_world.proxy.origin}/", bulky)) as done:
        spool = pathlib.Path(open_world.folder / "proxy" / "cache" / "tmp")
        while not any(path.stat().st_size > 3_000_000 for path in spool.glob("*/f*")):
            assert not done.done(), done.result().stdout
        open_world.proxy.kill()
        badly(done.result())
    open_world.emulator.set(latency="0s")
    open_world.proxy.start()
    assert not list(spool.glob("*/f*"))
    # Whether CodeArtifact had taken it is its business; the proxy says the same as it does.
    straight = get(open_world.emulator.endpoint + "simple/acme-core/", {"Authorization": basic("aws", open_world.emulator.token())})
    through = get(open_world.proxy.index + "acme-core/")
    assert straight[0] == through[0] and (b"acme_core-1.0" in straight[1]) == (b"acme_core-1.0" in through[1])
    well(publish.curl(bench, f"{open_world.proxy.origin}/", bulky))
    assert UV.install(bench, open_world.proxy.index, "acme-core").versions == {"acme-core": "1.0"}


def test_a_large_wheel_passes_with_flat_memory(open_world: World, bench: Bench) -> None:
    large = wheel("acme-core", "1.0", padding=200_000_000)
    well(publish.curl(bench, f"{open_world.proxy.origin}/", large))
    status = pathlib.Path(f"/proc/{open_world.proxy.pid}/status").read_text()
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
    assert peak < 120_000, f"{peak} kB"


def test_what_twine_publishes_straight_to_codeartifact_can_be_installed_through_the_proxy(
    world: World, bench: Bench
) -> None:
    credentials = {"TWINE_USERNAME": "aws", "TWINE_PASSWORD": world.emulator.token()}
    path = publish.written(bench, (wheel("acme-core", "1.0"),))[0]
    command = [tool("twine", "twine"), "upload", "--non-interactive", "--repository-url", world.emulator.endpoint, path]
    bench.run(command, **credentials)
    assert UV.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": "1.0"}


def test_a_proxy_that_takes_no_uploads_says_so(world: World, bench: Bench) -> None:
    shown = badly(publish.TWINE(bench, f"{world.proxy.origin}/", wheel("acme-core", "1.0")))
    assert "Uploads are off for route 'python'" in shown, shown
    assert world.emulator.requests("upload") == 0
