"""The publishing tools as people use them: each knows how to publish files to one address, with a token or without."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from collections.abc import Callable

from clients import Bench, tool
from wheels import Distribution, module_of

Done = subprocess.CompletedProcess[str]
# Publishes these files to this address; without a token, no tool has an account anywhere.
Publisher = Callable[..., Done]
NOBODY = ("", "")
DUMMY = ("x", "x")


def written(bench: Bench, files: tuple[Distribution, ...]) -> list[pathlib.Path]:
    folder = bench.place("dist")
    for file in files:
        (folder / file.filename).write_bytes(file.data)
    return [folder / file.filename for file in files]


def project(bench: Bench, files: tuple[Distribution, ...], table: str = "") -> pathlib.Path:
    """A project whose `dist` has the files: some tools publish nothing else."""
    folder = bench.place("project")
    first = files[0]
    text = f'[project]\nname = "{first.name}"\nversion = "{first.version}"\nrequires-python = ">=3.8"\n{table}'
    (folder / "pyproject.toml").write_text(text)
    (folder / "dist").mkdir()
    for path in written(bench, files):
        shutil.copy(path, folder / "dist")
    return folder


def account(token: str | None, without: tuple[str, str]) -> tuple[str, str]:
    return ("__token__", token) if token else without


def twine_of(name: str) -> Publisher:
    def publish(bench: Bench, url: str, *files: Distribution, token: str | None = None, more: tuple[str, ...] = ()) -> Done:
        user, password = account(token, NOBODY)
        command = [tool(name, "twine"), "upload", "--verbose", "--non-interactive", "--disable-progress-bar"]
        command += ["--repository-url", url, "-u", user, "-p", password, *more, *written(bench, files)]
        return bench.run(command, check=False)

    return publish


def uv_of(name: str) -> Publisher:
    def publish(bench: Bench, url: str, *files: Distribution, token: str | None = None, more: tuple[str, ...] = ()) -> Done:
        # The oldest one takes empty credentials for none.
        user, password = account(token, DUMMY if name == "uv-0-4" else NOBODY)
        command = [tool(name, "uv"), "publish", "--publish-url", url, "-u", user, "-p", password, *more]
        return bench.run([*command, *written(bench, files)], check=False)

    return publish


def poetry_of(name: str) -> Publisher:
    def publish(bench: Bench, url: str, *files: Distribution, token: str | None = None, more: tuple[str, ...] = ()) -> Done:
        first = files[0]
        old = f'[tool.poetry]\nname = "{first.name}"\nversion = "{first.version}"\ndescription = ""\nauthors = []\n'
        folder = project(bench, files)
        if name == "poetry-1":
            (folder / "pyproject.toml").write_text(old)
        environment = {"POETRY_REPOSITORIES_PROXY_URL": url, "POETRY_CACHE_DIR": str(bench.home / "poetry")}
        command = [tool(name, "poetry"), "publish", "--no-interaction", "--repository", "proxy"]
        if token:
            command += ["--username", "__token__", "--password", token]
        return bench.run([*command, *more], cwd=folder, check=False, **environment)

    return publish


def pdm(bench: Bench, url: str, *files: Distribution, token: str | None = None, more: tuple[str, ...] = ()) -> Done:
    user, password = account(token, DUMMY)
    command = [tool("pdm", "pdm"), "publish", "--no-build", "--repository", url, "-u", user, "-P", password, *more]
    return bench.run(command, cwd=project(bench, files), check=False, PDM_CHECK_UPDATE="false")


def hatch(bench: Bench, url: str, *files: Distribution, token: str | None = None, more: tuple[str, ...] = ()) -> Done:
    user, password = account(token, DUMMY)
    command = [tool("hatch", "hatch"), "publish", "--no-prompt", "--repo", url, "-u", user, "-a", password]
    return bench.run([*command, *more, *written(bench, files)], check=False)


def flit(bench: Bench, url: str, *files: Distribution, token: str | None = None) -> Done:
    """Builds what it publishes, so only name and version of the files count; the same sources give the same bytes."""
    user, password = account(token, DUMMY)
    first, folder = files[0], bench.place("project")
    module = module_of(first.name)
    (folder / f"{module}.py").write_text(f'"""Made by a test"""\n__version__ = "{first.version}"\nVERSION = __version__\n')
    table = f'[project]\nname = "{module}"\nversion = "{first.version}"\ndescription = "Made by a test"\n'
    system = '[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"\n'
    (folder / "pyproject.toml").write_text(table + system)
    environment = {"FLIT_INDEX_URL": url, "FLIT_USERNAME": user, "FLIT_PASSWORD": password, "SOURCE_DATE_EPOCH": "1700000000"}
    return bench.run([tool("flit", "flit"), "publish", "--no-use-vcs"], cwd=folder, check=False, **environment)


def maturin(bench: Bench, url: str, *files: Distribution, token: str | None = None, more: tuple[str, ...] = ()) -> Done:
    user, password = account(token, NOBODY)
    command = [tool("maturin", "maturin"), "upload", "--repository-url", url, "-u", user, "-p", password, *more]
    return bench.run([*command, *written(bench, files)], check=False)


def curl(bench: Bench, url: str, *files: Distribution, token: str | None = None) -> Done:
    done = None
    for file, path in zip(files, written(bench, files), strict=True):
        fields = [":action=file_upload", "protocol_version=1", f"name={file.name}", f"version={file.version}"]
        fields += [f"filetype={file.filetype}", f"sha256_digest={file.sha256}", f"content=@{path}"]
        command = ["curl", "--silent", "--show-error", "--fail-with-body", *(["-u", f"__token__:{token}"] if token else [])]
        done = bench.run([*command, *(word for field in fields for word in ("-F", field)), url], check=False)
        if done.returncode != 0:
            return done
    assert done
    return done


TWINE, TWINE_6, TWINE_5 = (twine_of(name) for name in ("twine", "twine-6", "twine-5"))
UV, UV_0_7, UV_0_4 = (uv_of(name) for name in ("uv", "uv-0-7", "uv-0-4"))
POETRY, POETRY_1 = poetry_of("poetry"), poetry_of("poetry-1")

EVERY: dict[str, Publisher] = {
    "twine": TWINE,
    "twine-6": TWINE_6,
    "twine-5": TWINE_5,
    "uv": UV,
    "uv-0-7": UV_0_7,
    "uv-0-4": UV_0_4,
    "poetry": POETRY,
    "poetry-1": POETRY_1,
    "pdm": pdm,
    "hatch": hatch,
    "flit": flit,
    "maturin": maturin,
    "curl": curl,
}
