"""The pipelines of deploy/gitlab, really run: gitlab-ci-local with its shell executor, against `wheelport demo`.

The jobs know no package index but the demo and have no AWS configuration. Build backends and tools come through the demo
too, from the public index that pip is configured with on this machine.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
import urllib.error
import urllib.request
import zipfile

import pytest
import yaml
from deploy_world import running
from issuer import AUDIENCE, Issuer
from tools import ROOT, binary, node_environment, tool

GITLAB = ROOT / "deploy" / "gitlab"
EXAMPLES = ROOT / "deploy" / "examples"
PIPELINE_SECONDS = 900
BACKENDS = {
    "poetry": ("poetry-core==2.2.1", "poetry.core.masonry.api"),
    "uv": ("uv-build>=0.9,<0.14", "uv_build"),
    "twine": ("flit-core==3.12.0", "flit_core.buildapi"),
}


class Demo:
    """A running `wheelport demo` with public packages behind it."""

    def __init__(self, address: str, issuer: Issuer | None = None, token: str = ""):
        self.address = address
        self.issuer = issuer
        self.token = token

    def files(self, project: str) -> set[str]:
        """The files on the project's page; none if there is no such project."""
        try:
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            asked = urllib.request.Request(f"{self.address}/simple/{project}/", headers=headers)
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return set(re.findall(r">([^<]+\.(?:whl|tar\.gz))</a>", answer.read().decode()))
        except urllib.error.HTTPError as error:
            assert error.code == 404
            return set()

    def wheel(self, project: str, version: str, folder: pathlib.Path) -> zipfile.ZipFile:
        name = f"{project.replace('-', '_')}-{version}-py3-none-any.whl"
        url = f"{self.address}/simple/{project}/{version}/{name}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            (folder / name).write_bytes(answer.read())
        return zipfile.ZipFile(folder / name)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    home = tmp_path_factory.mktemp("demo")
    # This process alone may know the machine's index; it needs pip's own settings to find it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "WHEELPORT_"))}
    arguments = ["demo", "--listen=127.0.0.1:0", f"--dir={home / 'store'}", "--public-index"]
    with running("demo", arguments, environment, home) as process:
        yield Demo(process.until(r"demo listens on (http://127\.0\.0\.1:\d+)")[1])


@pytest.fixture
def gated(tmp_path):
    """A Wheelport that only pipelines of a group read and publish through, in front of what the demo has, too."""
    machine = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "WHEELPORT_"))}
    arguments = ["emulate", "--listen=127.0.0.1:0", "--control-listen=127.0.0.1:0", f"--dir={tmp_path / 'store'}", "--public-index"]
    with Issuer(tmp_path / "issuer") as issuer, running("emulate", arguments, machine, tmp_path / "emulate") as emulator:
        emulator.until(r"aws codeartifact login")
        control = re.search(r"control plane +(http://127\.0\.0\.1:\d+)", emulator.output)[1]
        exported = dict(re.findall(r"\b(AWS_\w+)=(\S+)", emulator.output))
        (tmp_path / "wheelport.toml").write_text(issuer.table)
        settings = {
            **exported,
            "AWS_ENDPOINT_URL_CODEARTIFACT": control,
            "AWS_ENDPOINT_URL_STS": control,
            "AWS_EC2_METADATA_DISABLED": "true",
            "WHEELPORT_CONFIG": str(tmp_path / "wheelport.toml"),
            "WHEELPORT_LISTEN": "127.0.0.1:0",
            "WHEELPORT_DOMAIN": "demo",
            "WHEELPORT_DOMAIN_OWNER": "111122223333",
            "WHEELPORT_REPOSITORY": "python",
            "WHEELPORT_CACHE_DIR": str(tmp_path / "cache"),
            "WHEELPORT_READ": "identity",
            "WHEELPORT_UPLOAD": "identity",
        }
        with running("serve", ["serve"], settings, tmp_path / "serve") as process:
            address = process.until(r"wheelport listens on (http://127\.0\.0\.1:\d+)")[1]
            yield Demo(address, issuer, issuer.token())


