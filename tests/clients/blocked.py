"""What package clients do when the newest version is blocked by a rule: one cell for each client and each way to ask.

`scripts/policy-table` runs all cells and writes them into docs/POLICY.md; `test_rules.py` runs the important ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

from clients import PDM, PIP, PIP_20, PIP_TOOLS, POETRY, UV, Bench, Client, Installed, Pdm, Pip, PipTools, Poetry, Uv, tool
from wheels import wheel
from world import World, get, wait_for

PROJECT = "acme-tool"
REASON = "2.0 deletes data; use 1.0."
RULE = f"""
[[rule]]
name = "acme-tool-2"
projects = ["{PROJECT}"]
versions = "==2.0"
reason = "{REASON}"
"""
# The longest sentence of the table.
LONGEST = 170
CLIENTS: dict[str, Client] = {
    "pip 20.3": PIP_20, "pip": PIP, "uv": UV, "poetry": POETRY, "pdm": PDM, "pip-tools": PIP_TOOLS,
}  # fmt: skip


class Ended(Exception):
    """A client ended with an error."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(done.returncode)
        self.code, self.output = done.returncode, done.stdout


class Watched(Bench):
    """A bench on which an error of a client is an outcome like others."""

    def run(self, command, cwd=None, check=True, **environment):  # noqa: ANN001: as in the class above it
        done = super().run(command, cwd, False, **environment)
        if check and done.returncode != 0:
            raise Ended(done)
        return done


@dataclasses.dataclass(frozen=True)
class Cell:
    """What came of one way to ask."""

    code: int
    version: str | None
    sentence: str

    @property
    def outcome(self) -> str:
        """As it stands in the table."""
        return f"{self.version}" if self.code == 0 and self.version else f"exit {self.code}"


