"""The emulator as a process, and what a test needs in it."""

import subprocess
import uuid

import pytest
from aws_support import IDENTITIES, Emulator, binary, make_wheel, printed


@pytest.fixture(scope="session")
def emulator(tmp_path_factory):
    home = tmp_path_factory.mktemp("emulator")
    identities = home / "identities.toml"
    identities.write_text(IDENTITIES)
    command = [
        binary(),
        "emulate",
        "--listen=127.0.0.1:0",
        "--control-listen=127.0.0.1:0",
        f"--dir={home / 'store'}",
        f"--identities={identities}",
        "--no-public-index",
    ]
    # Neither address is known yet, and the program needs none: it only must not see the machine's AWS configuration.
    environment = Emulator("", "", home).environment(keys=None)
    log = home / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            data, control = (printed(rf"{plane} plane +(http://127\.0\.0\.1:\d+)", log, process) for plane in ("data", "control"))
            yield Emulator(control, data, home)
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture
def codeartifact(emulator):
    return emulator.client()


@pytest.fixture
def domain(codeartifact):
    """A domain of its own for one test, with the repository `python` in it."""
    name = "t" + uuid.uuid4().hex[:12]
    codeartifact.create_domain(domain=name)
    codeartifact.create_repository(domain=name, repository="python")
    yield name
    for repository in codeartifact.list_repositories_in_domain(domain=name)["repositories"]:
        codeartifact.delete_repository(domain=name, repository=repository["name"])
    codeartifact.delete_domain(domain=name)


@pytest.fixture
def publish(emulator, codeartifact, domain):
    """Publishes a small wheel into the test's repository."""
    token = codeartifact.get_authorization_token(domain=domain)["authorizationToken"]

    def publish(project: str, version: str, requires: list[str] = ()) -> tuple[str, bytes]:
        wheel = make_wheel(project, version, requires)
        emulator.upload(domain, "python", token, wheel, summary="A sample", description="# Sample")
        return wheel

    return publish
