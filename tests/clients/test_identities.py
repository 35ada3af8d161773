"""Gated routes and ID tokens with real clients: who may read installs, who may publish publishes, and nobody is asked
for a password that a pipeline could not type."""

from __future__ import annotations

import pathlib
import re
import urllib.parse
from collections.abc import Callable, Iterator

import pytest

import publish
from clients import PDM, PIP, PIP_20, POETRY, POETRY_1, UV, UV_0_7, Bench, Client, ClientFailed, tool
from issuer import Issuer
from publish import Done
from test_tls import Authority
from wheels import sdist, wheel
from world import World, basic, get

Begin = Callable[..., World]
READERS = [PIP_20, PIP, UV, UV_0_7, POETRY, POETRY_1, PDM]
PUBLISHERS = ["twine", "uv", "poetry", "pdm", "hatch", "flit"]
PUBLISHED = r'"credential":"ci:acme/tools@main"[^\n]*published[^\n]*wheelport::audit'
readers = pytest.mark.parametrize("client", READERS, ids=repr)
publishers = pytest.mark.parametrize("name", PUBLISHERS)


@pytest.fixture
def issuer(tmp_path: pathlib.Path) -> Iterator[Issuer]:
    with Issuer(tmp_path / "issuer") as issuer:
        yield issuer


def gated(begin: Begin, issuer: Issuer, folder: pathlib.Path, more: str = "") -> World:
    configuration = folder / "identities.toml"
    configuration.write_text(issuer.table + more)
    return begin(WHEELPORT_READ="identity", WHEELPORT_UPLOAD="identity", WHEELPORT_CONFIG=str(configuration))


@pytest.fixture
def world(begin: Begin, issuer: Issuer, tmp_path: pathlib.Path) -> World:
    """A route that only pipelines of a group read and publish through."""
    world = gated(begin, issuer, tmp_path)
    world.emulator.upload(wheel("acme-core", "1.0"), sdist("acme-core", "1.0"))
    return world


def with_netrc(bench: Bench, world: World, token: str) -> None:
    """The entry that docs/IDENTITY.md gives."""
    host = urllib.parse.urlsplit(world.proxy.origin).hostname
    path = bench.home / ".netrc"
    path.write_text(f"machine {host}\nlogin jo\npassword {token}\n")
    path.chmod(0o600)


def with_credentials(world: World, token: str) -> str:
    """The index with the token in its address."""
    return world.proxy.index.replace("://", f"://gitlab:{token}@")


def reason(shown: str, *words: str) -> None:
    """Clients break lines wherever they like."""
    plain = " ".join(shown.split())
    assert any(re.search(word, plain) for word in words), shown


@readers
def test_a_gated_index_is_installed_from_with_a_netrc(client: Client, world: World, bench: Bench, issuer: Issuer) -> None:
    token = issuer.token()
    with_netrc(bench, world, token)
    assert client.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": "1.0"}
    world.proxy.until(r"ci:acme/tools@main")
    assert token not in world.proxy.output


@pytest.mark.parametrize("client", [PIP_20, PIP, UV, UV_0_7, PDM], ids=repr)
def test_a_gated_index_is_installed_from_with_the_token_in_its_address(
    client: Client, world: World, bench: Bench, issuer: Issuer
) -> None:
    assert client.install(bench, with_credentials(world, issuer.token()), "acme-core").versions == {"acme-core": "1.0"}


def test_poetry_reads_with_its_own_settings(world: World, bench: Bench, issuer: Issuer) -> None:
    assert "acme-core" in POETRY.lock(bench, world.proxy.index, "acme-core", password=issuer.token())


@readers
@pytest.mark.parametrize("wrong", ["nothing", "unknown", "audience", "elsewhere"])
def test_who_may_not_read_installs_nothing_and_is_not_asked(
    wrong: str, client: Client, world: World, bench: Bench, issuer: Issuer
) -> None:
    token = {
        "nothing": None,
        "unknown": "guess",
        "audience": issuer.token(aud="another"),
        "elsewhere": issuer.token(namespace_path="else"),
    }[wrong]
    if token:
        with_netrc(bench, world, token)
    with pytest.raises(ClientFailed) as failed:
        client.install(bench, world.proxy.index, "acme-core")
    status = "403" if wrong == "elsewhere" else "401"
    world.proxy.until(rf"\b{status}\b")
    assert world.emulator.requests("page") == 0, failed.value
    assert "EOFError" not in str(failed.value), failed.value


@readers
def test_credentials_are_harmless_at_an_open_index(client: Client, begin: Begin, bench: Bench) -> None:
    world = begin()
    world.emulator.upload(wheel("acme-core", "1.0"))
    with_netrc(bench, world, "whatever")
    assert client.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": "1.0"}


def badly(done: Done, *words: str) -> None:
    assert done.returncode != 0, done.stdout
    reason(done.stdout, *words)


