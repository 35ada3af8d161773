"""What the tests of this folder share: the emulator's identities, ways to reach it, and a small wheel.

`WHEELPORT_BINARY` names the built program; without it the debug build of this checkout is taken. Nothing here reads the
AWS configuration of the user who runs the tests.
"""

import base64
import io
import os
import pathlib
import re
import subprocess
import time
import urllib.request
import uuid
import zipfile

import boto3
import botocore.config
import pytest

ACCOUNT = "111122223333"
REGION = "eu-central-1"
ADMINISTRATOR = ("AKIAEMULATOR00000000", "wheelport-emulator-secret-key-0000000000")
START_SECONDS = 60

# One user for each right that can be missing, and roles with conditions.
IDENTITIES = f"""
[[principals]]
access_key = "AKIANOTOKEN000000000"
secret_key = "s"
user = "no-token"
actions = ["sts:*"]

[[principals]]
access_key = "AKIANOBEARER00000000"
secret_key = "s"
user = "no-bearer"
actions = ["codeartifact:*"]

[[principals]]
access_key = "AKIANOLIST0000000000"
secret_key = "s"
user = "no-list"
actions = [
    "codeartifact:Describe*",
    "codeartifact:GetAuthorizationToken",
    "codeartifact:ReadFromRepository",
    "sts:GetServiceBearerToken",
]

[[principals]]
access_key = "AKIANOREAD0000000000"
secret_key = "s"
user = "no-read"
actions = ["codeartifact:GetAuthorizationToken", "sts:GetServiceBearerToken"]

[[principals]]
access_key = "AKIAOUTSIDER00000000"
secret_key = "s"
user = "outsider"
account = "444455556666"

[[roles]]
arn = "arn:aws:iam::{ACCOUNT}:role/partner"
external_id = "ticket-17"

[[roles]]
arn = "arn:aws:iam::{ACCOUNT}:role/careful"
mfa_required = true

[[roles]]
arn = "arn:aws:iam::{ACCOUNT}:role/reader"
actions = ["codeartifact:GetAuthorizationToken", "codeartifact:ReadFromRepository", "sts:GetServiceBearerToken"]
"""


def binary() -> pathlib.Path:
    default = pathlib.Path(__file__).parents[2] / "target" / "debug" / "wheelport"
    path = pathlib.Path(os.environ.get("WHEELPORT_BINARY", default))
    if not path.exists():
        pytest.exit(f"{path} is missing: build the program or set WHEELPORT_BINARY", returncode=2)
    return path


def printed(pattern: str, log: pathlib.Path, process: subprocess.Popen) -> str:
    """What a starting server says of itself: the first group of the pattern in its log."""
    deadline = time.monotonic() + START_SECONDS
    while not (found := re.search(pattern, log.read_text())):
        assert process.poll() is None, f"it ended with {process.returncode}:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"it did not print /{pattern}/:\n{log.read_text()}"
        time.sleep(0.05)
    return found[1]


class Emulator:
    """A running emulator and the ways to reach it."""

    def __init__(self, control: str, data: str, home: pathlib.Path):
        self.control = control
        self.data = data
        self.home = home

    def environment(self, keys=ADMINISTRATOR, **more: str) -> dict[str, str]:
        """The environment of a program that uses the emulator instead of AWS, and no other AWS configuration."""
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "PIP_", "UV_", "TWINE_")) and not name.lower().endswith("_proxy")
        }
        nothing = str(self.home / "nothing")
        clean |= {
            "HOME": str(self.home),
            "AWS_CONFIG_FILE": nothing,
            "AWS_SHARED_CREDENTIALS_FILE": nothing,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL_CODEARTIFACT": self.control,
            "AWS_ENDPOINT_URL_STS": self.control,
        }
        if keys:
            clean |= {"AWS_ACCESS_KEY_ID": keys[0], "AWS_SECRET_ACCESS_KEY": keys[1]}
        return clean | more

    def client(self, service="codeartifact", keys=ADMINISTRATOR, token=None, region=REGION):
        session = boto3.session.Session(
            aws_access_key_id=keys[0],
            aws_secret_access_key=keys[1],
            aws_session_token=token,
            region_name=region,
        )
        # One attempt: a test wants to see the first refusal.
        config = botocore.config.Config(retries={"total_max_attempts": 1}, proxies={})
        return session.client(service, endpoint_url=self.control, config=config)

    def upload(self, domain: str, repository: str, token: str, wheel: tuple[str, bytes], **more: str) -> None:
        name, content = wheel
        project, version = name.split("-")[:2]
        fields = {
            ":action": "file_upload",
            "protocol_version": "1",
            "metadata_version": "2.1",
            "name": project,
            "version": version,
            "filetype": "bdist_wheel",
            "pyversion": "py3",
        } | more
        boundary = uuid.uuid4().hex
        body = b"".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
            for field, value in fields.items()
        )
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        body += content + f"\r\n--{boundary}--\r\n".encode()
        request = urllib.request.Request(
            f"{self.data}/pypi/d/{domain}-{ACCOUNT}/{repository}/",
            data=body,
            headers={
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Authorization": "Basic " + base64.b64encode(f"aws:{token}".encode()).decode(),
            },
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200


def make_wheel(project: str, version: str, requires: list[str] = ()) -> tuple[str, bytes]:
    """A small valid wheel: file name and bytes."""
    info = f"{project}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\nSummary: A sample\nLicense: MIT\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    metadata += "Description-Content-Type: text/markdown\n\n# Sample\n"
    files = {
        f"{project}/__init__.py": f'__version__ = "{version}"\n',
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return f"{project}-{version}-py3-none-any.whl", buffer.getvalue()
