"""Builds wheels and sdists by hand, byte for byte the same every time, so that tests need no build tool and no network."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import io
import random
import re
import tarfile
import zipfile

EPOCH = (2024, 1, 1, 0, 0, 0)

# The build backend that travels inside every sdist made here: no requirement has to be fetched to build one.
IN_TREE_BACKEND = '''\
import base64, hashlib, os, zipfile

FILES = {files!r}
FILENAME = {filename!r}
INFO = {info!r}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(os.path.join(wheel_directory, FILENAME), "w") as archive:
        record = []
        for path, text in FILES:
            archive.writestr(path, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{{path}},sha256={{digest}},{{len(text.encode())}}")
        record.append(INFO + "/RECORD,,")
        archive.writestr(INFO + "/RECORD", "\\n".join(record) + "\\n")
    return FILENAME


def build_sdist(sdist_directory, config_settings=None):
    raise NotImplementedError("this tree is only built from")


def get_requires_for_build_wheel(config_settings=None):
    return []
'''


@dataclasses.dataclass(frozen=True)
class Distribution:
    """One file as an index has it."""

    name: str
    version: str
    filename: str
    data: bytes
    metadata: bytes
    requires_python: str | None = None
    yanked: str | bool = False

    @property
    def project(self) -> str:
        """The normalised name."""
        return normalize(self.name)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def filetype(self) -> str:
        return "bdist_wheel" if self.filename.endswith(".whl") else "sdist"

    def as_yanked(self, reason: str) -> Distribution:
        return dataclasses.replace(self, yanked=reason)


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def module_of(name: str) -> str:
    """The import name of a package made here."""
    return normalize(name).replace("-", "_")


def wheel(
    name: str,
    version: str,
    *,
    requires: tuple[str, ...] = (),
    extras: dict[str, tuple[str, ...]] | None = None,
    requires_python: str | None = None,
    padding: int = 0,
    spelled: str | None = None,
) -> Distribution:
    """A pure wheel whose only module says its version.

    `padding` bytes of noise make it big; `spelled` is the name as the file name spells it, if not escaped properly.
    """
    metadata = core_metadata(name, version, requires, extras or {}, requires_python)
    contents = wheel_contents(name, version, metadata)
    if padding:
        contents.insert(1, (f"{module_of(name)}/noise.bin", noise(f"{name} {version}", padding)))
    filename = f"{spelled or module_of(name)}-{version}-py3-none-any.whl"
    data = archived(contents, f"{module_of(name)}-{version}.dist-info/RECORD")
    return Distribution(name, version, filename, data, metadata.encode(), requires_python)


def noise(seed: str, length: int) -> bytes:
    """Bytes that do not compress; in pieces, because Python makes no more than a quarter of a gigabyte at once."""
    source, piece = random.Random(seed), 1 << 24
    return b"".join(source.randbytes(min(piece, length - at)) for at in range(0, length, piece))


def sdist(
    name: str, version: str, *, requires: tuple[str, ...] = (), requires_python: str | None = None
) -> Distribution:
    """A source distribution that builds without any requirement."""
    metadata = core_metadata(name, version, requires, {}, requires_python)
    stem = f"{module_of(name)}-{version}"
    contents = [(path, data.decode()) for path, data in wheel_contents(name, version, metadata)]
    backend = IN_TREE_BACKEND.format(
        files=contents, filename=f"{stem}-py3-none-any.whl", info=f"{stem}.dist-info"
    )
    project = '[build-system]\nrequires = []\nbuild-backend = "in_tree"\nbackend-path = ["backend"]\n'
    project += f'\n[project]\nname = "{name}"\nversion = "{version}"\n'
    project += f"dependencies = {list(requires)!r}\n"
    if requires_python:
        project += f'requires-python = "{requires_python}"\n'
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, text in [
                ("PKG-INFO", metadata),
                ("pyproject.toml", project),
                ("backend/in_tree.py", backend),
            ]:
                entry = tarfile.TarInfo(f"{stem}/{path}")
                entry.size = len(text.encode())
                entry.mtime = 1_704_067_200
                archive.addfile(entry, io.BytesIO(text.encode()))
    return Distribution(name, version, f"{stem}.tar.gz", buffer.getvalue(), metadata.encode(), requires_python)


def core_metadata(
    name: str,
    version: str,
    requires: tuple[str, ...],
    extras: dict[str, tuple[str, ...]],
    requires_python: str | None,
) -> str:
    # 2.2 without `Dynamic`: installers may believe an sdist's own statement and need not build it to resolve.
    lines = ["Metadata-Version: 2.2", f"Name: {name}", f"Version: {version}", "Summary: Made by a test"]
    if requires_python:
        lines.append(f"Requires-Python: {requires_python}")
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    for extra, wanted in extras.items():
        lines.append(f"Provides-Extra: {extra}")
        lines += [f'Requires-Dist: {requirement} ; extra == "{extra}"' for requirement in wanted]
    return "\n".join(lines) + "\n"


def wheel_contents(name: str, version: str, metadata: str) -> list[tuple[str, bytes]]:
    info = f"{module_of(name)}-{version}.dist-info"
    tags = "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    return [
        (f"{module_of(name)}/__init__.py", f'VERSION = "{version}"\n'.encode()),
        (f"{info}/METADATA", metadata.encode()),
        (f"{info}/WHEEL", tags.encode()),
    ]


def archived(contents: list[tuple[str, bytes]], record_path: str) -> bytes:
    record = "".join(f"{path},sha256={urlsafe(data)},{len(data)}\n" for path, data in contents) + f"{record_path},,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in [*contents, (record_path, record.encode())]:
            entry = zipfile.ZipInfo(path, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_STORED if path.endswith(".bin") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()


def urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
