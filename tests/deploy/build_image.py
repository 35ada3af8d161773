#!/usr/bin/env python3
"""Builds the Dockerfile's image without a daemon and unpacks it, for `WHEELPORT_IMAGE_ROOT=FOLDER/root scripts/test tests/deploy/test_container.py`.

    tests/deploy/build_image.py FOLDER [--base]

Needs root and Debian's buildah. With `--base` the base image is made here, too, under the name that the Dockerfile uses: a Debian by debootstrap
(from the mirror of this machine) with this machine's Rust toolchain. That is for machines that reach no image registry. It is a release build and takes its
time; dependencies stay in a layer between runs.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*command: str | pathlib.Path) -> str:
    return subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def base_image(buildah: list[str], folder: pathlib.Path) -> None:
    """What `rust:VERSION-slim-DEBIAN` has, as far as the build needs it."""
    text = (ROOT / "Dockerfile").read_text()
    version, debian = (re.search(rf"^ARG {name}=(\S+)$", text, re.MULTILINE)[1] for name in ("RUST_VERSION", "DEBIAN_RELEASE"))
    system = folder / "base"
    sources = "\n".join(path.read_text() for path in pathlib.Path("/etc/apt").rglob("*.sources"))
    mirror = re.search(r"^URIs: (\S+)", sources, re.MULTILINE)[1]
    run("debootstrap", "--variant=minbase", "--include=gcc,libc6-dev,ca-certificates", debian, system, mirror)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", system / "etc/ssl/certs/ca-certificates.crt")
    toolchain = pathlib.Path(run("rustc", "--print", "sysroot"))
    ignored = shutil.ignore_patterns("doc")
    shutil.copytree(toolchain, system / "usr/local/rust", symlinks=True, ignore=ignored)
    container = run(*buildah, "from", "scratch")
    run(*buildah, "add", container, system, "/")
    run(*buildah, "config", "--env", "PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin", "--env", "CARGO_HOME=/usr/local/cargo", container)
    run(*buildah, "commit", container, f"localhost/rust:{version}-slim-{debian}")
    run(*buildah, "rm", container)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--base", action="store_true")
    given = parser.parse_args()
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    buildah = ["buildah", "--root", str(folder / "storage"), "--runroot", str(folder / "run"), "--storage-driver", "overlay"]
    if given.base:
        base_image(buildah, folder)
    # The base image is the one made above, which cannot have the digest of the real one.
    options = ["--isolation", "chroot", "--format", "docker", "--layers", "--pull=false", "--build-arg", "RUST_DIGEST="]
    subprocess.run([*buildah, "build", *options, "--tag", "wheelport", str(ROOT)], check=True)
    container = run(*buildah, "from", "--pull-never", "localhost/wheelport")
    shutil.rmtree(folder / "root", ignore_errors=True)
    run("cp", "-a", run(*buildah, "mount", container), folder / "root")
    run(*buildah, "rm", container)
    print(folder / "root")


if __name__ == "__main__":
    main()
