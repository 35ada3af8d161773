"""The files that everybody serves: pages of several sizes, and wheels of several sizes.

The tree has CodeArtifact's shape, so that one server of static files can be the upstream of all servers compared.
"""

import base64
import gzip
import hashlib
import io
import json
import os
import random
import zipfile
from dataclasses import dataclass
from pathlib import Path

PREFIX = "pypi/python/simple"
KIB, MIB = 1 << 10, 1 << 20

# Projects with nothing but a page: name to number of files. The sizes are those of our JSON.
PAGES = {"page-75k": 268, "page-1500k": 5330, "page-5m": 15_000}
# Wheels: name to bytes. Below a mebibyte they are real wheels with core metadata.
WHEELS = {
    "wheel-10k": 10 * KIB,
    "wheel-16m": 16 * MIB,
    "wheel-32m": 32 * MIB,
    "wheel-200m": 200 * MIB,
    "wheel-300m": 300 * MIB,
}


@dataclass(frozen=True)
class Wheel:
    project: str
    file: str
    path: Path
    address: str


def write_pages(root: Path, pages: dict[str, int] | None = None) -> None:
    for name, count in (pages or PAGES).items():
        picked = random.Random(name)
        module = name.replace("-", "_")
        files = []
        for number in range(count):
            version = f"{number // 400}.{number // 20 % 20}.{number % 20}"
            file = f"{module}-{version}-py3-none-any.whl"
            files.append(entry(file, version, picked.randbytes(32).hex(), picked.randrange(10_000, 9_000_000)))
        write_page(root, name, files)


def write_wheels(root: Path, wheels: dict[str, int] | None = None) -> dict[str, Wheel]:
    written = {}
    for name, size in (wheels or WHEELS).items():
        module, version = name.replace("-", "_"), "1.0"
        file = f"{module}-{version}-py3-none-any.whl"
        path = root / PREFIX / name / version / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            content = real_wheel(module, version, size) if size < MIB else None
            if content is None:
                write_noise(path, size)
            else:
                path.write_bytes(content)
        digest = hashlib.file_digest(path.open("rb"), "sha256").hexdigest()
        write_page(root, name, [entry(file, version, digest, path.stat().st_size)])
        written[name] = Wheel(name, file, path, f"/{PREFIX}/{name}/{version}/{file}")
    return written


def write_projects(root: Path) -> None:
    """The list of all projects written so far; not every server does without it."""
    home = root / PREFIX
    projects = [{"name": path.name} for path in sorted(home.iterdir()) if path.is_dir()]
    (home / "index.json").write_text(json.dumps({"meta": {"api-version": "1.1"}, "projects": projects}))


def entry(file: str, version: str, sha256: str, size: int) -> dict:
    return {
        "filename": file,
        "url": f"{version}/{file}",
        "hashes": {"sha256": sha256},
        "requires-python": ">=3.9",
        "size": size,
        "upload-time": "2026-03-01T12:00:00.000000Z",
    }


def write_page(root: Path, name: str, files: list[dict]) -> None:
    versions = list(dict.fromkeys(file["url"].split("/")[0] for file in files))
    page = {"meta": {"api-version": "1.1"}, "name": name, "versions": versions, "files": files}
    directory = root / PREFIX / name
    directory.mkdir(parents=True, exist_ok=True)
    body = json.dumps(page, separators=(",", ":")).encode()
    (directory / "index.json").write_bytes(body)
    (directory / "index.json.gz").write_bytes(gzip.compress(body, 6, mtime=0))


def write_noise(path: Path, size: int) -> None:
    with path.open("wb") as file:
        while size:
            size -= file.write(os.urandom(min(size, MIB)))


def real_wheel(module: str, version: str, size: int) -> bytes:
    info = f"{module}-{version}.dist-info"
    description = base64.b64encode(os.urandom(3000)).decode()
    metadata = f"Metadata-Version: 2.1\nName: {module}\nVersion: {version}\nRequires-Python: >=3.9\n\n{description}\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{module}/__init__.py", "")
        archive.writestr(f"{module}/data.bin", os.urandom(max(0, size - 5500)))
    return buffer.getvalue()
