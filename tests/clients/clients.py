"""The package clients as people use them: each knows how to install into a new environment from one index."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import install
from wheels import normalize

PATIENCE = 300
REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[(?P<extras>[^]]+)\])?(?P<version>.*)$")


class ClientFailed(AssertionError):
    """A client ended with an error; says all that it printed."""


@dataclasses.dataclass
class Installed:
    """An environment after an installation."""

    environment: pathlib.Path
    output: str

    @property
    def versions(self) -> dict[str, str]:
        """Normalised name to version, read from what lies in the environment."""
        found = {}
        for metadata in (path for site in self.sites for path in site.glob("*.dist-info/METADATA")):
            fields = dict(line.split(": ", 1) for line in metadata.read_text().splitlines() if ": " in line)
            found[normalize(fields["Name"])] = fields["Version"]
        return found

    @property
    def sites(self) -> list[pathlib.Path]:
        """Where the packages lie."""
        return list(self.environment.glob("lib/python*/site-packages"))

    def run(self, code: str) -> str:
        """What the environment's own interpreter prints."""
        python = self.environment / "bin" / "python"
        return subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


class Bench:
    """A place of its own for one test: home directory, caches, projects, environments. Nothing of the machine's
    configuration reaches a client from here."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        (folder / "tmp").mkdir()
        self._made = 0

    def environment(self, **more: str) -> dict[str, str]:
        python = pathlib.Path(sys.executable).resolve().parent
        return {
            "PATH": f"{python}:/usr/bin:/bin",
            "HOME": str(self.home),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            "CI": "true",
            "NO_COLOR": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "UV_NO_CONFIG": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "UV_LINK_MODE": "copy",
            "VIRTUALENV_NO_PERIODIC_UPDATE": "1",
            **more,
        }

    def place(self, kind: str) -> pathlib.Path:
        """A new empty folder."""
        self._made += 1
        folder = self.folder / f"{kind}-{self._made}"
        folder.mkdir()
        return folder

    def new_environment(self, at: pathlib.Path | None = None) -> pathlib.Path:
        """A virtual environment with nothing in it, not even pip."""
        at = at or self.place("environment")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", at], check=True)
        return at

    def run(
        self,
        command: list[str | pathlib.Path],
        cwd: pathlib.Path | None = None,
        check: bool = True,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a client to its end; an error is the test's end unless `check` is off."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd or self.folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        if check and done.returncode != 0:
            spoken = " ".join(str(part) for part in command)
            raise ClientFailed(f"`{spoken}` ended with {done.returncode}:\n{done.stdout}")
        return done


def tool(name: str, program: str) -> pathlib.Path:
    """A program of an installed client. A client that is missing is a failure, never a reason to skip."""
    path = install.HOME / name / "bin" / program
    if not path.exists():
        raise ClientFailed(f"{path} is missing: run scripts/test, or tests/clients/install.py by itself")
    return path


class Client:
    """One client in one version."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def install(self, bench: Bench, index: str, *requirements: str) -> Installed:
        """Resolves and installs into a new environment."""
        raise NotImplementedError


class Pip(Client):
    """pip, run from outside of the environment it installs into."""

    def site(self) -> pathlib.Path:
        """Where this pip lies, to be put on the path of another environment's interpreter."""
        found = list((install.HOME / self.name).glob("lib/python*/site-packages/pip"))
        if len(found) != 1:
            raise ClientFailed(f"{self.name} is missing: run scripts/test, or tests/clients/install.py by itself")
        return found[0].parent

    def run(self, bench: Bench, python: pathlib.Path, *arguments: object, check: bool = True):
        command = [python, "-m", "pip", *map(str, arguments)]
        return bench.run(command, check=check, PYTHONPATH=str(self.site()))

    def install(self, bench: Bench, index: str, *requirements: str, options: tuple[object, ...] = ()) -> Installed:
        environment = bench.new_environment()
        python = environment / "bin" / "python"
        done = self.run(bench, python, "install", "--index-url", index, *options, *requirements)
        return Installed(environment, done.stdout)


