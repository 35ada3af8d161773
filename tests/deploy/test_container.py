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
import tomllib

import pytest

import install_tools
from tools import ROOT, output, root_rights, tool
from wheels import wheel
from world import World, get, wait_for

DOCKERFILE = (ROOT / "Dockerfile").read_text()
# The manifests of the workspace's members but the root's.
MEMBERS = sorted((ROOT / "crates").glob("*/Cargo.toml"))
# As the first container of an engine's default network has it.
ADDRESS = "172.17.0.2"
LOCAL = r"http://127\.0\.0\.1:\d+"
QUIET = ["--fail", "--silent", "--show-error"]
PROGRAM_INSIDE = "/usr/local/bin/wheelport"

# An engine's part of the work: the root file system read-only, a cache volume, /proc and the host's resolver, an ordinary user
# without any privilege that it could win back; if wanted, a network of its own with an address that is not loopback's.
ENGINE = """
set -eu
root="$1" cache="$2" user="$3"; shift 3
if [ "${NETWORK:-}" ]; then ip link set lo up; ip address add "$NETWORK/32" dev lo; fi
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
mount --bind "$cache" "$root/var/cache/wheelport"
if [ "${TMPFS:-}" ]; then mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"; fi
mount -o remount,bind,ro "$root"
unset NETWORK TMPFS
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
    root_rights("mount and change the root directory")
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
            [tool("unshare"), "--mount", *(["--net"] if "NETWORK" in more else []), "sh", "-c", ENGINE, "engine", root, cache, as_user, PROGRAM_INSIDE, *arguments],
            env={"PATH": install_tools.PATH, **environment(), **more},
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

    def beside(self, *command: str | pathlib.Path, **more: object) -> str:
        """Runs something in the container's network."""
        return output(tool("nsenter"), f"--net=/proc/{self.process.pid}/ns/net", *command, **more)

    def stop(self) -> None:
        """Every step of ENGINE's way replaces the one before, so this reaches the program itself."""
        self.process.terminate()
        self.process.communicate(timeout=70)
        assert self.process.returncode == 0, "it stops cleanly"


def test_there_are_stages_and_the_last_one_has_no_shell() -> None:
    bases = [rest.split(" ")[0] for keyword, rest in instructions() if keyword == "FROM"]
    assert len(bases) == 2 and bases[0].startswith("rust:") and bases[-1] == "scratch"
    assert bases[0].endswith("${RUST_DIGEST}") and re.search(r"^ARG RUST_DIGEST=@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    for keyword, rest in final_stage():
        if keyword in ("ENTRYPOINT", "CMD"):
            json.loads(rest)
        if keyword == "HEALTHCHECK":
            assert json.loads(rest.split("CMD", 1)[1])[0] == PROGRAM_INSIDE
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user()), "numbers, or Kubernetes cannot tell that it is not root"


def test_the_dependencies_are_a_layer_of_their_own() -> None:
    found = instructions()
    sources = [found.index(("COPY", "src ./src")), found.index(("COPY", "crates ./crates"))]
    builds = [at for at, (keyword, rest) in enumerate(found) if keyword == "RUN" and "cargo build" in rest]
    assert builds[0] < min(sources) and max(sources) < builds[1]
    copied = [rest for keyword, rest in found[: min(sources)] if keyword == "COPY"]
    manifests = [path.relative_to(ROOT) for path in MEMBERS]
    assert copied == ["Cargo.toml Cargo.lock ./", *(f"{path} ./{path.parent}/" for path in manifests)]


def test_cargo_finds_what_the_manifest_names(tmp_path: pathlib.Path) -> None:
    """Both stages of the build, up to the point where cargo would begin to compile."""
    looks = 0
    stale = [tmp_path / "target" / "release" / path for path in artifacts()]
    host = re.search(r"^host: (\S+)$", output(tool("rustc"), "-vV"), re.MULTILINE)[1]
    found = instructions()
    for keyword, rest in found[: found.index(("COPY", "--from=build /root-fs/ /"))]:
        if keyword == "COPY":
            *sources, target = rest.split()
            (tmp_path / target).mkdir(parents=True, exist_ok=True)
            for source in sources:
                # As an engine does it: of a folder, what is in it.
                output("cp", "-a", f"{ROOT / source}/." if (ROOT / source).is_dir() else ROOT / source, tmp_path / target)
        if keyword == "RUN" and "cargo build" in rest:
            looks += 1
            step = re.sub(r"cargo build [^&]*", f"cargo fetch --locked --offline --target {host} ", rest)
            if looks == 1:
                for path in stale:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
            output(tool("sh"), "-ec", step, cwd=tmp_path)
            left = [path for path in [*stale, *tmp_path.glob("crates/*/src/**/*.rs")] if looks == 1 and path.exists()]
            assert not left, "the empty crates leave nothing that cargo could take for the real ones"
    assert looks == 2
    for manifest in [ROOT / "Cargo.toml", *MEMBERS]:
        library = manifest.parent.relative_to(ROOT) / "src" / "lib.rs"
        assert (tmp_path / library).read_text() == (ROOT / library).read_text(), "the real sources are built"


