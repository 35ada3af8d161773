"""Runs Terraform with the AWS provider in a folder of its own, against servers on this machine.

The provider is taken from `WHEELPORT_TERRAFORM_PROVIDERS` (a folder laid out as a file-system mirror), else from where such mirrors
commonly are, else from Terraform's registry. No package registry has Terraform or the provider, so `install_tools.py` cannot bring them: on a machine
without them these tests are left out even where every other tool is required, and the end of the run says so.
"""

import glob
import os
import pathlib
import platform
import shutil
import subprocess

from deploy_world import REGION
from tools import without

SECONDS = 600
MIRRORS = (
    "~/.terraform.d/plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    "/opt/*",
)


def program() -> str:
    return shutil.which("terraform") or without("terraform is not installed", always=True)


def mirror() -> str | None:
    """A folder with HOST/hashicorp/aws/VERSION/OS_ARCHITECTURE in it."""
    given = os.environ.get("WHEELPORT_TERRAFORM_PROVIDERS")
    if given:
        return given
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    kind = f"{platform.system().lower()}_{machine}"
    for place in MIRRORS:
        for folder in sorted(glob.glob(os.path.expanduser(place))):
            if glob.glob(f"{folder}/*/hashicorp/aws/*/{kind}"):
                return folder
    return None


class Terraform:
    """A folder with a configuration, and the commands on it."""

    def __init__(self, folder: pathlib.Path, environment: dict[str, str]):
        self.folder = folder
        nothing = folder / "no-settings.tfrc"
        nothing.write_text("")
        self.environment = environment | {
            "CHECKPOINT_DISABLE": "1",
            "TF_CLI_CONFIG_FILE": str(nothing),
            "TF_IN_AUTOMATION": "1",
        }

    def run(self, *arguments: str, expect: tuple[int, ...] = (0,), **environment: str) -> str:
        """What the command prints, both streams."""
        done = subprocess.run(
            [program(), *arguments],
            cwd=self.folder,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode in expect, f"terraform {' '.join(arguments)}: {done.returncode}\n{done.stdout}"
        return done.stdout

    def init(self) -> None:
        """Fetches the provider and the module."""
        providers = mirror()
        if providers:
            self.run("init", "-no-color", "-input=false", f"-plugin-dir={providers}")
            return
        told = self.run("init", "-no-color", "-input=false", expect=(0, 1))
        if "Failed to query available provider packages" in told:
            without("Terraform's provider for AWS is neither on this machine nor to be had", always=True)
        assert "successfully initialized" in told, told

    def init_like(self, other: "Terraform") -> None:
        """Takes over what another folder fetched; looking through the provider's hundreds of megabytes again takes long."""
        shutil.copytree(other.folder / ".terraform", self.folder / ".terraform", symlinks=True)
        shutil.copy(other.folder / ".terraform.lock.hcl", self.folder)

    def apply(self) -> str:
        return self.run("apply", "-no-color", "-input=false", "-auto-approve")

    def is_settled(self) -> bool:
        """Whether another plan finds nothing to do."""
        text = self.run("plan", "-no-color", "-input=false", "-detailed-exitcode", expect=(0, 2))
        return "No changes." in text

    def destroy(self) -> str:
        return self.run("destroy", "-no-color", "-input=false", "-auto-approve")


def provider(**endpoints: str) -> str:
    """The AWS provider, told where each service is; named so that Terraform merges it into what is there."""
    lines = "\n".join(f'    {service} = "{address}"' for service, address in endpoints.items())
    return f"""provider "aws" {{
  region                  = "{REGION}"
  skip_metadata_api_check = true
  max_retries             = 2

  endpoints {{
{lines}
  }}
}}
"""
