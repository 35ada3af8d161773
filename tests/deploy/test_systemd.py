"""The systemd unit: systemd takes it, finds it well confined, and the program starts with what it says."""

from __future__ import annotations

import pathlib
import re

from tools import DEPLOY, output, tool
from world import Process

UNIT = DEPLOY / "systemd" / "wheelport.service"
EXPOSURE = 1.5


def test_systemd_takes_it(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    unit = tmp_path / UNIT.name
    text = UNIT.read_text().replace("/usr/local/bin/wheelport", str(program))
    unit.write_text(re.sub(r"^Documentation=.*\n", "", text, flags=re.MULTILINE))
    assert output(tool("systemd-analyze"), "verify", unit) == ""


def test_systemd_finds_it_confined() -> None:
    told = output(tool("systemd-analyze"), "security", "--offline=true", "--no-pager", UNIT)
    found = re.search(r"Overall exposure level for wheelport\.service: ([0-9.]+)", told)
    assert found and float(found[1]) <= EXPOSURE, told


def test_the_program_starts_with_what_it_says(tmp_path: pathlib.Path) -> None:
    text = UNIT.read_text()
    (command,) = re.findall(r"^ExecStart=/usr/local/bin/wheelport (.*)$", text, re.MULTILINE)
    (environment,) = re.findall(r"^Environment=(.*)$", text, re.MULTILINE)
    settings = dict(setting.split("=", 1) for setting in environment.split())
    assert settings["WHEELPORT_CACHE_DIR"] == "/var/cache/wheelport" and "CacheDirectory=wheelport\n" in text
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    # what SetCredential gives if there is no file
    (default,) = re.findall(r"^SetCredential=aws-config:(.*)$", text, re.MULTILINE)
    (credentials / "aws-config").write_text(default)
    (tmp_path / "wheelport.toml").write_text(
        'listen = "127.0.0.1:0"\n[aws]\nregion = "eu-central-1"\n[[route]]\ndomain = "acme"\ndomain_owner = "111122223333"\nrepository = "python"\n'
    )
    here = {name: value.replace("%d", str(credentials)).replace("/var/cache", str(tmp_path)) for name, value in settings.items()}
    more = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    process = Process("serve", command.replace("/etc/wheelport", str(tmp_path)).split(), {**here, **more}, tmp_path)
    try:
        process.until(r"listens on (\S+)")
    finally:
        assert process.stop() == 0
    assert (tmp_path / "wheelport" / "format").exists()