@publishers
def test_an_id_token_is_the_password_of_every_publishing_tool(
    name: str, world: World, bench: Bench, issuer: Issuer
) -> None:
    publisher, url, before = publish.EVERY[name], f"{world.proxy.origin}/", world.emulator.requests("upload")
    files = (wheel("acme-core", "2.0"), sdist("acme-core", "2.0"))
    badly(publisher(bench, url, *files, token=issuer.token(aud="another")), "401", "audience", "[Ff]orbidden", "denied")
    badly(publisher(bench, url, *files, token=issuer.token(exp=1000, nbf=900)), "401", "expired", "denied")
    badly(publisher(bench, url, *files, token=issuer.token(ref_protected="false")), "403")
    assert world.emulator.requests("upload") == before
    token = issuer.token()
    done = publisher(bench, url, *files, token=token)
    assert done.returncode == 0, done.stdout
    with_netrc(bench, world, token)
    assert UV.install(bench, world.proxy.index, "acme-core").versions == {"acme-core": "2.0"}
    audit = [line for line in world.proxy.output.splitlines() if "wheelport::audit" in line and "ci:acme/tools@main" in line]
    assert any("acme-core" in line and "published" in line for line in audit), world.proxy.output
    assert token not in world.proxy.output


def test_a_tool_shows_why_a_token_is_refused(world: World, bench: Bench, issuer: Issuer) -> None:
    badly(publish.TWINE(bench, f"{world.proxy.origin}/", wheel("acme-core", "2.0"), token=issuer.token(aud="x")), "audience 'wheelport'")
    badly(publish.TWINE(bench, f"{world.proxy.origin}/", wheel("other", "2.0"), token=issuer.token()), "may not publish the project 'other'")


def test_pdm_exchanges_its_token_by_itself(world: World, bench: Bench, issuer: Issuer) -> None:
    issuer.answer = issuer.token()
    settings = {"GITHUB_ACTIONS": "true", "ACTIONS_ID_TOKEN_REQUEST_URL": f"{issuer.url}/request?x=1", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x"}
    files = (wheel("acme-core", "2.0"), sdist("acme-core", "2.0"))
    command = [tool("pdm", "pdm"), "publish", "--no-build", "--repository", f"{world.proxy.origin}/"]
    bench.run(command, cwd=publish.project(bench, files), PDM_CHECK_UPDATE="false", **settings)
    assert "a token was minted" in world.proxy.output
    world.proxy.until(PUBLISHED)


# The older one knows the tokens of GitHub only.
@pytest.mark.parametrize(("publisher", "place"), [("uv", "gitlab"), ("uv", "github"), ("uv-0-7", "github")])
def test_uv_publishes_without_any_secret_over_tls(
    publisher: str, place: str, begin: Begin, bench: Bench, issuer: Issuer, tmp_path: pathlib.Path
) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    authority.issue("localhost", certificate, key)
    table = f"[server.tls]\ncertificate = '{certificate}'\nkey = '{key}'\n"
    world = gated(begin, issuer, tmp_path, table)
    url = world.proxy.origin.replace("127.0.0.1", "localhost")
    assert url.startswith("https://"), url
    issuer.answer = token = issuer.token()
    pipeline = {
        "gitlab": {"GITLAB_CI": "true", "WHEELPORT_ID_TOKEN": token},
        "github": {
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{issuer.url}/request?x=1",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x",
        },
    }[place]
    trust = {"SSL_CERT_FILE": str(authority.certificate)}
    files = publish.written(bench, (wheel("acme-core", "2.0"), sdist("acme-core", "2.0")))
    command = [tool(publisher, "uv"), "publish", "--trusted-publishing", "always", "--publish-url", f"{url}/"]
    bench.run([*command, *files], **trust, **pipeline)
    world.proxy.until(PUBLISHED)
    assert world.proxy.output.count("a token was minted") == 1
    # What is read over TLS with the same token is what was published.
    with_netrc(bench, world, token)
    (bench.home / ".netrc").write_text((bench.home / ".netrc").read_text().replace("127.0.0.1", "localhost"))
    environment = bench.new_environment()
    install = ["pip", "install", "--python", environment / "bin" / "python", "--default-index", f"{url}/simple/", "acme-core"]
    bench.run([tool(publisher, "uv"), *install], **trust)
    assert token not in world.proxy.output


def test_what_a_tool_is_told_does_not_depend_on_what_exists(world: World, issuer: Issuer) -> None:
    there, gone = (f"{world.proxy.index}{name}/" for name in ("acme-core", "gone"))
    for headers in ({}, {"Authorization": basic("x", "guess")}, {"Authorization": basic("x", issuer.token(namespace_path="else"))}):
        (one, first), (two, second) = get(there, headers), get(gone, headers)
        same = [re.sub(rb'"(request_id|instance)": ?"[^"]*"', b"", body) for body in (first, second)]
        assert one == two and one in (401, 403) and same[0] == same[1], (first, second)
