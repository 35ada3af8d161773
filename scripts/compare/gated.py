"""Warm responses of a route that only a known identity reads, beside those of an open one in the same run."""

import base64
import hashlib

import data
import paths
from load import Request
from paths import GZIP, JSON, Path_, Side
from servers import Server, Stage, fresh

TOKEN = "a-token-that-is-only-good-for-this-comparison"
CONFIGURATION = """
[[route]]
name = "python"
domain = "demo"
domain_owner = "111122223333"
repository = "python"
default = true
endpoint = "http://127.0.0.1:{upstream}/pypi/python/"
read = "identity"

[[identity]]
name = "comparison"
token_sha256 = "{digest}"
read = ["*"]
"""


def warm_paths(stage: Stage, origin: Server, control: int, wheels: dict[str, data.Wheel], env: dict[str, str]) -> list[Path_]:
    config = fresh(stage.work / "gated") / "wheelport.toml"
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    config.write_text(CONFIGURATION.format(upstream=origin.port, digest=digest))
    opened = stage.wheelport(origin.port, control, name="open", env=env)
    gated = stage.wheelport(origin.port, control, name="gated", env=env, config=config)
    pair = base64.b64encode(f"__token__:{TOKEN}".encode()).decode()
    known = {"Authorization": f"Basic {pair}"}
    small = wheels["wheel-10k"].address
    for server, headers in ((opened, {}), (gated, known)):
        paths.get(server, f"/{data.PREFIX}/wheel-10k/", {**JSON, **headers})
        paths.get(server, small, headers)

    def beside(name: str, connections: int, path: str, headers: dict[str, str]) -> Path_:
        sides = Side(gated, Request(path, {**headers, **known})), Side(opened, Request(path, {**headers, **known}))
        return Path_(f"gated, {name}", "the same, open", 0.9, connections, *sides)

    page = f"/{data.PREFIX}/page-75k/"
    return [
        beside("page 75 KB, gzip, 1 reader", 1, page, GZIP),
        beside("page 75 KB, gzip, 32 readers", 32, page, GZIP),
        beside("file 10 KB, 32 readers", 32, small, {}),
    ]
