"""Notices over a webhook, with a receiver that verifies them as docs/OPERATIONS.md tells, and one's own bad release with the
commands of docs/POLICY.md."""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sysconfig
import threading
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from clients import PIP, Bench, ClientFailed
from wheels import wheel
from world import DOMAIN, OWNER, PROGRAM, ROOT, World, free_of_settings, get, wait_for

OPERATIONS = (ROOT / "docs" / "OPERATIONS.md").read_text()
POLICY = (ROOT / "docs" / "POLICY.md").read_text()
SECRET = "whsec_c2Vjb25kIHNlY3JldCBvZiAyNCBieXRlcyBvciBtb3Jl"
# Whoever knows the path could send, too; so it must turn up in no log.
PATH = "/T0/hidden-path"
AWS = shutil.which("aws", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))


def blocks(document: str, section: str, language: str) -> list[str]:
    """The blocks below a heading, without their indentation."""
    below = document.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", below, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


class Receiver:
    """Keeps what is posted to it, and verifies it with the snippet of the document."""

    def __init__(self) -> None:
        names: dict[str, Callable[..., bool]] = {}
        (snippet,) = blocks(OPERATIONS, "Notices", "python")
        exec(snippet, names)
        self.is_genuine = names["is_genuine"]
        self.notices: list[dict[str, object]] = []
        self.forged = 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == PATH and receiver.is_genuine(self.headers, body, SECRET):
                    receiver.notices.append(json.loads(body))
                    self.send_response(204)
                else:
                    receiver.forged += 1
                    self.send_response(401)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}{PATH}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def types(self) -> list[object]:
        return [notice["type"] for notice in self.notices]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


def configure(world: World, receiver: Receiver, secret: str = SECRET) -> pathlib.Path:
    """Restarts the proxy with a webhook and a directory of rules."""
    rules = world.folder / "rules"
    rules.mkdir(exist_ok=True)
    key = world.folder / "secret"
    key.write_text(secret)
    world.proxy.stop()
    world.proxy.start_with(
        f'[policy]\ndirectory = "{rules}"\n\n[notify]\nurl = "{receiver.url}"\nsecret_file = "{key}"\n'
    )
    world.proxy.wait_until_ready()
    return rules


def run(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**free_of_settings(), "HOME": str(world.folder), **world.proxy.environment}
    return subprocess.run(
        [PROGRAM, *arguments], env=environment, cwd=world.folder, capture_output=True, text=True, timeout=60
    )


def aws(world: World, command: str) -> None:
    """Runs a line of a document against the emulator."""
    assert AWS
    command = command.replace("--domain acme", f"--domain {DOMAIN}").replace("111122223333", OWNER)
    environment = {
        **free_of_settings(), **world.emulator.exported, "HOME": str(world.folder),
        "AWS_ENDPOINT_URL_CODEARTIFACT": world.emulator.control, "AWS_PAGER": "",
    }  # fmt: skip
    done = subprocess.run([AWS, *command.split()[1:]], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["successfulVersions"], done.stdout


def purge(world: World) -> None:
    """Posts to the address that the document names."""
    address = re.search(r"curl -X POST 'http://127\.0\.0\.1:9090(/purge\S+)'", POLICY)
    assert address
    with urllib.request.urlopen(urllib.request.Request(world.proxy.operations + address[1], method="POST"), timeout=60) as done:
        assert done.status == 200


def test_check_sends_a_notice_and_says_what_came_of_it(world: World, receiver: Receiver) -> None:
    configure(world, receiver)
    done = run(world, "check")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^ok +notices: http://127\.0\.0\.1:\d+ took a notice of the type `test` \(204\)$", done.stdout, re.MULTILINE)
    assert receiver.types() == ["test"]
    assert receiver.notices[0].keys() == json.loads(blocks(OPERATIONS, "Notices", "json")[0]).keys()

    (world.folder / "secret").write_text("another secret of 24 bytes or more")
    done = run(world, "check")
    assert done.returncode == 1, done.stdout
    assert "responded 401" in done.stdout and "give the receiver the secret" in done.stdout
    assert receiver.forged == 1 and PATH not in done.stdout

    (world.folder / "secret").write_text("short")
    done = run(world, "check")
    assert done.returncode == 1 and "a secret has at least 24 bytes" in done.stdout and "short\n" not in done.stdout


@pytest.mark.skipif(AWS is None, reason="the AWS command line is not installed")
def test_a_bad_release_of_ones_own(world: World, bench: Bench, receiver: Receiver) -> None:
    rules = configure(world, receiver)
    good, bad, better = (wheel("acme-tool", version) for version in ("2.0", "2.1", "2.2"))
    world.emulator.upload(good, bad)
    assert PIP.install(bench, world.proxy.index, "acme-tool").versions["acme-tool"] == "2.1"
    address = f"{world.proxy.index}acme-tool/2.1/{bad.filename}"
    assert get(address) == (200, bad.data)

    (rule,) = blocks(POLICY, "One's own bad release", "toml")
    (rules / "bad-release.toml").write_text(rule)
    wait_for(lambda: get(address)[0] == 403, "the file is refused")
    (why, status, delete) = [line[2:].strip() for line in blocks(POLICY, "One's own bad release", "console")]
    told = run(world, *why.replace("127.0.0.1:9090", world.proxy.operations.removeprefix("http://")).split()[1:])
    assert told.returncode == 1 and "2.1 deletes data" in told.stdout, told
    assert PIP.install(bench, world.proxy.index, "acme-tool").versions["acme-tool"] == "2.0"
    refused = "403 Client Error: 2.1 deletes data; use 2.0 or 2.2."
    with pytest.raises(ClientFailed, match=re.escape(refused)):
        PIP.install(bench, world.proxy.index, "acme-tool==2.1")

    aws(world, status)
    purge(world)
    assert b"acme_tool-2.1" not in get(f"{world.proxy.index}acme-tool/")[1]
    aws(world, delete)
    world.emulator.upload(better)
    purge(world)
    assert PIP.install(bench, world.proxy.index, "acme-tool").versions["acme-tool"] == "2.2"
    status_of_old, body = get(address)
    assert status_of_old == 403 and b"2.1 deletes data" in body, "a lock file still says why"
    assert receiver.notices == []

    # What the document warns of: another 2.1.
    world.emulator.upload(wheel("acme-tool", "2.1", padding=100))
    purge(world)
    get(f"{world.proxy.index}acme-tool/")
    wait_for(lambda: receiver.types() == ["changed-file"], "the alarm")
    assert receiver.notices[0]["file"] == bad.filename and receiver.notices[0]["version"] == "2.1"
    assert PATH not in world.proxy.output and SECRET not in world.proxy.output
