"""The container image: its description, and its root file system started as an engine would start it.

The root file system is put together by the Dockerfile's own step around the program that is under test; `build_image.py` builds the real
image, and WHEELPORT_IMAGE_ROOT names where its root file system lies if these tests shall start that one.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest

from tools import ROOT, output, tool
from world import World, get, wait_for

DOCKERFILE = (ROOT / "Dockerfile").read_text()
LOCAL = r"http://127\.0\.0\.1:\d+"
PROGRAM_INSIDE = "/usr/local/bin/wheelport"

# An engine's part of the work: the root file system read-only, a cache volume, /proc and the host's resolver, an ordinary user
# without any privilege that it could win back.
ENGINE = """
set -eu
root="$1" cache="$2" user="$3"; shift 3
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
mount --bind "$cache" "$root/var/cache/wheelport"
if [ "${TMPFS:-}" ]; then mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"; fi
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs --bounding-set -all,+sys_chroot,+setuid,+setgid chroot --userspec="$user" "$root" "$@"
"""


def instructions() -> list[tuple[str, str]]:
    """Keyword and argument, with continued lines joined and comments left out."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    return [(keyword, rest.strip()) for keyword, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def final_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(at for at, (keyword, _) in enumerate(found) if keyword == "FROM") :]


def environment() -> dict[str, str]:
    return dict(setting.split("=", 1) for keyword, rest in final_stage() if keyword == "ENV" for setting in shlex.split(rest))


def user() -> str:
    (found,) = [rest for keyword, rest in final_stage() if keyword == "USER"]
    return found


@pytest.fixture(scope="module")
def root(program: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The image's root file system, with the mount points that an engine makes."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount and change the root directory")
    folder = tmp_path_factory.mktemp("image")
    if built := os.environ.get("WHEELPORT_IMAGE_ROOT"):
        output("cp", "-a", f"{built}/.", folder / "root-fs")
    else:
        release = folder / "target" / "release"
        release.mkdir(parents=True)
        (release / "wheelport").hardlink_to(program) if program.stat().st_dev == release.stat().st_dev else output("cp", program, release)
        (step,) = [rest for keyword, rest in instructions() if keyword == "RUN" and "/root-fs" in rest]
        output("sh", "-c", step.replace("/root-fs", str(folder / "root-fs")), cwd=folder)
    root = folder / "root-fs"
    for path in ("proc", "dev"):
        (root / path).mkdir(exist_ok=True)
    (root / "etc" / "resolv.conf").touch()
    folder.chmod(0o755)
    return root


class Container:
    """One container, ended by `stop`."""

    def __init__(self, root: pathlib.Path, cache: pathlib.Path, arguments: list[str], more: dict[str, str], as_user: str = user()) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        owner, group = (int(part) for part in as_user.split(":"))
        os.chown(cache, 65532, 0)
        cache.chmod(0o770)
        assert (owner == 65532) or group == 0
        self.process = subprocess.Popen(
            [tool("unshare"), "--mount", "sh", "-c", ENGINE, "engine", root, cache, as_user, PROGRAM_INSIDE, *arguments],
            env={"PATH": os.environ["PATH"], **environment(), **more},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )

    def until(self, pattern: str) -> str:
        assert self.process.stdout
        seen = ""
        for line in self.process.stdout:
            seen += line
            if found := re.search(pattern, line):
                return found[1]
        raise AssertionError(f"/{pattern}/ was not printed, but:\n{seen}")

    def stop(self) -> None:
        """Every step of ENGINE's way replaces the one before, so this reaches the program itself."""
        self.process.terminate()
        self.process.communicate(timeout=70)
        assert self.process.returncode == 0, "it stops cleanly"


def test_there_are_stages_and_the_last_one_has_no_shell() -> None:
    bases = [rest.split(" ")[0] for keyword, rest in instructions() if keyword == "FROM"]
    assert len(bases) == 2 and bases[0].startswith("rust:") and bases[-1] == "scratch"
    for keyword, rest in final_stage():
        if keyword in ("ENTRYPOINT", "CMD"):
            json.loads(rest)
        if keyword == "HEALTHCHECK":
            assert json.loads(rest.split("CMD", 1)[1])[0] == PROGRAM_INSIDE
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user()), "numbers, or Kubernetes cannot tell that it is not root"


