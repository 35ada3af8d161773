#!/usr/bin/env python3
"""Writes what is built into the program as a CycloneDX 1.5 document: each crate with its version, licence and the lock file's checksum.

The same lock file and SOURCE_DATE_EPOCH give the same bytes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]


def crates(target: str) -> list[tuple[str, str, str]]:
    """Name, version and licence of what is linked for this target; what only builds or tests is left out."""
    command = ["cargo", "tree", "--locked", "--target", target, "--edges", "normal", "--prefix", "none", "--format", "{p}\t{l}"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = set()
    for line in listing.splitlines():
        package, _, licence = line.removesuffix(" (*)").partition("\t")
        name, version = package.split(" ")[:2]
        found.add((name, version.removeprefix("v"), licence))
    return sorted(found)


def component(name: str, version: str, licence: str, checksum: str | None) -> dict[str, object]:
    purl = f"pkg:cargo/{name}@{version}"
    entry: dict[str, object] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if licence:
        entry["licenses"] = [{"expression": licence.replace("/", " OR ") if " " not in licence else licence}]
    if checksum:
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return entry


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    target = parser.parse_args().target
    lock = (ROOT / "Cargo.lock").read_bytes()
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in tomllib.loads(lock.decode())["package"]}
    found = [component(name, version, licence, checksums.get((name, version))) for name, version, licence in crates(target)]
    (own,) = [entry for entry in found if entry["name"] == "wheelport"]
    time = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), datetime.UTC)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, target + lock.decode())}",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {**own, "type": "application"},
            "properties": [{"name": "target", "value": target}],
        },
        "components": [entry for entry in found if entry is not own],
    }
    json.dump(document, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
