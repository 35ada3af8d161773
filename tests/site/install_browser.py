"""Installs what the tests of the site need, before they run: Chromium and its driver from Debian, and axe-core from npm.

Run by `scripts/test` with the machine's own Python, after `tests/clients/install.py`. Everything comes by name from whatever apt and npm are configured with
on this machine; this file names no registry, and no test installs anything. Debian's programs are installed only by root. What cannot be had is told on
standard error; with WHEELPORT_DEPLOY_TOOLS=required, or CI=true and not `optional`, that is the end of the run. Else the tests are skipped, and say why.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "deploy"))

import install_tools as tools  # noqa: E402: the path has to be known first

# Resolved, because npm takes a link for a package of its own.
HOME = pathlib.Path(os.environ.get("WHEELPORT_SITE", ROOT / "target" / "site")).resolve()
DEBIAN = {"chromium": "chromium", "chromedriver": "chromium-driver"}
AXE = HOME / "node" / "node_modules" / "axe-core" / "axe.min.js"
READY = HOME / "node.ready"


def node_pins() -> str:
    return "\0".join((HERE / "node" / name).read_text() for name in ("package.json", "package-lock.json"))


def missing() -> list[str]:
    """What the tests need and this machine does not have."""
    lacking = [f"{program} (on Debian: apt-get install {package})" for program, package in DEBIAN.items() if tools.find(program) is None]
    if not AXE.exists() or not READY.exists() or READY.read_text() != node_pins():
        lacking.append("axe-core (python3 tests/site/install_browser.py, which needs npm)")
    return lacking


def install_browser() -> None:
    wanted = sorted(package for program, package in DEBIAN.items() if tools.find(program) is None)
    if not wanted:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise tools.NotInstalled(f"Chromium is not installed (on Debian: apt-get install {' '.join(wanted)})")
    began = time.monotonic()
    tools.after_update(lambda: tools.apt("install", "--yes", "--no-install-recommends", *wanted))
    print(f"Debian: {', '.join(wanted)} ({time.monotonic() - began:.0f} s)", flush=True)


def install_axe() -> None:
    if AXE.exists() and READY.exists() and READY.read_text() == node_pins():
        return
    npm = tools.find("npm")
    if npm is None and os.geteuid() == 0 and shutil.which("apt-get"):
        tools.after_update(lambda: tools.apt("install", "--yes", "--no-install-recommends", "npm"))
        npm = tools.find("npm")
    if npm is None:
        raise tools.NotInstalled("axe-core needs npm (on Debian: apt-get install npm)")
    began = time.monotonic()
    folder = HOME / "node"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "node", folder)
    tools.retried([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)])
    READY.write_text(node_pins())
    print(f"node: axe-core ({time.monotonic() - began:.0f} s)", flush=True)


def main() -> int:
    HOME.mkdir(parents=True, exist_ok=True)
    lacking = []
    for step in (install_browser, install_axe):
        try:
            step()
        except (tools.NotInstalled, RuntimeError) as error:
            lacking.append(str(error))
    for reason in lacking:
        print(f"for the tests of the site: {reason}", file=sys.stderr)
    return 1 if lacking and tools.REQUIRED else 0


if __name__ == "__main__":
    sys.exit(main())
