"""Resolving an environment of a hundred packages with the real installers, at a distance from upstream.

Four ways: straight at the emulator with a token in the address, as one has to without a proxy; through a proxy that was
never asked anything; through the same proxy once more; and from a bare server that has the proxy's answers in memory,
which is what is left when a proxy takes no time at all. The clients begin without any cache every time, and the outcome
must be the same every time.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import environment
from alternatives import install
from servers import Server, Stage, Void, fresh, wait_until_ready

LATENCY = "30ms"
WAYS = ("straight", "cold", "warm", "memory")
PAGE = "application/vnd.pypi.simple.v1+json"


def client_programs(root: Path, venvs: Path) -> dict[str, Path]:
    """uv and pip in the versions that the tests drive."""
    pinned = tomllib.loads((root / "tests/clients/clients.toml").read_text())
    return {
        "uv": install(venvs, "uv", tuple(pinned["uv"]["requirements"])) / "uv",
        "pip": install(venvs, "pip", tuple(pinned["pip-26"]["requirements"])) / "pip",
    }


def clean(home: Path) -> dict[str, str]:
    """An environment in which no configuration of this machine is seen."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "HOME": str(home), "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never"}


def uv_lock(program: Path, home: Path, index: str) -> dict[str, str]:
    requirements = ", ".join(f'"{name}"' for name in environment.roots())
    (home / "pyproject.toml").write_text(
        f'[project]\nname = "everything"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = [{requirements}]\n'
    )
    command = [program, "lock", "--no-cache", "--default-index", index, "--python", sys.executable]
    run([str(part) for part in command], home)
    packages = tomllib.loads((home / "uv.lock").read_text())["package"]
    return {package["name"]: package["version"] for package in packages if package["name"] != "everything"}


def pip_download(program: Path, home: Path, index: str) -> dict[str, str]:
    command = [program, "download", "--quiet", "--no-cache-dir", "--disable-pip-version-check", "--index-url", index]
    run([str(part) for part in [*command, "--dest", home / "wheels", *environment.roots()]], home)
    files = [path.name.split("-") for path in (home / "wheels").iterdir()]
    return {parts[0].replace("_", "-"): parts[1] for parts in files}


def run(command: list[str], home: Path) -> None:
    done = subprocess.run(command, cwd=home, env=clean(home), capture_output=True, text=True, timeout=600)
    if done.returncode:
        # The address of the index may hold a token, and the client may have repeated it.
        said = "\n".join(line for line in done.stderr.splitlines() if "@" not in line)
        raise Void(f"{Path(command[0]).name} {command[1]} fails: {said[-800:]}")


CLIENTS = {"uv": ("uv lock", uv_lock), "pip": ("pip download", pip_download)}


def put_on_shelf(proxy: Server, shelf: Path) -> None:
    """What a proxy was asked for since its start, as it answers it, for the bare server to answer the same."""
    lines = [json.loads(line) for line in proxy.log.read_text().splitlines() if line.startswith("{")]
    kinds = {line["path"]: line["kind"] for line in lines if line.get("status") == 200}
    for path, kind in kinds.items():
        if kind not in ("page", "file", "metadata"):
            continue
        file = shelf / (path[1:] + ("index.json" if kind == "page" else ""))
        file.parent.mkdir(parents=True, exist_ok=True)
        for coding, suffix in (("identity", ""), ("gzip", ".gz")) if kind == "page" else (("identity", ""),):
            request = urllib.request.Request(proxy.url(path), headers={"Accept": PAGE, "Accept-Encoding": coding})
            with urllib.request.urlopen(request, timeout=30) as answer:
                if answer.headers.get("Content-Encoding", "identity") != coding:
                    raise Void(f"{path} is not answered as {coding}")
                file.with_name(file.name + suffix).write_bytes(answer.read())


def measure(stage: Stage, root: Path, venvs: Path, rounds: int) -> dict:
    programs = client_programs(root, venvs)
    emulator, control = stage.emulator("--no-seed", "--dir", fresh(stage.work / "resolve-store"), name="resolve-emulator")
    data, control_url = emulator.url(""), f"http://127.0.0.1:{control}"
    token = environment.token(control_url)
    files, volume = environment.publish(data, token)
    environment.turn(data, latency=LATENCY)
    straight = f"http://aws:{token}@127.0.0.1:{emulator.port}/pypi/{environment.REPOSITORY}/simple/"
    found: dict = {"files": files, "bytes": volume, "latency": LATENCY, "clients": {}}
    for name, (title, client) in CLIENTS.items():
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        asked: dict[str, list[dict]] = {way: [] for way in WAYS}
        outcome = memory = None
        for _ in range(rounds):
            proxy = stage.wheelport(emulator.port, control, name=f"resolve-{name}")
            wait_until_ready(proxy)
            for way in WAYS:
                if way == "memory" and memory is None:
                    shelf = fresh(stage.work / "resolve-shelf")
                    put_on_shelf(proxy, shelf)
                    memory = stage.stand(f"memory-{name}", shelf, "--gzip", "yes")
                index = straight if way == "straight" else (memory if way == "memory" else proxy).url("/simple/")
                environment.stats(data, forget=True)
                home = fresh(stage.work / "resolve-home")
                began = time.monotonic()
                result = client(programs[name], home, index)
                seconds[way].append(time.monotonic() - began)
                asked[way].append(environment.stats(data))
                if outcome is not None and result != outcome:
                    raise Void(f"{title}, {way}: another outcome than before")
                outcome = result
            stage.end(proxy)
        stage.end(memory)
        if len(outcome) != environment.LAYERS * environment.WIDTH:
            raise Void(f"{title}: {len(outcome)} packages instead of {environment.LAYERS * environment.WIDTH}")
        found["clients"][title] = {
            way: {
                "seconds": statistics.median(seconds[way]),
                "requests": statistics.median(sum(each["requests"].values()) for each in asked[way]),
                "megabytes": statistics.median(each["asset_bytes"] for each in asked[way]) / 1e6,
            }
            for way in WAYS
        }
        print(title, found["clients"][title], flush=True)
    stage.end(emulator)
    return found