class PipTools(Client):
    """pip-compile, and its own pip for the installation of what was compiled."""

    def compile(self, bench: Bench, index: str, *requirements: str, options: tuple[str, ...] = ()) -> str:
        folder = bench.place("compile")
        (folder / "requirements.in").write_text("\n".join(requirements) + "\n")
        command = [tool(self.name, "pip-compile"), "--quiet", "--no-header", "--no-emit-index-url", "--no-annotate"]
        command += ["--strip-extras", "--index-url", index, *options, "--output-file", "requirements.txt"]
        bench.run([*command, "requirements.in"], cwd=folder)
        return (folder / "requirements.txt").read_text()

    def install(self, bench: Bench, index: str, *requirements: str) -> Installed:
        compiled = bench.place("sync") / "requirements.txt"
        compiled.write_text(self.compile(bench, index, *requirements))
        environment = bench.new_environment()
        command = [tool(self.name, "python"), "-m", "pip", "--python", environment / "bin" / "python"]
        done = bench.run([*command, "install", "--index-url", index, "--requirement", compiled])
        return Installed(environment, done.stdout)


class Uv(Client):
    """uv's pip interface for installations, its project interface for locks."""

    def run(self, bench: Bench, *arguments: object, cwd: pathlib.Path | None = None, check: bool = True, **more: str):
        return bench.run([tool(self.name, "uv"), *map(str, arguments)], cwd=cwd, check=check, **more)

    def install(self, bench: Bench, index: str, *requirements: str, options: tuple[object, ...] = ()) -> Installed:
        environment = bench.new_environment()
        python = environment / "bin" / "python"
        arguments = ["pip", "install", "--python", python, "--default-index", index, *options, *requirements]
        return Installed(environment, self.run(bench, *arguments).stdout)

    def project(self, bench: Bench, index: str, *requirements: str) -> pathlib.Path:
        folder = bench.place("project")
        source = f'\n[[tool.uv.index]]\nname = "proxy"\nurl = "{index}"\ndefault = true\n'
        (folder / "pyproject.toml").write_text(project_table(requirements) + source)
        return folder

    def lock(self, bench: Bench, index: str, *requirements: str) -> str:
        folder = self.project(bench, index, *requirements)
        self.run(bench, "lock", "--python", sys.executable, cwd=folder, UV_NO_CONFIG="0")
        return (folder / "uv.lock").read_text()

    def sync(self, bench: Bench, index: str, lock: str, *requirements: str) -> Installed:
        """Installs exactly what the lock says."""
        folder = self.project(bench, index, *requirements)
        (folder / "uv.lock").write_text(lock)
        arguments = ["sync", "--frozen", "--no-install-project", "--python", sys.executable]
        done = self.run(bench, *arguments, cwd=folder, UV_NO_CONFIG="0")
        return Installed(folder / ".venv", done.stdout)


class Poetry(Client):
    """poetry with one primary source."""

    def project(self, bench: Bench, index: str, *requirements: str) -> pathlib.Path:
        folder = bench.place("project")
        source = f'\n[[tool.poetry.source]]\nname = "proxy"\nurl = "{index}"\npriority = "primary"\n'
        if self.name == "poetry-1":
            table = '[tool.poetry]\nname = "consumer"\nversion = "1.0"\ndescription = ""\nauthors = []\npackage-mode = false\n'
            table += '\n[tool.poetry.dependencies]\npython = ">=3.11"\n' + tables(requirements)
        else:
            table = project_table(requirements) + "\n[tool.poetry]\npackage-mode = false\n"
        (folder / "pyproject.toml").write_text(table + source)
        return folder

    def run(self, bench: Bench, folder: pathlib.Path, *arguments: str, **more: str):
        return bench.run(
            [tool(self.name, "poetry"), "--no-interaction", *arguments],
            cwd=folder,
            **more,
            POETRY_VIRTUALENVS_IN_PROJECT="true",
            POETRY_CACHE_DIR=str(bench.home / "poetry"),
        )

    def lock(self, bench: Bench, index: str, *requirements: str, password: str | None = None) -> str:
        folder = self.project(bench, index, *requirements)
        basic = {"POETRY_HTTP_BASIC_PROXY_USERNAME": "aws", "POETRY_HTTP_BASIC_PROXY_PASSWORD": password or ""}
        self.run(bench, folder, "lock", **(basic if password else {}))
        return (folder / "poetry.lock").read_text()

    def install(self, bench: Bench, index: str, *requirements: str) -> Installed:
        folder = self.project(bench, index, *requirements)
        environment = bench.new_environment(folder / ".venv")
        return Installed(environment, self.run(bench, folder, "install", "--no-root").stdout)