def project(demo: Demo, folder: pathlib.Path, name: str, tool: str) -> pathlib.Path:
    """A package with a dependency on a private package and a test that uses it, in a git repository."""
    requirement, backend = BACKENDS[tool]
    module = name.replace("-", "_")
    package = folder / "src" / module if tool != "twine" else folder / module
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        '"""Made by a test."""\n\nimport importlib.metadata\n\n'
        f'VERSION = importlib.metadata.version("{name}")\n'
        'DEPENDENCY = importlib.metadata.version("wheelport-hello")\n'
    )
    (folder / "tests").mkdir()
    (folder / "tests" / "test_it.py").write_text(
        f"import unittest\n\nimport {module}\n\n\nclass Versions(unittest.TestCase):\n"
        "    def test_they_are_known(self):\n"
        f"        self.assertTrue({module}.VERSION and {module}.DEPENDENCY)\n"
    )
    (folder / "README.md").write_text("# Made by a test\n")
    (folder / "pyproject.toml").write_text(
        textwrap.dedent(f"""\
            [project]
            name = "{name}"
            version = "0.1.0"
            description = "Made by a test"
            readme = "README.md"
            requires-python = ">=3.9"
            dependencies = ["wheelport-hello"]

            [build-system]
            requires = ["{requirement}"]
            build-backend = "{backend}"
            """)
    )
    if tool == "poetry":
        with (folder / "pyproject.toml").open("a") as file:
            file.write(f'\n[tool.poetry]\npackages = [{{ include = "{module}", from = "src" }}]\n')
            # Poetry takes the build backend from the project's sources, whatever pip's settings are.
            source = f'name = "wheelport"\nurl = "{demo.address}/simple/"\npriority = "primary"\n'
            file.write(f"\n[[tool.poetry.source]]\n{source}")
    return folder


