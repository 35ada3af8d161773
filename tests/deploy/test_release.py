"""What a release is made of: archives that can be made again, a bill of materials, and a pipeline that names what there is."""

from __future__ import annotations

import json
import os
import pathlib
import re
import tarfile
import tomllib

import pytest
import yaml

from tools import ROOT, output, tool

TARGET = "x86_64-unknown-linux-gnu"
WORKFLOWS = ROOT / ".github" / "workflows"
PIPELINE = WORKFLOWS / "release.yml"
every_workflow = pytest.mark.parametrize("workflow", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.stem)


def packed(program: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    output("sh", ROOT / "deploy/release/package.sh", program, TARGET, folder, env=environment)
    (archive,) = folder.glob("*.tar.gz")
    return archive


def test_an_archive_is_whole_and_can_be_made_again(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    # Packing takes the longer the more there is for debuggers.
    small = tmp_path / "wheelport"
    output(tool("strip"), "-o", small, program)
    first, second = packed(small, tmp_path / "first"), packed(small, tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()
    output("sha256sum", "--check", first.with_name(first.name.replace(".tar.gz", ".sha256")), cwd=first.parent)
    with tarfile.open(first) as archive:
        names = {pathlib.PurePosixPath(*pathlib.PurePosixPath(member.name).parts[1:]) for member in archive if member.isfile()}
        archive.extractall(tmp_path / "unpacked", filter="data")
    expected = ["wheelport", "README.md", "LICENSE-MIT", "LICENSE-APACHE", "wheelport.service", "sbom.cdx.json", "man/wheelport.1", "completions/_wheelport"]
    assert {pathlib.PurePosixPath(name) for name in expected} <= names
    (unpacked,) = (tmp_path / "unpacked").glob("*/wheelport")
    assert output(unpacked, "--version") == output(program, "--version")


def test_the_bill_of_materials_has_what_is_locked() -> None:
    document = json.loads(output(ROOT / "deploy/release/sbom.py", "--target", TARGET))
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {f"pkg:cargo/{package['name']}@{package['version']}": package.get("checksum") for package in locked}
    found = {entry["purl"]: entry for entry in document["components"]}
    assert len(found) == len(document["components"]) > 100
    members = {tomllib.loads(path.read_text())["package"]["name"] for path in (ROOT / "crates").glob("*/Cargo.toml")}
    for purl, entry in found.items():
        # Our own crates come from no registry, so nothing but their version says what they are.
        if entry["name"] in members:
            assert "hashes" not in entry, purl
        else:
            assert entry["hashes"][0]["content"] == checksums[purl], purl
        assert entry["licenses"][0]["expression"], purl
    direct = tomllib.loads((ROOT / "Cargo.toml").read_text())["dependencies"]
    assert set(direct) <= {entry["name"] for entry in found.values()}


@every_workflow
def test_a_workflow_names_what_there_is(workflow: pathlib.Path) -> None:
    text = workflow.read_text()
    jobs = yaml.safe_load(text)["jobs"]
    for job in jobs.values():
        needs = job.get("needs", [])
        assert ({needs} if isinstance(needs, str) else set(needs)) <= set(jobs)
    for path in re.findall(r"(?<![\w/.])((?:deploy|tests|scripts|\.ci)/[\w./-]+)", text):
        assert (ROOT / path).exists(), path


def test_a_release_is_built_for_two_architectures() -> None:
    jobs = yaml.safe_load(PIPELINE.read_text())["jobs"]
    targets = [entry["target"] for entry in jobs["binary"]["strategy"]["matrix"]["include"]]
    assert targets == ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"]


def test_a_pull_request_runs_what_a_contributor_runs() -> None:
    jobs = yaml.safe_load((WORKFLOWS / "pull-request.yml").read_text())["jobs"]
    assert ".ci/run" in [step.get("run") for job in jobs.values() for step in job["steps"]]


@every_workflow
def test_every_action_is_pinned_by_the_digest_of_its_commit(workflow: pathlib.Path) -> None:
    """A tag can be moved to another commit by whoever takes over an action."""
    uses = [step["uses"] for job in yaml.safe_load(workflow.read_text())["jobs"].values() for step in job["steps"] if "uses" in step]
    assert uses and [used for used in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used)] == []


def test_every_fuzz_target_runs_every_day() -> None:
    jobs = yaml.safe_load((WORKFLOWS / "scheduled.yml").read_text())["jobs"]
    targets = sorted(path.stem for path in (ROOT / "fuzz" / "fuzz_targets").glob("*.rs"))
    assert jobs["fuzz"]["strategy"]["matrix"]["target"] == targets


@every_workflow
def test_every_script_of_a_workflow_is_a_script(workflow: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        for step in job["steps"]:
            if "run" in step:
                path = tmp_path / "step.sh"
                path.write_text(re.sub(r"\$\{\{.*?\}\}", "VALUE", step["run"]))
                output(tool("bash"), "-n", path)


def test_the_smoke_test_passes(program: pathlib.Path) -> None:
    tool("curl")
    told = output("sh", ROOT / "tests/deploy/smoke.sh", env={**os.environ, "WHEELPORT_BINARY": str(program)}, timeout=120)
    assert "served" in told