class Pdm(Client):
    """pdm with one source."""

    def lock(self, bench: Bench, index: str, *requirements: str) -> str:
        """The lock that an installation leaves behind."""
        return (self.install(bench, index, *requirements).environment.parent / "pdm.lock").read_text()

    def install(self, bench: Bench, index: str, *requirements: str) -> Installed:
        folder = bench.place("project")
        source = f'\n[tool.pdm]\ndistribution = false\n\n[[tool.pdm.source]]\nname = "pypi"\nurl = "{index}"\n'
        (folder / "pyproject.toml").write_text(project_table(requirements) + source)
        environment = bench.new_environment(folder / ".venv")
        done = bench.run(
            [tool(self.name, "pdm"), "install", "--no-self"],
            cwd=folder,
            PDM_CHECK_UPDATE="false",
            PDM_CACHE_DIR=str(bench.home / "pdm"),
            PDM_IGNORE_SAVED_PYTHON="1",
        )
        return Installed(environment, done.stdout)


class Pipenv(Client):
    """pipenv with one source."""

    def project(self, bench: Bench, index: str, *requirements: str) -> pathlib.Path:
        folder = bench.place("project")
        source = f'[[source]]\nname = "proxy"\nurl = "{index}"\nverify_ssl = false\n\n[packages]\n'
        (folder / "Pipfile").write_text(source + tables(requirements))
        bench.new_environment(folder / ".venv")
        return folder

    def run(self, bench: Bench, folder: pathlib.Path, *arguments: str, check: bool = True):
        return bench.run(
            [tool(self.name, "pipenv"), *arguments],
            cwd=folder,
            check=check,
            PIPENV_VENV_IN_PROJECT="1",
            PIPENV_IGNORE_VIRTUALENVS="1",
            PIPENV_NOSPIN="1",
            PIPENV_CACHE_DIR=str(bench.home / "pipenv"),
        )

    def lock(self, bench: Bench, index: str, *requirements: str) -> dict[str, object]:
        folder = self.project(bench, index, *requirements)
        self.run(bench, folder, "lock")
        return json.loads((folder / "Pipfile.lock").read_text())

    def install(self, bench: Bench, index: str, *requirements: str) -> Installed:
        folder = self.project(bench, index, *requirements)
        return Installed(folder / ".venv", self.run(bench, folder, "install").stdout)


def project_table(requirements: tuple[str, ...]) -> str:
    """The standard's `[project]` table."""
    wanted = json.dumps(list(requirements))
    return f'[project]\nname = "consumer"\nversion = "1.0"\nrequires-python = ">=3.11"\ndependencies = {wanted}\n'


def tables(requirements: tuple[str, ...]) -> str:
    """Requirements as poetry 1 and pipenv write them."""
    lines = []
    for requirement in requirements:
        parts = REQUIREMENT.match(requirement)
        assert parts, requirement
        extras = json.dumps([extra.strip() for extra in (parts["extras"] or "").split(",") if extra])
        lines.append(f'"{parts["name"]}" = {{ version = "{parts["version"] or "*"}", extras = {extras} }}')
    return "\n".join(lines) + "\n"


def toml_packages(lock: str) -> dict[str, dict[str, object]]:
    """The packages of a uv.lock or poetry.lock by name."""
    return {package["name"]: package for package in tomllib.loads(lock)["package"]}


PIP_20, PIP_22, PIP_23, PIP = (Pip(name) for name in ("pip-20", "pip-22", "pip-23", "pip-26"))
UV, UV_0_7 = Uv("uv"), Uv("uv-0-7")
POETRY, POETRY_1 = Poetry("poetry"), Poetry("poetry-1")
PDM, PIPENV, PIP_TOOLS = Pdm("pdm"), Pipenv("pipenv"), PipTools("pip-tools")

EVERY = [PIP_20, PIP_22, PIP_23, PIP, UV, UV_0_7, POETRY, POETRY_1, PDM, PIPENV, PIP_TOOLS]
# One of each way to behave when something goes wrong; see what each retries and resumes.
DIFFERENT = [PIP_20, PIP, UV, POETRY, PDM]