def commit(folder: pathlib.Path) -> None:
    (folder / ".gitignore").write_text(".gitlab-ci-local\n.venv\ndist\n")
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for command in (
        ["init", "--quiet", "--initial-branch=main"],
        ["remote", "add", "origin", "git@gitlab.example.org:acme/package.git"],
        ["add", "--all"],
        [*who, "commit", "--quiet", "--message=Everything"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True, timeout=60)


def environment(home: pathlib.Path) -> dict[str, str]:
    """A machine with Python and git, and no settings of anybody; the stand-in for the job's image."""
    tools = home / "image"
    if not tools.exists():
        subprocess.run([sys.executable, "-m", "venv", tools], check=True, timeout=120)
    return {
        "PATH": f"{tools / 'bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "LANG": "C.UTF-8",
    }


def pipeline(demo: Demo, folder: pathlib.Path, home: pathlib.Path, *, tag: str | None = None, id_token: str = "") -> str:
    """Runs the pipeline in this repository as GitLab would for a push of a branch or a tag; what it prints."""
    tool("rsync")  # gitlab-ci-local copies with it
    command = [
        node_environment() / "gitlab-ci-local",
        "--force-shell-executor",
        "--shell-isolation",
        "--no-artifacts-to-source",
        "--no-color",
        f"--home={home}",
        f"--variable=WHEELPORT={demo.address}",
        "--variable=PIP_TRUSTED_HOST=127.0.0.1",
    ]
    if tag:
        command.append(f"--variable=CI_COMMIT_TAG={tag}")
    if id_token:
        # GitLab itself sets this for a job with `id_tokens`; gitlab-ci-local signs nothing.
        command.append(f"--variable=WHEELPORT_ID_TOKEN={id_token}")
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PIPELINE_SECONDS,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


VARIANTS = {"poetry": ".gitlab-ci.yml", "uv": "uv.gitlab-ci.yml", "twine": "twine.gitlab-ci.yml"}


@pytest.mark.parametrize("tool", VARIANTS)
def test_a_pipeline_builds_tests_and_publishes_on_a_tag(tool, demo, tmp_path):
    name = f"acme-{tool}-pipeline"
    folder = project(demo, tmp_path / "repository", name, tool)
    shutil.copy(GITLAB / VARIANTS[tool], folder / ".gitlab-ci.yml")
    commit(folder)
    # The one with twine takes the version of pyproject.toml.
    version = "0.1.0" if tool == "twine" else "1.2.3"
    said = pipeline(demo, folder, tmp_path, tag="v1.2.3")
    for job in ("build", "test", "publish"):
        assert re.search(rf"PASS\W+{job}\b", said), said
    module = name.replace("-", "_")
    assert demo.files(name) == {f"{module}-{version}-py3-none-any.whl", f"{module}-{version}.tar.gz"}
    assert f"{module}/__init__.py" in demo.wheel(name, version, tmp_path).namelist()


def test_a_pipeline_reads_and_publishes_with_the_token_that_gitlab_signs_and_nothing_else(gated, tmp_path):
    path = GITLAB / "id-token.gitlab-ci.yml"
    settings = yaml.safe_load(path.read_text())
    assert settings["default"]["id_tokens"] == {"WHEELPORT_ID_TOKEN": {"aud": AUDIENCE}}
    assert set(settings["variables"]) == {"WHEELPORT", "UV_VERSION"}
    name = "acme-id-token"
    folder = project(gated, tmp_path / "repository", name, "uv")
    shutil.copy(path, folder / ".gitlab-ci.yml")
    commit(folder)
    of_tag = gated.issuer.token(ref="v1.2.3", ref_type="tag")
    said = pipeline(gated, folder, tmp_path, tag="v1.2.3", id_token=of_tag)
    for job in ("build", "test", "publish"):
        assert re.search(rf"PASS\W+{job}\b", said), said
    assert gated.files(name) == {"acme_id_token-1.2.3-py3-none-any.whl", "acme_id_token-1.2.3.tar.gz"}
    assert of_tag not in said


def test_a_job_of_kubernetes_installs_with_the_token_of_its_service_account(gated, tmp_path):
    """No cluster here: the command of the job is run with the token where the volume puts it."""
    _, job = yaml.safe_load_all((EXAMPLES / "kubernetes-job.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    (source,) = volume["projected"]["sources"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    mount = container["volumeMounts"][0]
    assert mount["name"] == volume["name"] and source["serviceAccountToken"]["audience"] == AUDIENCE
    assert variables["TOKEN_FILE"] == f"{mount['mountPath']}/{source['serviceAccountToken']['path']}"
    token = tmp_path / "token"
    variables |= {"WHEELPORT": gated.address, "PIP_TRUSTED_HOST": "127.0.0.1", "TOKEN_FILE": str(token)}
    command = [part.replace("/tmp/packages", str(tmp_path / "packages")) for part in container["command"]]
    for text, works in (("guess", False), (gated.token, True)):
        token.write_text(text)
        done = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path) | variables, capture_output=True, text=True, timeout=300)
        assert (done.returncode == 0) == works, done
    assert list((tmp_path / "packages").glob("wheelport_hello*"))


def test_a_pipeline_without_a_tag_publishes_nothing(demo, tmp_path):
    folder = project(demo, tmp_path / "repository", "acme-branch", "twine")
    shutil.copy(GITLAB / VARIANTS["twine"], folder / ".gitlab-ci.yml")
    commit(folder)
    said = pipeline(demo, folder, tmp_path)
    assert re.search(r"PASS\W+test\b", said), said
    assert "publish" not in said
    assert demo.files("acme-branch") == set()


@pytest.mark.parametrize("tool", VARIANTS)
def test_the_component_does_the_same_with_inputs(tool, demo, tmp_path):
    name = f"acme-{tool}-component"
    folder = project(demo, tmp_path / "repository", name, tool)
    (folder / "templates").mkdir()
    shutil.copy(GITLAB / "templates" / "python.yml", folder / "templates")
    (folder / ".gitlab-ci.yml").write_text(
        "stages: [build, test, deploy]\n"
        "include:\n"
        "  - local: templates/python.yml\n"
        "    inputs:\n"
        f"      tool: {tool}\n"
        f'      wheelport: "{demo.address}"\n'
        '      trusted_host: "127.0.0.1"\n'
        "      job_prefix: package\n"
    )
    commit(folder)
    said = pipeline(demo, folder, tmp_path, tag="v2.0.0")
    assert re.search(r"PASS\W+package-publish\b", said), said
    assert len(demo.files(name)) == 2


@pytest.mark.parametrize("path", sorted([*GITLAB.rglob("*"), *EXAMPLES.rglob("*")]), ids=lambda path: path.name)
def test_no_pipeline_holds_an_aws_credential(path: pathlib.Path):
    if path.is_file() and path.parent.name != "runner":
        assert not re.search(r"AWS_|aws codeartifact|authorization-token", path.read_text()), path


def steps_of_github_actions() -> list[str]:
    """The scripts of the workflow's steps, in order."""
    workflow = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())
    return [step["run"] for step in workflow["jobs"]["package"]["steps"] if "run" in step]


