"""Tools that audit, pointed at the proxy; and what installers print of a version that is reported as malware."""

from __future__ import annotations

import json
import pathlib
import zipfile

import pytest

from clients import PIP, UV, Bench, ClientFailed, tool
from test_commands import run
from wheels import wheel
from world import REPOSITORY, World, get, wait_for


def advisory(name: str, package: str, version: str) -> dict[str, object]:
    affected = {
        "package": {"ecosystem": "PyPI", "name": package, "purl": f"pkg:pypi/{package}"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": version}, {"fixed": f"{version}.1"}]}],
        "versions": [version],
    }
    times = {"modified": "2026-01-02T03:04:05Z", "published": "2026-01-02T03:04:05Z"}
    return {"schema_version": "1.7.0", "id": name, "summary": f"{name} in {package}", "details": "Words.", "affected": [affected], **times}


@pytest.fixture
def audited(world: World) -> World:
    """A flaw in one version and malware in the next; the one after that is good."""
    world.emulator.upload(*(wheel("acme-flawed", version) for version in ("1.0", "2.0")), wheel("acme-good", "1.0"))
    world.emulator.upload(*(wheel("acme-evil", version) for version in ("1.0", "2.0")))
    export = world.folder / "all.zip"
    with zipfile.ZipFile(export, "w", zipfile.ZIP_DEFLATED) as archive:
        for document in (advisory("GHSA-aaaa-bbbb-cccc", "acme-flawed", "2.0"), advisory("MAL-2026-1", "Acme.Evil", "2.0")):
            archive.writestr(f"{document['id']}.json", json.dumps(document))
    world.proxy.stop()
    world.proxy.start_with(f'[advisories]\nsource = "{export}"\n')
    wait_for(lambda: get(f"{world.proxy.origin}/osv/v1/vulns/MAL-2026-1")[0] == 200, "the advisories are in force")
    world.proxy.wait_until_ready()
    return world


def uv_audit(world: World, bench: Bench, project: pathlib.Path):
    arguments = ["audit", "--preview", "--frozen", "--service-url", f"{world.proxy.origin}/osv/"]
    return UV.run(bench, *arguments, cwd=project, check=False, UV_NO_CONFIG="0")


def test_uv_audit_asks_the_proxy(audited: World, bench: Bench) -> None:
    for wanted, found in (("acme-flawed==2.0", "GHSA-aaaa-bbbb-cccc"), ("acme-flawed==1.0", None)):
        project = UV.project(bench, audited.proxy.index, wanted, "acme-good")
        UV.run(bench, "lock", cwd=project, UV_NO_CONFIG="0")
        done = uv_audit(audited, bench, project)
        assert (done.returncode == 0) == (found is None), done.stdout
        assert found is None or found in done.stdout, done.stdout


def test_pip_audit_asks_the_proxy(audited: World, bench: Bench) -> None:
    for wanted, found in (("acme-flawed==2.0", "GHSA-aaaa-bbbb-cccc"), ("acme-flawed==1.0", None), ("acme_evil==2.0", "MAL-2026-1")):
        requirements = bench.place("requirements") / "requirements.txt"
        requirements.write_text(f"{wanted}\nacme-good==1.0\n")
        command = [tool("pip-audit", "pip-audit"), "--no-deps", "--disable-pip", "--requirement", requirements, "--format", "json"]
        command += ["--progress-spinner", "off", "--vulnerability-service", "osv", "--osv-url", f"{audited.proxy.origin}/osv/v1/query"]
        done = bench.run(command, check=False)
        assert (done.returncode == 0) == (found is None), done.stdout
        assert found is None or found in done.stdout, done.stdout


def test_installers_take_the_version_before_malware_and_say_why_a_pinned_one_fails(audited: World, bench: Bench) -> None:
    for client in (PIP, UV):
        assert client.install(bench, audited.proxy.index, "acme-evil").versions["acme-evil"] == "1.0"
        with pytest.raises(ClientFailed, match="MAL-2026-1 reports this version as malicious"):
            client.install(bench, audited.proxy.index, "acme-evil==2.0")


def test_wheelport_audit_reads_the_lock_of_a_project(audited: World, bench: Bench) -> None:
    UV.lock(bench, audited.proxy.index, "acme-flawed", "acme-good")
    (lock,) = bench.folder.rglob("uv.lock")
    done = run(audited, "audit", str(lock), "--route", REPOSITORY, "--format", "json")
    assert done.returncode == 1, done.stdout + done.stderr
    report = json.loads(done.stdout)
    (found,) = report["files"]
    assert (found["project"], found["version"], found["verdict"]) == ("acme-flawed", "2.0", "vulnerable")
    assert found["advisories"] == [{"id": "GHSA-aaaa-bbbb-cccc", "summary": "GHSA-aaaa-bbbb-cccc in acme-flawed"}]
