"""The blocks of docs/IDENTITY.md, taken out and run: tokens of the shape that each system signs do what the text says."""

from __future__ import annotations

import hashlib
import pathlib
import re
import subprocess
from collections.abc import Callable, Iterator

import pytest

import publish
from clients import PIP, PIP_23, Bench, tool
from issuer import Issuer
from test_tls import Authority
from wheels import wheel
from world import PROGRAM, ROOT, World, free_of_settings, get

Begin = Callable[..., World]
DOCUMENT = (ROOT / "docs" / "IDENTITY.md").read_text()
ROUTE = '[[route]]\nname = "pypi"\nread = "{read}"\nupload = "{upload}"\n'
# What is written for a place that a test has not.
ELSEWHERE = re.compile(r'^(domain|repository|read|upload) = "[^"]*"\n', re.MULTILINE)


def blocks(section: str, language: str = "toml") -> str:
    """The blocks below a heading."""
    below = DOCUMENT.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(rf"^```{language}\n(.*?)^```$", below, re.MULTILINE | re.DOTALL)
    assert found, section
    return "\n".join(found)


# What the tokens of each system say, a claim that takes a right away, and the name in the logs. Values are made up,
# keys and types are those of the systems.
GITLAB = {
    "namespace_id": "72", "namespace_path": "acme", "project_id": "20", "project_path": "acme/tools", "user_id": "1",
    "user_login": "ada", "user_email": "ada@acme.invalid", "pipeline_id": "574", "pipeline_source": "push", "job_id": "302",
    "ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true", "runner_id": 1,
    "runner_environment": "self-hosted", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc", "project_visibility": "private",
    "sub": "project_path:acme/tools:ref_type:branch:ref:main",
}  # fmt: skip
GITHUB = {
    "sub": "repo:acme/tools:ref:refs/heads/main", "ref": "refs/heads/main", "ref_type": "branch", "ref_protected": "true",
    "repository": "acme/tools", "repository_id": "74", "repository_owner": "acme", "repository_owner_id": "4242",
    "repository_visibility": "private", "run_id": "1", "run_number": "10", "run_attempt": "2", "actor": "ada", "actor_id": "12",
    "workflow": "publish", "workflow_ref": "acme/tools/.github/workflows/publish.yml@refs/heads/main", "event_name": "push",
    "job_workflow_ref": "acme/tools/.github/workflows/publish.yml@refs/heads/main", "runner_environment": "github-hosted",
    "head_ref": "", "base_ref": "", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
}  # fmt: skip
KUBERNETES = {
    "aud": ["wheelport"], "sub": "system:serviceaccount:build-1:builder",
    "kubernetes.io": {
        "namespace": "build-1", "node": {"name": "node-1", "uid": "1b1a"}, "pod": {"name": "job-x", "uid": "5c5c"},
        "serviceaccount": {"name": "builder", "uid": "a1b2"}, "warnafter": 1924992000,
    },
}  # fmt: skip
BUILDKITE = {
    "sub": "organization:acme:pipeline:tools-core:ref:refs/heads/main:commit:714a629c:step:build", "organization_slug": "acme",
    "pipeline_slug": "tools-core", "build_number": 1, "build_branch": "main", "build_tag": None, "build_commit": "714a629c",
    "step_key": "build", "job_id": "0184990a", "agent_id": "0184990b", "build_source": "ui", "runner_environment": "self-hosted",
}  # fmt: skip
JENKINS = {"sub": "https://jenkins.acme.internal/job/acme/job/tools/", "build_number": 7}
ELSEWHERE_IN_KUBERNETES = {"kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "builder"}}}
# Section, claims, the claims of somebody without rights, the name, and what it may: "read" or "publish".
SYSTEMS = [
    ("The principle", GITLAB, {"namespace_path": "acme-evil"}, "gitlab:acme/tools@main", {"read", "publish"}),
    ("The principle", GITLAB, {"ref": "feature", "ref_protected": "false"}, "gitlab:acme/tools@feature", {"read"}),
    ("GitHub Actions", GITHUB, {"repository_owner_id": "4243"}, "github:acme/tools@refs/heads/main", {"publish"}),
    ("GitHub Actions", GITHUB, {"ref": "refs/pull/1/merge"}, "", {"publish"}),
    ("Kubernetes", KUBERNETES, ELSEWHERE_IN_KUBERNETES, "k8s:build-1/builder", {"read"}),
    ("Buildkite", BUILDKITE, {"organization_slug": "else"}, "buildkite:tools-core@main", {"publish"}),
    ("Jenkins", JENKINS, {"sub": "https://jenkins.acme.internal/job/else/job/tools/"}, "jenkins:https://jenkins.acme.internal/job/acme/job/tools/", {"publish"}),
]  # fmt: skip


@pytest.fixture
def issuer(tmp_path: pathlib.Path) -> Iterator[Issuer]:
    with Issuer(tmp_path / "issuer") as issuer:
        yield issuer


def served(begin: Begin, folder: pathlib.Path, text: str, read: str = "identity", upload: str = "identity") -> World:
    """A proxy with these blocks, in front of the repository that a test has."""
    if "[[route]]" in text:
        text = ELSEWHERE.sub("", text).replace('name = "pypi"\n', f'name = "pypi"\nread = "{read}"\nupload = "{upload}"\n', 1)
    else:
        text = ROUTE.format(read=read, upload=upload) + text
    path = folder / "wheelport.toml"
    path.write_text(text)
    world = begin(WHEELPORT_CONFIG=str(path))
    world.emulator.upload(wheel("acme-core", "1.0"))
    return world


def reads(world: World, token: str) -> int:
    return get(f"{world.proxy.origin}/pypi/pypi/simple/acme-core/", {"Authorization": f"Bearer {token}"})[0]


def publishes(world: World, bench: Bench, token: str, name: str = "acme-core") -> bool:
    return publish.curl(bench, f"{world.proxy.origin}/pypi/pypi/", wheel(name, "2.0"), token=token).returncode == 0


@pytest.mark.parametrize(("section", "claims", "others", "name", "rights"), SYSTEMS, ids=[f"{row[0]}-{at}" for at, row in enumerate(SYSTEMS)])
def test_tokens_of_a_system_have_the_rights_of_its_block(
    section: str, claims: dict, others: dict, name: str, rights: set[str], begin: Begin, bench: Bench, issuer: Issuer, tmp_path: pathlib.Path
) -> None:
    text, count = re.subn(r'^url = "https://[^"]+"$', f'url = "{issuer.url}"', blocks(section), flags=re.MULTILINE)
    assert count == 1, text
    policies = {"read": "identity" if "read" in rights else "open", "upload": "identity" if "publish" in rights else "off"}
    world = served(begin, tmp_path, text, **policies)
    token, other = issuer.token(**claims), issuer.token(**{**claims, **others})
    if "read" in rights:
        assert reads(world, token) == 200, world.proxy.output
        # A branch that is not protected still reads, where the block says so.
        assert reads(world, other) == (200 if rights == {"read"} and section == "The principle" else 403)
    if "publish" in rights:
        assert not publishes(world, bench, other), world.proxy.output
        assert publishes(world, bench, token), world.proxy.output
    if name:
        world.proxy.until(re.escape(name))
    assert "ada@acme.invalid" not in world.proxy.output and token not in world.proxy.output


def test_a_branch_of_gitlab_that_is_not_protected_publishes_nothing(begin: Begin, bench: Bench, issuer: Issuer, tmp_path: pathlib.Path) -> None:
    text = blocks("The principle").replace("https://gitlab.acme.internal", issuer.url)
    world = served(begin, tmp_path, text)
    assert not publishes(world, bench, issuer.token(**{**GITLAB, "ref_protected": "false"}))
    assert not publishes(world, bench, issuer.token(**GITLAB), name="other")
    assert publishes(world, bench, issuer.token(**GITLAB))


def test_a_laptop_reads_until_its_table_is_gone(begin: Begin, tmp_path: pathlib.Path) -> None:
    digest = hashlib.sha256(b"of-a-laptop").hexdigest()
    world = served(begin, tmp_path, blocks("Laptops and image builds").replace("0" * 64, digest), upload="off")
    assert (reads(world, "of-a-laptop"), reads(world, "of-another")) == (200, 401)
    world.proxy.until(r"laptop:jo")


def test_installers_ask_for_a_short_lived_token_by_themselves(begin: Begin, bench: Bench, issuer: Issuer, tmp_path: pathlib.Path) -> None:
    digest = hashlib.sha256(b"of-a-laptop").hexdigest()
    text = blocks("The principle").replace("https://gitlab.acme.internal", issuer.url)
    world = served(begin, tmp_path, text + blocks("Laptops and image builds").replace("0" * 64, digest))
    script, token = bench.home / "bin" / "keyring", bench.home / ".config" / "wheelport" / "token"
    for path, content in ((script, blocks("Laptops and image builds", "sh")), (token, "of-a-laptop\n")):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    script.chmod(0o755)
    (script.parent / "wheelport").symlink_to(PROGRAM)
    index = world.proxy.origin.replace("://", "://__token__@") + "/pypi/pypi/simple/"
    path = f"{script.parent}:{bench.environment()['PATH']}"
    common = ["install", "--keyring-provider", "subprocess"]
    for command, more in (
        ([tool("uv", "uv"), "pip", *common, "--default-index", index], {}),
        ([None, "-m", "pip", *common, "--index-url", index], {"PYTHONPATH": str(PIP.site())}),
        ([None, "-m", "pip", *common, "--index-url", index], {"PYTHONPATH": str(PIP_23.site())}),
    ):
        python = bench.new_environment() / "bin" / "python"
        if command[0] is None:
            command[0] = python
        else:
            command[3:3] = ["--python", python]
        bench.run([*command, "acme-core"], PATH=path, **more)
        assert list((python.parent.parent / "lib").glob("python*/site-packages/acme_core*"))
    assert world.proxy.output.count("a token was minted") >= 2
    world.proxy.until(r"laptop:jo")


def test_keys_for_minted_tokens_and_a_rotation(begin: Begin, issuer: Issuer, tmp_path: pathlib.Path) -> None:
    for name in ("current", "previous"):
        (tmp_path / name).write_text(subprocess.run(["openssl", "rand", "-hex", "32"], capture_output=True, text=True, check=True).stdout)
    text = blocks("The principle").replace("https://gitlab.acme.internal", issuer.url)
    keys = blocks("Trusted publishing").replace("/keys/", f"{tmp_path}/")
    previous = re.sub(r"key_file = .*", f'key_file = "{tmp_path}/previous"', keys)
    (tmp_path / "first").mkdir()
    first, second = served(begin, tmp_path / "first", text + previous), served(begin, tmp_path, text + keys)
    (tmp_path / "token").write_text(issuer.token(**GITLAB))
    for minting, reading in ((first, second), (first, first), (second, second)):
        command = [PROGRAM, "token", minting.proxy.origin, "--token-file", tmp_path / "token"]
        minted = subprocess.run(command, env=free_of_settings(), capture_output=True, text=True, timeout=60)
        assert minted.returncode == 0, minted
        assert reads(reading, minted.stdout.strip()) == 200, reading.proxy.output


def test_a_client_certificate_reads(begin: Begin, tmp_path: pathlib.Path) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key, of_build = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "build"
    authority.issue("localhost", certificate, key)
    authority.issue("build", of_build.with_suffix(".crt"), of_build.with_suffix(".key"), uri="spiffe://acme/build/7")
    text = blocks("Client certificates").replace("/tls/clients.crt", str(authority.certificate)).replace("/tls/tls.", f"{tmp_path}/tls.")
    world = served(begin, tmp_path, text, upload="off")
    url = world.proxy.origin.replace("127.0.0.1", "localhost") + "/pypi/pypi/simple/acme-core/"
    command = ["curl", "--silent", "--noproxy", "*", "--cacert", authority.certificate, "--write-out", "%{http_code}", "--output", "/dev/null"]
    shown = ["--cert", of_build.with_suffix(".crt"), "--key", of_build.with_suffix(".key")]
    for more, status in (([], "401"), (shown, "200")):
        done = subprocess.run([*command, *more, url], capture_output=True, text=True, timeout=60)
        assert done.stdout == status, done
    world.proxy.until(r"spiffe://acme/build/7")


def test_no_block_is_left_out() -> None:
    sections = re.findall(r"^## (.+)$", DOCUMENT, re.MULTILINE)
    with_blocks = {name for name in sections if "```toml" in DOCUMENT.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]}
    run = {row[0] for row in SYSTEMS} | {"Trusted publishing", "Client certificates", "Laptops and image builds"}
    assert with_blocks == run
