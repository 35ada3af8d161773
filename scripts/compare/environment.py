"""A made-up environment of a hundred projects that depend on each other, and its way into the emulator.

Ten layers of ten projects, eight versions of each. A project needs two or three projects of the next layer, in ranges
that every correct answer fits into; of some projects only an older version does, and who asks for the newest has to turn
back. The same seed makes the same bytes every time.
"""

import base64
import concurrent.futures
import datetime
import hashlib
import hmac
import io
import json
import random
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from dataclasses import dataclass

LAYERS, WIDTH, VERSIONS = 10, 10, 8
KIB, MIB = 1 << 10, 1 << 20
# What one wheel of a project weighs: a few are heavy, as in a real environment.
WEIGHTS = [3 * MIB] + [256 * KIB] * 3 + [20 * KIB] * 6
DOMAIN, OWNER, REPOSITORY, REGION = "demo", "111122223333", "python", "eu-central-1"
ACCESS_KEY, SECRET_KEY = "AKIAEMULATOR00000000", "wheelport-emulator-secret-key-0000000000"


@dataclass(frozen=True)
class Distribution:
    name: str
    version: str
    file: str
    content: bytes


def name_of(layer: int, place: int) -> str:
    return f"layer{layer}-part{place}"


def roots() -> list[str]:
    return [name_of(0, place) for place in range(WIDTH)]


def newest(layer: int, place: int) -> int:
    """The newest version of a project that fits with everything else."""
    return VERSIONS - 2 if (layer + place) % 10 == 7 else VERSIONS


def needs(layer: int, place: int) -> list[str]:
    """The requirements of a project, the same in every version."""
    if layer + 1 == LAYERS:
        return []
    found = []
    for step in (0, 1, 3) if place % 2 else (0, 3):
        other = (place + step) % WIDTH
        limit = newest(layer + 1, other)
        # Not everybody names the limit, so it is found out about only along the way.
        upper = f",<{limit + 1}" if limit < VERSIONS and step == 0 else ""
        found.append(f"{name_of(layer + 1, other)}>=2{upper}")
    return found


def distributions():
    """All wheels, one after the other."""
    for layer in range(LAYERS):
        for place in range(WIDTH):
            for version in range(1, VERSIONS + 1):
                yield wheel(name_of(layer, place), f"{version}.0", needs(layer, place), WEIGHTS[place])


def wheel(name: str, version: str, requirements: list[str], weight: int) -> Distribution:
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Requires-Python: >=3.9"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
    files = {
        f"{module}/__init__.py": b"",
        f"{module}/data.bin": random.Random(f"{name} {version}").randbytes(weight),
        f"{info}/METADATA": ("\n".join(lines) + "\n").encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: compare\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{hashed(body)},{len(body)}\n" for path, body in files.items()) + f"{info}/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, body in {**files, f"{info}/RECORD": record.encode()}.items():
            archive.writestr(zipfile.ZipInfo(path), body)
    return Distribution(name, version, f"{module}-{version}-py3-none-any.whl", buffer.getvalue())


def hashed(body: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()


def publish(data: str, token: str) -> tuple[int, int]:
    """Everything into the emulator; how many files and bytes that were."""
    count = volume = 0
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for size in pool.map(lambda each: upload(data, token, each), distributions()):
            count, volume = count + 1, volume + size
    return count, volume


def upload(data: str, token: str, each: Distribution) -> int:
    boundary = "a-boundary-that-no-wheel-contains"
    fields = {
        ":action": "file_upload",
        "protocol_version": "1",
        "metadata_version": "2.1",
        "name": each.name,
        "version": each.version,
        "filetype": "bdist_wheel",
        "pyversion": "py3",
        "requires_python": ">=3.9",
        "sha256_digest": hashlib.sha256(each.content).hexdigest(),
    }
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{each.file}"\r\n\r\n')
    body = "".join(parts).encode() + each.content + f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Authorization": "Basic " + base64.b64encode(f"aws:{token}".encode()).decode(),
    }
    with urllib.request.urlopen(urllib.request.Request(f"{data}/pypi/{REPOSITORY}/", body, headers), timeout=60) as answer:
        answer.read()
    return len(each.content)


def token(control: str) -> str:
    """A token from the emulator's control plane, asked for as AWS wants it signed."""
    query = f"domain={DOMAIN}&domain-owner={OWNER}"
    host = urllib.parse.urlsplit(control).netloc
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{REGION}/codeartifact/aws4_request"
    empty = hashlib.sha256().hexdigest()
    canonical = f"POST\n/v1/authorization-token\n{query}\nhost:{host}\nx-amz-date:{stamp}\n\nhost;x-amz-date\n{empty}"
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{SECRET_KEY}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    headers = {
        "X-Amz-Date": stamp,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders=host;x-amz-date, Signature={signature}",
    }
    request = urllib.request.Request(f"{control}/v1/authorization-token?{query}", b"", headers, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["authorizationToken"]


def turn(data: str, **switches: object) -> None:
    """Turns the emulator's switches."""
    urllib.request.urlopen(
        urllib.request.Request(f"{data}/_emulator/oddities", json.dumps(switches).encode()), timeout=30
    ).close()


def stats(data: str, forget: bool = False) -> dict:
    request = urllib.request.Request(f"{data}/_emulator/stats", method="DELETE" if forget else "GET")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