class Blocked:
    """A world in which the rule can be put into force and taken back."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.index = f"{world.proxy.origin}/simple/"
        self._rules = world.folder / "rules"
        self._rules.mkdir()
        world.emulator.upload(wheel(PROJECT, "1.0"), wheel(PROJECT, "2.0"))
        world.proxy.stop()
        world.proxy.start_with(f'[policy]\ndirectory = "{self._rules}"\n')
        world.proxy.wait_until_ready()

    @contextlib.contextmanager
    def rule(self) -> Iterator[None]:
        """The rule is in force within the block."""
        self._change(RULE)
        try:
            yield
        finally:
            self._change("")

    def _change(self, text: str) -> None:
        (self._rules / "rules.toml").write_text(text)
        wanted = 1 if text else 0
        wait_for(lambda: self._number() == wanted, "the rules are read")

    def _number(self) -> int:
        status, body = get(f"{self.world.proxy.operations}/metrics")
        found = re.search(rb"^wheelport_policy_rules (\d+)$", body, re.MULTILINE)
        assert status == 200 and found, body
        return int(found[1])


def newest(blocked: Blocked, client: Client, bench: Bench) -> Callable[[], Installed]:
    return lambda: client.install(bench, blocked.index, PROJECT)


def pinned(blocked: Blocked, client: Client, bench: Bench) -> Callable[[], Installed]:
    return lambda: client.install(bench, blocked.index, f"{PROJECT}==2.0")


def at_least(blocked: Blocked, client: Client, bench: Bench) -> Callable[[], Installed]:
    return lambda: client.install(bench, blocked.index, f"{PROJECT}>=2.0")


def cached(blocked: Blocked, client: Client, bench: Bench) -> Callable[[], Installed]:
    """The client has the version in its own cache, from before the rule."""
    client.install(bench, blocked.index, f"{PROJECT}==2.0")
    return lambda: client.install(bench, blocked.index, f"{PROJECT}==2.0")


def locked(blocked: Blocked, client: Client, bench: Bench) -> Callable[[], Installed]:
    """A lock with hashes from before the rule, on a machine that has nothing cached."""
    index, other = blocked.index, Watched(bench.folder / "other")
    if isinstance(client, Uv):
        lock = client.lock(bench, index, PROJECT)
        return lambda: client.sync(other, index, lock, PROJECT)
    if isinstance(client, Poetry):
        lock = client.lock(bench, index, PROJECT)

        def install() -> Installed:
            folder = client.project(other, index, PROJECT)
            (folder / "poetry.lock").write_text(lock)
            environment = other.new_environment(folder / ".venv")
            return Installed(environment, client.run(other, folder, "install", "--no-root").stdout)

        return install
    if isinstance(client, Pdm):
        before = client.install(bench, index, PROJECT).environment.parent
        texts = {name: (before / name).read_text() for name in ("pyproject.toml", "pdm.lock")}

        def sync() -> Installed:
            folder = other.place("project")
            for name, text in texts.items():
                (folder / name).write_text(text)
            environment = other.new_environment(folder / ".venv")
            more = {"PDM_CHECK_UPDATE": "false", "PDM_CACHE_DIR": str(other.home / "pdm"), "PDM_IGNORE_SAVED_PYTHON": "1"}
            done = other.run([tool("pdm", "pdm"), "sync", "--no-self"], cwd=folder, **more)
            return Installed(environment, done.stdout)

        return sync
    requirements = bench.folder / "locked.txt"
    if isinstance(client, PipTools):
        requirements.write_text(client.compile(bench, index, PROJECT, options=("--generate-hashes",)))
    else:
        requirements.write_text(PIP_TOOLS.compile(bench, index, PROJECT, options=("--generate-hashes",)))

    def install_requirements() -> Installed:
        if isinstance(client, Pip):
            return client.install(other, index, options=("--require-hashes", "--requirement", requirements))
        environment = other.new_environment()
        command = [tool(client.name, "python"), "-m", "pip", "--python", environment / "bin" / "python", "install"]
        done = other.run([*command, "--index-url", index, "--require-hashes", "--requirement", requirements])
        return Installed(environment, done.stdout)

    return install_requirements


@dataclasses.dataclass
class Resolved:
    """What a client chose without installing it."""

    output: str
    versions: dict[str, str]


def resolved(blocked: Blocked, client: Client, bench: Bench) -> Callable[[], Resolved | Installed] | None:
    """Only metadata is asked for; `None` where the client cannot do that."""
    index, wanted = blocked.index, f"{PROJECT}==2.0"

    def of_lock(text: str) -> Resolved:
        found = re.search(r"(?:acme-tool==|name = \"acme-tool\"\nversion = \")([0-9.]+)", text)
        return Resolved(text, {PROJECT: found[1]} if found else {})

    if client is PIP_20:
        return None
    if isinstance(client, Pip):
        report = bench.folder / "report.json"

        def dry_run() -> Resolved:
            options = ("--dry-run", "--ignore-installed", "--report", report)
            done = client.install(bench, index, wanted, options=options)
            installs = json.loads(report.read_text())["install"]
            return Resolved(done.output, {one["metadata"]["name"]: one["metadata"]["version"] for one in installs})

        return dry_run
    if isinstance(client, Uv):
        (bench.folder / "requirements.in").write_text(wanted + "\n")
        arguments = ["pip", "compile", "--python", sys.executable, "--default-index", index, "requirements.in"]
        return lambda: of_lock(client.run(bench, *arguments).stdout)
    if isinstance(client, Poetry):
        return lambda: of_lock(client.lock(bench, index, wanted))
    if isinstance(client, PipTools):
        return lambda: of_lock(client.compile(bench, index, wanted))

    def pdm_lock() -> Resolved:
        folder = bench.place("project")
        source = f'\n[tool.pdm]\ndistribution = false\n\n[[tool.pdm.source]]\nname = "pypi"\nurl = "{index}"\n'
        project = f'[project]\nname = "consumer"\nversion = "1.0"\nrequires-python = ">=3.11"\ndependencies = ["{wanted}"]\n'
        (folder / "pyproject.toml").write_text(project + source)
        bench.new_environment(folder / ".venv")
        more = {"PDM_CHECK_UPDATE": "false", "PDM_CACHE_DIR": str(bench.home / "pdm"), "PDM_IGNORE_SAVED_PYTHON": "1"}
        bench.run([tool("pdm", "pdm"), "lock"], cwd=folder, **more)
        return of_lock((folder / "pdm.lock").read_text())

    return pdm_lock


WAYS: dict[str, Callable[[Blocked, Client, Bench], Callable[[], Installed | Resolved] | None]] = {
    "unpinned": newest,
    "`==2.0`": pinned,
    "`>=2.0`": at_least,
    "locked with hashes": locked,
    "in the client's cache": cached,
    "only resolved, `==2.0`": resolved,
}


def run(blocked: Blocked, client: Client, way: str, folder: pathlib.Path) -> Cell | None:
    """One cell; `None` where the client cannot do that."""
    prepared = WAYS[way](blocked, client, Watched(folder))
    if prepared is None:
        return None
    with blocked.rule():
        try:
            done = prepared()
        except Ended as ended:
            return Cell(ended.code, None, sentence(ended.output))
    return Cell(0, done.versions.get(PROJECT), sentence(done.output) if REASON in done.output else "")


def sentence(output: str) -> str:
    """The line that says why: that with the reason, else that with the error."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", output)
    text = re.sub(r"#sha256=[0-9a-f]+", "", text)
    text = re.sub(r"https?://127\.0\.0\.1:\d+", "https://INDEX", text)
    text = re.sub(r"/\S*/(?=[^/\s]+)", lambda path: path[0] if path[0].startswith(("//", "/simple")) else "", text)
    # Some clients wrap what they print in frames and lines.
    text = re.sub(r"\s*\n\s*[│╰─▶ ]*\s*", "\n", text)
    lines = [line.strip(" │╰─▶×") for line in text.splitlines() if line.strip(" │╰─▶×")]
    told = [line for line in lines if REASON in line]
    if not told:
        joined = " ".join(lines)
        if REASON in joined:
            at = joined.index(REASON)
            return f"… {joined[max(0, at - 60) : at + len(REASON) + 20].strip()} …"
    errors = [line for line in lines if re.search(r"(?i)\berror\b|no solution|unable|because", line)]
    chosen = re.sub(r" for url: \S+", "", (told or errors or lines or [""])[0])
    if len(chosen) <= LONGEST:
        return chosen
    if REASON in chosen and chosen.index(REASON) > LONGEST - len(REASON):
        start = chosen[: chosen.index(" from ")] if " from " in chosen else chosen[:40]
        return f"{start} … {chosen[chosen.index(REASON) - 30 :][: LONGEST - len(start)].strip()}"
    return f"{chosen[: LONGEST - 2]} …"