def artifacts() -> list[str]:
    """What the first stage's build leaves of the workspace's own crates, by cargo's naming."""
    names = [tomllib.loads(path.read_text())["package"]["name"] for path in [ROOT / "Cargo.toml", *MEMBERS]]
    found = ["wheelport", "wheelport.d", "libwheelport.rlib"]
    for name in names:
        crate = name.replace("-", "_")
        found += [f".fingerprint/{name}-0a1b/lib-{crate}", f"deps/lib{crate}-0a1b.rlib", f"deps/lib{crate}-0a1b.rmeta"]
        found += [f"deps/{crate}-0a1b.d", f"deps/{crate}-0a1b"]
    return found


def test_what_is_copied_is_let_in() -> None:
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {part for keyword, rest in instructions() if keyword == "COPY" and "--from" not in rest for part in rest.split()[:-1]}
    assert {root for root in admitted for path in copied if pathlib.PurePath(path).is_relative_to(root)} == admitted
    assert all(any(pathlib.PurePath(path).is_relative_to(root) for root in admitted) for path in copied)
    # What the sources include from elsewhere would be missing in the build.
    for path in [*(ROOT / "src").rglob("*.rs"), *(ROOT / "crates").rglob("*.rs")]:
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
        output(*install(f"{origin}/simple/", tmp_path / "site"))
        assert list((tmp_path / "site").glob("wheelport_hello-*.dist-info"))
        listen = origin.removeprefix("http://")
        told = output(tool("chroot"), f"--userspec={as_user}", root, PROGRAM_INSIDE, "healthcheck", "--ready", env={**environment(), "WHEELPORT_LISTEN": listen})
        assert told == ""
        owners = {path.stat().st_uid for path in cache.rglob("*") if path.is_file()}
        assert owners == {int(as_user.split(":")[0])}, "it runs as who it should"
    finally:
        container.stop()


def install(index: str, target: pathlib.Path) -> list[str | pathlib.Path]:
    """A command that installs a package."""
    pip = [install_tools.clients.python_of("bootstrap"), "-m", "pip", "--isolated", "install", "--quiet", "--no-cache-dir"]
    return [*pip, "--index-url", index, "--target", target, "wheelport-hello"]


def test_the_demo_of_the_readme(root: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """`docker run -p 8080:8080 wheelport demo`: the image's own settings and nothing else, in a network of its own."""
    assert "\ndocker run --rm -p 8080:8080 wheelport demo\n" in (ROOT / "README.md").read_text()
    container = Container(root, tmp_path / "cache", ["demo"], {"NETWORK": ADDRESS, "TMPFS": "yes"})
    try:
        assert container.until(r"--index-url (\S+)") == "http://127.0.0.1:8080/simple/"
        (check,) = [json.loads(rest.split("CMD", 1)[1]) for keyword, rest in final_stage() if keyword == "HEALTHCHECK"]
        container.beside(tool("curl"), *QUIET, "--retry", "60", "--retry-all-errors", "--retry-delay", "1", "http://127.0.0.1:8080/readyz")
        assert container.beside(tool("chroot"), root, *check, env=environment()) == ""
        # As the engine's forwarding of the port delivers it, and as other containers see it.
        for host in ("127.0.0.1", ADDRESS):
            site = tmp_path / host
            container.beside(*install(f"http://{host}:8080/simple/", site), *(["--trusted-host", host]))
            assert list(site.glob("wheelport_hello-*.dist-info")) and list(site.glob("wheelport_greeting-*.dist-info"))
        file = wheel("wheelport-hello", "9.9.9")
        (tmp_path / file.filename).write_bytes(file.data)
        form = [":action=file_upload", "name=wheelport-hello", "version=9.9.9", "filetype=bdist_wheel", f"content=@{tmp_path / file.filename}"]
        posted = [part for field in form for part in ("--form", field)]
        assert container.beside(tool("curl"), "--silent", "--output", os.devnull, "--write-out", "%{http_code}", *posted, "http://127.0.0.1:8080/") == "403"
        assert "9.9.9" not in container.beside(tool("curl"), *QUIET, "http://127.0.0.1:8080/simple/wheelport-hello/")
    finally:
        container.stop()
