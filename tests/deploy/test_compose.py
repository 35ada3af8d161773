"""The compose files: what they say is what the program takes, and the try-out serves a package."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from pods import run
from tools import DEPLOY, tool
from world import get, wait_for

COMPOSE = DEPLOY / "compose"
FILES = ["try-out.yaml", "aws.yaml", "fleet.yaml"]
GIVEN = {"WHEELPORT_DOMAIN": "acme", "WHEELPORT_DOMAIN_OWNER": "111122223333", "WHEELPORT_REPOSITORY": "python", "HOME": "/home/somebody", "AWS_PROFILE": "packages"}


def filled(value: str) -> str:
    """Compose's interpolation, as far as these files use it."""

    def one(found: re.Match[str]) -> str:
        name, operator, more = found.groups()
        if given := GIVEN.get(name):
            return given
        assert operator != ":?", f"{name} is needed"
        return more or ""

    return re.sub(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}", one, value)


def services(name: str) -> dict[str, Any]:
    return json.loads(filled(json.dumps(yaml.safe_load((COMPOSE / name).read_text())["services"])))


@pytest.mark.parametrize("name", FILES)
def test_compose_takes_it(name: str, tmp_path: pathlib.Path) -> None:
    """The old compose does not know a top-level `name`, and the plugin is not to be had everywhere."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True) if shutil.which("docker") else None
    path = COMPOSE / name
    if plugin is not None and plugin.returncode == 0:
        command = ["docker", "compose"]
    else:
        command = [tool("docker-compose"), "--project-directory", str(COMPOSE)]
        path = tmp_path / name
        path.write_text(re.sub(r"^name:.*\n", "", (COMPOSE / name).read_text(), flags=re.MULTILINE))
    done = subprocess.run([*command, "-f", path, "config"], env={"PATH": "/usr/bin:/bin", **GIVEN}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["services"].keys() == services(name).keys()


@pytest.mark.parametrize("name", FILES)
def test_containers_are_confined(name: str) -> None:
    for service in services(name).values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{port} would be open to the network"


def test_the_try_out_serves_a_package(tmp_path: pathlib.Path) -> None:
    both = services("try-out.yaml")
    environment = both["wheelport"]["environment"]
    with run(both["emulator"]["command"], ["serve"], environment, "emulator", tmp_path, None) as proxy:
        wait_for(lambda: get(f"{proxy}/readyz")[0] == 200, "the proxy is ready")
        status, body = get(f"{proxy}/simple/wheelport-hello/")
        assert status == 200 and b"wheelport_hello" in body


@pytest.mark.parametrize("name", ["one", "two", "three"])
def test_each_replica_of_the_fleet_serves_though_valkey_is_away(name: str, tmp_path: pathlib.Path) -> None:
    fleet = services("fleet.yaml")
    environment = {**fleet[name]["environment"], "WHEELPORT_FLEET_REDIS": "redis://127.0.0.1:1", "WHEELPORT_CACHE_DIR": str(tmp_path / "cache")}
    with run(fleet["emulator"]["command"], ["serve"], environment, "emulator", tmp_path, None) as proxy:
        wait_for(lambda: get(f"{proxy}/readyz")[0] == 200, "the proxy is ready")
        assert get(f"{proxy}/simple/wheelport-hello/")[0] == 200


def test_the_replicas_of_the_fleet_are_alike() -> None:
    fleet = services("fleet.yaml")
    alike = [{key: value for key, value in fleet[name].items() if key != "ports"} for name in ("one", "two", "three")]
    assert alike[0] == alike[1] == alike[2]
    assert len({fleet[name]["ports"][0] for name in ("one", "two", "three")}) == 3


def test_health_checks_are_the_programs_own(program: pathlib.Path) -> None:
    for service in services("try-out.yaml").values():
        kind, path, *arguments = service["healthcheck"]["test"]
        assert (kind, path) == ("CMD", "/usr/local/bin/wheelport")
        # Nobody is there: 1. Arguments that the program does not know would be 2.
        done = subprocess.run([program, *(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", part) for part in arguments)],
                              env={"WHEELPORT_LISTEN": "127.0.0.1:1"}, capture_output=True, text=True)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "does not respond" in done.stdout


def test_the_file_for_tls_adds_a_certificate_to_either_of_the_others() -> None:
    """The health check is the image's own or the try-out's: both look at this variable."""
    added = yaml.safe_load((COMPOSE / "tls.yaml").read_text())["services"]
    assert added.keys() == {"wheelport"}, "no other service gets anything"
    (volume,) = added["wheelport"]["volumes"]
    assert volume.endswith(":/tls:ro")
    assert added["wheelport"]["environment"] == {"WHEELPORT_TLS_CERTIFICATE": "/tls/tls.crt", "WHEELPORT_TLS_KEY": "/tls/tls.key"}
    for name in ("try-out.yaml", "aws.yaml"):
        assert "wheelport" in services(name)
