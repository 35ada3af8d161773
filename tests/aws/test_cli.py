"""The AWS command line, as a person types it."""

import json
import os
import shutil
import subprocess
import sysconfig
import time

import pytest
from aws_support import ACCOUNT


def command():
    scripts = sysconfig.get_path("scripts")
    return shutil.which("aws", path=os.pathsep.join([scripts, os.environ.get("PATH", "")]))


pytestmark = pytest.mark.skipif(command() is None, reason="the AWS command line is not installed")


@pytest.fixture
def aws(emulator):
    def aws(*arguments, fails=False, **environment):
        done = subprocess.run(
            [command(), *arguments],
            env=emulator.environment(**environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode != 0) == fails, done.stderr
        return done.stderr if fails else done.stdout

    return aws


def test_login_for_pip_and_twine(aws, emulator, domain):
    where = ["--domain", domain, "--domain-owner", ACCOUNT, "--repository", "python", "--dry-run"]
    pip = aws("codeartifact", "login", "--tool", "pip", *where)
    host = emulator.data.removeprefix("http://")
    assert "pip config set global.index-url http://aws:" in pip
    assert f"@{host}/pypi/d/{domain}-{ACCOUNT}/python/simple/" in pip
    twine = aws("codeartifact", "login", "--tool", "twine", *where)
    assert f"repository = {emulator.data}/pypi/d/{domain}-{ACCOUNT}/python/" in twine
    assert "username = aws" in twine


def test_token_as_text(aws, domain):
    arguments = ["--domain", domain, "--query", "authorizationToken", "--output", "text"]
    token = aws("codeartifact", "get-authorization-token", *arguments).strip()
    assert token.count(".") == 4
    assert "ValidationException" in aws(
        "codeartifact", "get-authorization-token", "--domain", domain, "--duration-seconds", "60", fails=True
    )


def test_listing_and_describing(aws, domain, publish):
    publish("sample", "1.0")
    where = ["--domain", domain, "--repository", "python"]
    packages = json.loads(aws("codeartifact", "list-packages", *where))["packages"]
    assert [one["package"] for one in packages] == ["sample"]
    described = json.loads(aws("codeartifact", "describe-domain", "--domain", domain))["domain"]
    assert described["name"] == domain
    # This command line prints the number that came over the wire.
    assert abs(described["createdTime"] - time.time()) < 300
    described = json.loads(aws("codeartifact", "describe-repository", *where))["repository"]
    assert described["name"] == "python"
    package = [*where, "--format", "pypi", "--package", "sample", "--package-version", "1.0"]
    described = json.loads(aws("codeartifact", "describe-package-version", *package))["packageVersion"]
    assert described["status"] == "Published"


def test_caller_identity(aws):
    assert json.loads(aws("sts", "get-caller-identity"))["Account"] == ACCOUNT


def test_a_profile_that_assumes_a_role(aws, emulator, domain):
    config = emulator.home / "config"
    role = f"arn:aws:iam::{ACCOUNT}:role/reader"
    config.write_text(
        "[profile base]\naws_access_key_id = AKIAEMULATOR00000000\n"
        "aws_secret_access_key = wheelport-emulator-secret-key-0000000000\n"
        f"[profile reader]\nrole_arn = {role}\nsource_profile = base\n"
    )
    profile = {"keys": None, "AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "reader"}
    identity = json.loads(aws("sts", "get-caller-identity", **profile))
    assert f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/" in identity["Arn"]
    aws("codeartifact", "get-authorization-token", "--domain", domain, **profile)
    refused = aws("codeartifact", "list-packages", "--domain", domain, "--repository", "python", fails=True, **profile)
    assert "codeartifact:ListPackages" in refused


def test_credentials_of_a_workload(aws, emulator):
    container = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{emulator.control}/container-credentials"}
    instance = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": emulator.control}
    for chain in (container, instance):
        identity = json.loads(aws("sts", "get-caller-identity", keys=None, **chain))
        assert ":assumed-role/workload/" in identity["Arn"]
