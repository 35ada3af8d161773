"""Runs what a manifest or a compose file says as processes of this machine: arguments and environment are taken as they are, addresses and
directories are replaced. Containers themselves are tried by `test_container.py`."""

from __future__ import annotations

import contextlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from world import Process

LOCAL = r"http://127\.0\.0\.1:\d+"


@contextlib.contextmanager
def run(emulator: list[str], proxy: list[str], environment: dict[str, str], host: str, folder: pathlib.Path, config: str | None) -> Iterator[str]:
    """Both processes; gives the proxy's address. `host` is the emulator's name, as `environment` and `config` use it."""
    store = str(folder / "store")
    arguments = [store if part == "/var/lib/wheelport" else re.sub(r"^0\.0\.0\.0:\d+$", "127.0.0.1:0", part) for part in emulator]
    first = Process("emulator", arguments, {"UV_DEFAULT_INDEX": ""}, folder / "emulator")
    try:
        data = first.until(rf"data plane +({LOCAL})")[1]
        control = first.until(rf"control plane +({LOCAL})")[1]

        def here(text: str) -> str:
            replaced = text.replace(f"http://{host}:8081", data).replace(f"http://{host}:8082", control)
            return replaced.replace("/var/cache/wheelport", str(folder / "cache")).replace("0.0.0.0:8080", "127.0.0.1:0").replace("0.0.0.0:9090", "127.0.0.1:0")

        if config is not None:
            (folder / "wheelport.toml").write_text(here(config))
        settings = {name: here(value).replace("/etc/wheelport", str(folder)) for name, value in environment.items()}
        assert all(f"//{host}" not in value for value in settings.values()), settings
        second = Process("proxy", proxy, {"WHEELPORT_LISTEN": "127.0.0.1:0", **settings}, folder / "proxy")
        try:
            yield second.until(rf"listens on ({LOCAL})")[1]
        finally:
            second.stop()
    finally:
        first.stop()


@contextlib.contextmanager
def run_pods(objects: list[dict[str, Any]], folder: pathlib.Path) -> Iterator[str]:
    """The pods of the try-out overlay."""
    containers = {
        found["metadata"]["name"]: found["spec"]["template"]["spec"]["containers"][0]
        for found in objects if found["kind"] == "Deployment"
    }
    (config,) = [found["data"]["wheelport.toml"] for found in objects if found["kind"] == "ConfigMap"]
    proxy = containers["wheelport"]
    environment = {entry["name"]: entry["value"].replace("$(POD_NAMESPACE)", "tools") for entry in proxy["env"] if "value" in entry}
    with run(containers["wheelport-emulator"]["args"], proxy["args"], environment, "wheelport-emulator", folder, config) as address:
        yield address
