"""Servers that the tests of deploy/ run against: the emulator, the demo, and moto for IAM and KMS.

Every server picks a free port of loopback itself, says which, and ends with its `with` block. Programs get an environment without any AWS
configuration, package index or proxy of whoever runs the tests.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys

import tools
from world import Process

sys.path.insert(0, str(tools.ROOT / "tests" / "aws"))

from aws_support import ACCOUNT, ADMINISTRATOR, REGION, Emulator, make_wheel, printed  # noqa: E402, F401

OTHER_ACCOUNT = "444455556666"


def policy(kind: str, **values: str) -> dict:
    """What `wheelport iam-policy` prints, for the domain `acme`."""
    given = {"domain": "acme", "domain-owner": ACCOUNT, "repository": "python", "region": REGION} | values
    if kind == "fleet":
        given = {"bucket": "acme-wheelport", "queue": "wheelport-events", "key": "key-1"} | given
    command = [tools.binary(), "iam-policy", kind]
    command += [f"--{name}={value}" for name, value in given.items()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


def listed(value) -> list:
    """Policies write one value where there is only one."""
    return value if isinstance(value, list) else [value]


def actions(document: dict) -> set[str]:
    return {action for statement in document["Statement"] for action in listed(statement["Action"])}


def same_policy(one, other) -> bool:
    """Whether two policies say the same, whatever the order and the form of single values."""
    return _plain(one) == _plain(other)


def _plain(policy) -> list:
    policy = json.loads(policy) if isinstance(policy, str) else policy
    statements = []
    for statement in policy["Statement"]:
        plain = {name: sorted(listed(value)) for name, value in statement.items() if isinstance(value, str | list)}
        for name in ("Principal", "Condition"):
            plain[name] = json.dumps(_sorted(statement.get(name, {})), sort_keys=True)
        statements.append(json.dumps(plain, sort_keys=True))
    return sorted(statements)


def _sorted(value):
    if isinstance(value, dict):
        return {name: _sorted(inner) for name, inner in value.items()}
    return sorted(listed(value))


@contextlib.contextmanager
def running(name: str, arguments: list[str], environment: dict[str, str], folder: pathlib.Path):
    """The program, until the block ends."""
    process = Process(name, arguments, environment, folder)
    try:
        yield process
    finally:
        process.stop()


@contextlib.contextmanager
def emulator(home: pathlib.Path, identities: str = ""):
    """The emulator with a domain `demo` and what `identities` adds."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "identities.toml"
    file.write_text(identities)
    arguments = [
        "emulate",
        "--listen=127.0.0.1:0",
        "--control-listen=127.0.0.1:0",
        f"--dir={home / 'store'}",
        f"--identities={file}",
        "--no-public-index",
    ]
    with running("emulate", arguments, {}, home) as process:
        data, control = (process.until(rf"{plane} plane +(http://127\.0\.0\.1:\d+)")[1] for plane in ("data", "control"))
        yield Emulator(control, data, home)


@contextlib.contextmanager
def moto(home: pathlib.Path):
    """IAM and KMS of the emulator's account; yields the address."""
    program = tools.python_environment("moto") / "moto_server"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "MOTO_ACCOUNT_ID": ACCOUNT,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PYTHONUNBUFFERED": "1",
    }
    log = home / "moto.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", "0"], env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        yield printed(r"Running on (http://127\.0\.0\.1:\d+)", log, process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def check(emulator: Emulator, *arguments: str, keys=ADMINISTRATOR, domain="acme") -> dict[str, str]:
    """The status of each step of `wheelport check` that is about AWS; the one for the cache tells of this machine's disk."""
    command = [
        tools.binary(),
        "check",
        "--format=json",
        f"--domain={domain}",
        f"--domain-owner={ACCOUNT}",
        "--repository=python",
        f"--cache-dir={emulator.home / 'check'}",
        *arguments,
    ]
    environment = emulator.environment(keys)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    report = json.loads(done.stdout)
    return {finding["step"]: finding["status"] for finding in report["findings"] if finding["step"] != "cache"}