def steps_of_jenkins() -> list[str]:
    return re.findall(r"sh '(.+)'$", (EXAMPLES / "Jenkinsfile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "steps"), [("github", steps_of_github_actions()), ("jenkins", steps_of_jenkins())], ids=["github", "jenkins"]
)
def test_the_steps_of_other_systems_work(name, steps, demo, tmp_path):
    """Neither system runs here; their shell steps do, in order, with the variables that the files set."""
    assert len(steps) >= 3
    folder = project(demo, tmp_path / "repository", f"acme-{name}", "twine")
    variables = {
        "WHEELPORT": demo.address,
        "PIP_INDEX_URL": f"{demo.address}/simple/",
        "PIP_TRUSTED_HOST": "127.0.0.1",
        "UV_DEFAULT_INDEX": f"{demo.address}/simple/",
    }
    text = (EXAMPLES / {"github": "github-actions.yml", "jenkins": "Jenkinsfile"}[name]).read_text()
    assert all(variable in text for variable in ("WHEELPORT", "PIP_INDEX_URL", "PIP_TRUSTED_HOST"))
    for step in steps:
        done = subprocess.run(
            ["sh", "-ec", step],
            cwd=folder,
            env=environment(tmp_path) | variables,
            capture_output=True,
            text=True,
            timeout=PIPELINE_SECONDS,
        )
        assert done.returncode == 0, f"{step}\n{done.stdout}{done.stderr}"
    assert len(demo.files(f"acme-{name}")) == 2


def test_the_image_build_installs_through_the_index_it_is_given(demo, tmp_path):
    """No container engine here: the RUN lines of the Dockerfile are run with its build arguments as the environment."""
    text = (EXAMPLES / "Dockerfile").read_text()
    (tmp_path / "requirements.txt").write_text("wheelport-hello\n")
    lines = re.findall(r"^RUN (?:--mount=\S+ )?(.+)$", text, re.MULTILINE)
    assert len(lines) == 2
    arguments = {"PIP_INDEX_URL": f"{demo.address}/simple/", "PIP_TRUSTED_HOST": "127.0.0.1"}
    assert all(f"\nARG {name}\n" in text for name in arguments)
    for line in lines:
        line = line.replace("/app", str(tmp_path / "app"))
        subprocess.run(["sh", "-ec", line], cwd=tmp_path, env=environment(tmp_path) | arguments, check=True, timeout=300)
    assert list((tmp_path / "app").glob("lib/python*/site-packages/wheelport_hello*"))


def test_the_runner_finds_wheelport_in_its_network():
    """What can be held against each other without an engine: the runner's network is the one Wheelport is in."""
    settings = tomllib.loads((GITLAB / "runner" / "config.template.toml").read_text())["runners"][0]
    assert settings["executor"] == "docker"
    assert settings["docker"]["network_mode"] == "ci"
    assert "PIP_INDEX_URL=http://wheelport:8080/simple/" in settings["environment"]
    compose = yaml.safe_load((GITLAB / "runner" / "compose.yaml").read_text())
    assert compose["services"]["wheelport"]["networks"] == ["ci"]
    assert compose["networks"]["ci"]["name"] == "ci"
    assert "environment" not in compose["services"]["runner"]
    known = subprocess.run([binary(), "serve", "--help"], capture_output=True, text=True, check=True, timeout=30).stdout
    for name in compose["services"]["wheelport"]["environment"]:
        assert name.startswith("AWS_") or f"[env: {name}=" in known, name


def test_the_settings_of_bots_name_one_index_and_no_secret():
    """Renovate and Dependabot do not run here; their files are held against what each calls its settings."""
    renovate = json.loads((EXAMPLES / "renovate.json").read_text())
    (rule,) = renovate["packageRules"]
    assert rule["matchDatasources"] == ["pypi"] and rule["registryUrls"] == ["https://wheelport.example.org/simple/"]
    dependabot = yaml.safe_load((EXAMPLES / "dependabot.yml").read_text())
    registry = dependabot["registries"]["wheelport"]
    assert registry["type"] == "python-index" and registry["replaces-base"] is True
    assert dependabot["updates"][0]["registries"] == ["wheelport"]