def test_the_dependencies_are_a_layer_of_their_own() -> None:
    found = instructions()
    sources = found.index(("COPY", "src ./src"))
    builds = [at for at, (keyword, rest) in enumerate(found) if keyword == "RUN" and "cargo build" in rest]
    assert builds[0] < sources < builds[1]
    copied = [rest for keyword, rest in found[:sources] if keyword == "COPY"]
    assert copied == ["Cargo.toml Cargo.lock ./"]


def test_what_is_copied_is_let_in() -> None:
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {part for keyword, rest in instructions() if keyword == "COPY" and "--from" not in rest for part in rest.split()[:-1]}
    assert copied == admitted
    # What the sources include from elsewhere would be missing in the build.
    for path in (ROOT / "src").rglob("*.rs"):
        for name in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', path.read_text()):
            included = (path.parent / name).resolve().relative_to(ROOT)
            assert any(included.is_relative_to(part) for part in copied), f"{path} includes {included}"


def test_the_toolchain_is_new_enough() -> None:
    wanted = re.search(r'^rust-version = "(\d+)\.(\d+)', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    used = re.search(r"^ARG RUST_VERSION=(\d+)\.(\d+)$", DOCKERFILE, re.MULTILINE)
    assert wanted and used
    assert tuple(map(int, used.groups())) >= tuple(map(int, wanted.groups()))


def test_there_is_nothing_in_it_but_the_program(root: pathlib.Path) -> None:
    programs = {path.relative_to(root) for path in root.rglob("*") if path.is_file() and os.access(path, os.X_OK)}
    assert {str(path) for path in programs if "lib" not in path.parts and "lib64" not in path.parts} == {PROGRAM_INSIDE[1:]}
    assert (root / "etc/ssl/certs/ca-certificates.crt").read_text().count("BEGIN CERTIFICATE") > 50


@pytest.mark.parametrize("as_user", [user(), "1234:0"])
def test_a_package_is_installed_through_it(root: pathlib.Path, served: World, tmp_path: pathlib.Path, as_user: str) -> None:
    settings = {name: value for name, value in served.proxy.environment.items() if name not in environment()}
    settings |= {"WHEELPORT_LISTEN": "127.0.0.1:0", "WHEELPORT_OPS_LISTEN": "127.0.0.1:0"}
    cache = tmp_path / "cache"
    container = Container(root, cache, ["serve"], settings, as_user)
    try:
        origin = container.until(rf"listens on ({LOCAL})")
        wait_for(lambda: get(f"{origin}/readyz")[0] == 200, "the proxy is ready")
        command = [sys.executable, "-m", "pip"] if (pathlib.Path(sys.prefix) / "bin/pip").exists() else [str(pip())]
        output(*command, "--isolated", "install", "--quiet", "--no-cache-dir", "--index-url", f"{origin}/simple/", "--target", tmp_path / "site", "wheelport-hello")
        assert list((tmp_path / "site").glob("wheelport_hello-*.dist-info"))
        listen = origin.removeprefix("http://")
        told = output(tool("chroot"), f"--userspec={as_user}", root, PROGRAM_INSIDE, "healthcheck", "--ready", env={**environment(), "WHEELPORT_LISTEN": listen})
        assert told == ""
        owners = {path.stat().st_uid for path in cache.rglob("*") if path.is_file()}
        assert owners == {int(as_user.split(":")[0])}, "it runs as who it should"
    finally:
        container.stop()


def pip() -> pathlib.Path:
    """The harness has none of its own."""
    found = pathlib.Path(sys.prefix).parent / "bootstrap" / "bin" / "pip"
    assert found.exists(), found
    return found


def test_the_demo_runs_in_it(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """`docker run -p 8080:8080 wheelport demo`; here with a read-only root and a temporary file system."""
    container = Container(root, tmp_path / "cache", ["demo"], {"WHEELPORT_LISTEN": "127.0.0.1:0", "TMPFS": "yes"})
    try:
        origin = container.until(rf"--index-url ({LOCAL})/simple/")
        wait_for(lambda: get(f"{origin}/readyz")[0] == 200, "the demo is ready")
        assert get(f"{origin}/simple/wheelport-hello/")[0] == 200
    finally:
        container.stop()
