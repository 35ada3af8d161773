"""Servers that the tests of deploy/ run against: the emulator, the proxy, and moto for IAM and KMS.

Every server listens on a free loopback port and ends with its `with` block. Programs get an environment without any AWS
configuration, package index or proxy of whoever runs the tests.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import deploy_tools

sys.path.insert(0, str(deploy_tools.ROOT / "tests" / "aws"))

from aws_support import ACCOUNT, ADMINISTRATOR, REGION, Emulator, free_port, make_wheel, wait_for  # noqa: E402, F401

OTHER_ACCOUNT = "444455556666"


def policy(kind: str, **values: str) -> dict:
    """What `wheelport iam-policy` prints, for the domain `acme`."""
    given = {"domain": "acme", "domain-owner": ACCOUNT, "repository": "python", "region": REGION} | values
    command = [deploy_tools.binary(), "iam-policy", kind]
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
def server(command: list, environment: dict, log: pathlib.Path, *ports: int):
    """A process that listens on these ports, until the block ends."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            for port in ports:
                wait_for(port, process)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def emulator(home: pathlib.Path, identities: str = ""):
    """The emulator with a domain `demo` and what `identities` adds."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "identities.toml"
    file.write_text(identities)
    data, control = free_port(), free_port()
    command = [
        deploy_tools.binary(),
        "emulate",
        f"--listen=127.0.0.1:{data}",
        f"--control-listen=127.0.0.1:{control}",
        f"--dir={home / 'store'}",
        f"--identities={file}",
        "--no-public-index",
    ]
    running = Emulator(f"http://127.0.0.1:{control}", f"http://127.0.0.1:{data}", home)
    with server(command, running.environment(keys=None), home / "emulator.log", control, data):
        yield running


@contextlib.contextmanager
def moto(home: pathlib.Path):
    """IAM and KMS of the emulator's account; yields the address."""
    program = deploy_tools.python_environment("moto") / "moto_server"
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "MOTO_ACCOUNT_ID": ACCOUNT,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [program, "-H", "127.0.0.1", "-p", str(port)]
    with server(command, environment, home / "moto.log", port):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def proxy(emulator: Emulator, *arguments: str, keys=ADMINISTRATOR, domain="acme"):
    """`wheelport serve` before a domain of the emulator; yields its address."""
    port = free_port()
    cache = emulator.home / f"cache-{port}"
    command = [
        deploy_tools.binary(),
        "serve",
        f"--listen=127.0.0.1:{port}",
        f"--domain={domain}",
        f"--domain-owner={ACCOUNT}",
        "--repository=python",
        f"--cache-dir={cache}",
        *arguments,
    ]
    log = emulator.home / f"proxy-{port}.log"
    with server(command, emulator.environment(keys), log, port):
        yield f"http://127.0.0.1:{port}"


def check(emulator: Emulator, *arguments: str, keys=ADMINISTRATOR, domain="acme") -> dict[str, str]:
    """The status of each step of `wheelport check`."""
    command = [
        deploy_tools.binary(),
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
    return {finding["step"]: finding["status"] for finding in report["findings"]}


def until(condition, seconds: float = 20.0):
    """Waits for something that another process brings about."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return answer
