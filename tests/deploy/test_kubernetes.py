"""The kustomize overlays and the Helm chart: valid against Kubernetes' schemas, equal to each other, and Wheelport takes their configuration."""

from __future__ import annotations

import functools
import json
import pathlib
import re
import tomllib
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pods import run_pods
from tools import CHART, HERE, KUBERNETES, ROOT, output, tool
from world import Process, get, wait_for

OVERLAYS = ["irsa", "pod-identity", "full", "fleet", "tls", "mtls"]
VERSIONS = ["1.27", "1.31", "1.37"]
NAMESPACE = "wheelport"
# Kinds of operators, whose schemas do not come with Kubernetes.
FOREIGN = {"ServiceMonitor", "Certificate"}
Object = dict[str, Any]


@functools.cache
def kustomized(overlay: str) -> list[Object]:
    folder = KUBERNETES / "overlays" / overlay
    text = output(tool("kubectl"), "kustomize", folder)
    return list(yaml.safe_load_all(text))


@functools.cache
def charted(values: str) -> list[Object]:
    text = output(tool("helm"), "template", "wheelport", CHART, "--namespace", NAMESPACE, "--values", HERE / "values" / f"{values}.yaml")
    return [found for found in yaml.safe_load_all(text) if found]


def helm(*arguments: str | pathlib.Path, fails: bool = False) -> str:
    return output(tool("helm"), *arguments, check=lambda code: (code != 0) == fails)


def comparable(objects: list[Object]) -> dict[str, Object]:
    """Without what only one of the two adds: a hash in a name, its own labels, a checksum, the namespace; TOML is parsed."""
    text = json.dumps(objects)
    for name in {found["metadata"]["name"] for found in objects if found["kind"] == "ConfigMap"}:
        text = text.replace(f'"{name}"', f'"{re.sub(r"-[a-z0-9]{10}$", "", name)}"')
    result = {}
    for found in json.loads(text):
        metadata = found["metadata"]
        metadata.pop("namespace", None)
        for added in ("app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"):
            metadata.get("labels", {}).pop(added, None)
        if found["kind"] == "ConfigMap":
            found["data"] = {name: tomllib.loads(content) for name, content in found["data"].items()}
        if found["kind"] == "Deployment":
            template = found["spec"]["template"]["metadata"]
            template.get("annotations", {}).pop("checksum/config", None)
            if not template.get("annotations"):
                template.pop("annotations", None)
        result[f"{found['kind']}/{metadata['name']}"] = found
    return result


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", [*OVERLAYS, "try-out"])
def test_overlays_are_valid(overlay: str, version: str) -> None:
    for found in kustomized(overlay):
        if found["kind"] not in FOREIGN:
            kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", OVERLAYS)
def test_the_chart_renders_valid_objects(values: str, version: str) -> None:
    for found in charted(values):
        if found["kind"] not in FOREIGN:
            kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_job_that_shows_its_token_is_valid(version: str) -> None:
    for found in yaml.safe_load_all((ROOT / "deploy" / "examples" / "kubernetes-job.yaml").read_text()):
        kubernetes_validate.validate(found, version, strict=True)


def test_the_schemas_do_find_mistakes() -> None:
    (deployment,) = [found for found in kustomized("irsa") if found["kind"] == "Deployment"]
    wrong = json.loads(json.dumps(deployment))
    wrong["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFilesystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_chart_and_overlay_are_the_same(name: str) -> None:
    ours, theirs = comparable(kustomized(name)), comparable(charted(name))
    assert sorted(ours) == sorted(theirs)
    for key, found in ours.items():
        assert found == theirs[key], key


def every_object() -> list[tuple[str, list[Object]]]:
    return [(name, kustomized(name)) for name in [*OVERLAYS, "try-out"]] + [(f"chart {name}", charted(name)) for name in OVERLAYS]


def pods(objects: list[Object]) -> list[Object]:
    return [found["spec"]["template"] for found in objects if found["kind"] == "Deployment"]


def test_every_pod_is_confined() -> None:
    for name, objects in every_object():
        for pod in pods(objects):
            spec = pod["spec"]
            assert spec["automountServiceAccountToken"] is False, name
            assert spec["securityContext"]["runAsNonRoot"] is True, name
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
            for container in spec["containers"]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }, name
                assert "memory" in container["resources"]["limits"], name


def test_what_refers_to_something_finds_it() -> None:
    for name, objects in every_object():
        labels = [pod["metadata"]["labels"] for pod in pods(objects)]
        by_kind: dict[str, list[Object]] = {}
        for found in objects:
            by_kind.setdefault(found["kind"], []).append(found)
        chosen = [service["spec"]["selector"] for service in by_kind["Service"]]
        chosen += [found["spec"]["selector"]["matchLabels"] for found in by_kind["PodDisruptionBudget"]]
        chosen += [found["spec"]["podSelector"]["matchLabels"] for found in by_kind["NetworkPolicy"]]
        for selector in chosen:
            matching = [found for found in labels if selector.items() <= found.items()]
            assert len(matching) == 1, f"{name}: {selector} chooses {len(matching)} kinds of pods"
        (deployment,) = [found for found in by_kind["Deployment"] if found["metadata"]["name"] == "wheelport"]
        scalers = by_kind.get("HorizontalPodAutoscaler", [])
        if scalers:
            assert [scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers] == ["wheelport"], name
            assert "replicas" not in deployment["spec"], f"{name}: the autoscaler and the manifest would pull at the same rope"
            assert scalers[0]["spec"]["minReplicas"] == 2, name
        else:
            assert deployment["spec"]["replicas"] == 1, f"{name}: replicas share nothing"
        if name.endswith("fleet"):
            assert scalers and "emptyDir" in deployment["spec"]["template"]["spec"]["volumes"][1], name
        for monitor in by_kind.get("ServiceMonitor", []):
            wanted = monitor["spec"]["selector"]["matchLabels"]
            (service,) = [found for found in by_kind["Service"] if wanted.items() <= found["metadata"]["labels"].items()]
            assert monitor["spec"]["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]
        for ingress in by_kind.get("Ingress", []):
            backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
            (service,) = [found for found in by_kind["Service"] if found["metadata"]["name"] == backend["name"]]
            assert backend["port"]["name"] in [port["name"] for port in service["spec"]["ports"]]


def test_pods_that_speak_https_are_probed_over_it_and_follow_a_renewed_certificate() -> None:
    for name, objects in every_object():
        spec = next(pod["spec"] for pod in pods(objects) if pod["spec"].get("serviceAccountName") == "wheelport")
        (container,) = spec["containers"]
        schemes = {container[probe]["httpGet"].get("scheme") for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
        environment = {variable["name"]: variable.get("value", "") for variable in container["env"]}
        if not name.endswith("tls"):
            assert schemes == {None} and "WHEELPORT_TLS_CERTIFICATE" not in environment, name
            continue
        assert schemes == {"HTTPS"}, name
        (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "tls"]
        (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "tls"]
        # A single file that is mounted with subPath would keep its first content.
        assert "subPath" not in mount and mount["readOnly"], name
        files = [environment["WHEELPORT_TLS_CERTIFICATE"], environment["WHEELPORT_TLS_KEY"]]
        assert files == [f"{mount['mountPath']}/tls.crt", f"{mount['mountPath']}/tls.key"], name
        (certificate,) = [found for found in objects if found["kind"] == "Certificate"]
        assert certificate["spec"]["secretName"] == volume["secret"]["secretName"], name


def test_client_authorities_are_mounted_without_their_keys() -> None:
    for name, objects in every_object():
        spec = next(pod["spec"] for pod in pods(objects) if pod["spec"].get("serviceAccountName") == "wheelport")
        environment = {variable["name"]: variable.get("value") for variable in spec["containers"][0]["env"]}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        if not name.endswith("mtls"):
            assert "WHEELPORT_TLS_CLIENT_CA" not in environment and "client-ca" not in volumes, name
            continue
        (mount,) = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == "client-ca"]
        assert environment["WHEELPORT_TLS_CLIENT_CA"] == f"{mount['mountPath']}/ca.crt" and "subPath" not in mount, name
        assert volumes["client-ca"]["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}], name


@pytest.mark.parametrize("tls, told", [
    ({"clientCaSecret": "a"}, "need tls.secretName"),
    ({"secretName": "s", "clientCaSecret": "a", "clientCaConfigMap": "b"}, "give one of"),
])
def test_client_authorities_need_tls_and_come_from_one_place(tls: dict[str, str], told: str, tmp_path: pathlib.Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({**yaml.safe_load((HERE / "values" / "irsa.yaml").read_text()), "tls": tls}))
    assert told in helm("template", "wheelport", CHART, "--values", values, fails=True)
    if "secretName" in tls:
        values.write_text(values.read_text().replace("  clientCaSecret: a\n", ""))
        assert "configMap:\n            name: b\n" in helm("template", "wheelport", CHART, "--values", values)


def in_seconds(duration: str) -> int:
    found = re.fullmatch(r"(\d+)(s|m)", duration)
    assert found
    return int(found[1]) * (60 if found[2] == "m" else 1)


def test_pods_have_the_time_and_the_room_that_the_configuration_takes() -> None:
    for name, objects in every_object():
        (toml,) = [found["data"]["wheelport.toml"] for found in objects if found["kind"] == "ConfigMap"]
        settings = tomllib.loads(toml)
        spec = next(pod["spec"] for pod in pods(objects) if pod["spec"].get("serviceAccountName") == "wheelport")
        server = settings.get("server", {})
        needed = in_seconds(server.get("drain_delay", "0s")) + in_seconds(server.get("drain_timeout", "50s")) + 5
        assert spec["terminationGracePeriodSeconds"] > needed, name
        (cache,) = [volume for volume in spec["volumes"] if volume["name"] == "cache"]
        size = cache.get("emptyDir", {}).get("sizeLimit") or cache["ephemeral"]["volumeClaimTemplate"]["spec"]["resources"]["requests"]["storage"]
        assert int(size.removesuffix("Gi")) > int(settings["cache"]["max_size"].removesuffix("GiB")), name
        mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounts["cache"] == settings["cache"]["dir"], name


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("source", [kustomized, charted])
def test_wheelport_takes_the_configuration(source: Any, name: str, program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (toml,) = [found["data"]["wheelport.toml"] for found in source(name) if found["kind"] == "ConfigMap"]
    path = tmp_path / "wheelport.toml"
    path.write_text(toml.replace("/var/cache/wheelport", str(tmp_path / "cache")))
    process = Process(
        "serve", ["serve", "--config", str(path), "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"],
        {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, tmp_path,
    )
    try:
        operations = process.until(r"operations on (\S+)")[1]
        routes = json.loads(get(f"{operations}/status")[1])["routes"]
        assert [route["route"] for route in routes] == [route["name"] for route in tomllib.loads(toml)["route"]]
    finally:
        # Not ended in order: the time for draining that the configuration gives is not what this looks at.
        process.kill()


def test_the_container_runs_in_the_manifests_environment(program: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The try-out's two pods as two processes: their arguments and environments, only the addresses are others."""
    with run_pods(kustomized("try-out"), tmp_path) as proxy:
        wait_for(lambda: get(f"{proxy}/readyz")[0] == 200, "the proxy is ready")
        status, body = get(f"{proxy}/simple/wheelport-hello/")
        assert status == 200 and b"wheelport_hello" in body
        for host, expected in [("wheelport.tools", 200), ("wheelport.tools.svc.cluster.local", 200), ("10.1.2.3:8080", 200), ("wheelport.other", 421)]:
            assert get(f"{proxy}/simple/wheelport-hello/", headers={"Host": host})[0] == expected, host


def documented_settings() -> dict[str, set[str]]:
    """The keys of each table of the configuration file, by the table's name; those outside of tables have none."""
    tables: dict[str, set[str]] = {}
    for section in (ROOT / "docs" / "CONFIGURATION.md").read_text().split("\n## ")[1:]:
        heading, text = section.split("\n", 1)
        if heading == "Top level" or heading.startswith("`["):
            rows = re.findall(r"^\| (`[^|]+`) \|", text.split("\n### ")[0], re.MULTILINE)
            tables[re.sub(r"[^a-z]", "", heading.removeprefix("Top level"))] = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    return tables


def test_the_values_schema_has_every_documented_setting_and_no_other() -> None:
    known = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]["properties"]
    keys = {table: set(of.get("items", of)["properties"]) for table, of in known.items() if of["type"] in ("object", "array")}
    keys[""] = known.keys() - keys.keys()
    documented = documented_settings()
    assert {"spool_max", "min_rate"} < documented["upload"], "the tables are found"
    # The chart gives the pods their addresses.
    documented[""] -= {"listen", "ops_listen"}
    assert keys == documented


def test_the_chart_takes_every_table(tmp_path: pathlib.Path) -> None:
    good = yaml.safe_load((HERE / "values" / "irsa.yaml").read_text())
    more = {
        "ops_secret_file": "/run/secrets/operations",
        "publisher": [{"name": "ci", "token_sha256": "0" * 64, "projects": ["acme-*"]}],
        "issuer": [{"name": "cluster", "url": "https://oidc.example.org", "audience": "wheelport"}],
        "identity": [
            {"name": "k8s:{sub}", "issuer": "cluster", "claims": {"/kubernetes.io/namespace": ["ci", "build-*"]}, "read": ["*"]},
            {"name": "{certificate}", "client_certificate": "spiffe://acme/build/*", "read": ["*"]},
        ],
        "notify": {"url": "https://hooks.example.org/wheelport", "secret_file": "/notify/secret", "retry_for": "2h", "queue": 100},
        "policy": {"private": ["acme-*"]},
        "rule": [{"name": "cooldown", "younger_than": "7 days", "origin": "external", "reason": "Releases wait seven days here."}],
        "exception": [{"projects": ["urllib3"], "versions": "==2.6.3", "reason": "a fix", "by": "sec@acme", "expires": "2026-12-31"}],
        "freeze": [{"name": "release-42", "at": "2026-11-01T00:00:00Z"}],
        "prices": {"per_10k_requests": 0.05, "per_gb_out": 0.09, "currency": "USD"},
        "upload": {"spool_max": "2GiB", "max_at_once": 4, "stall_timeout": "20s"},
        "upstream": {"request_rate": 110, "retry_ratio": 0.2, "retry_floor": 1, "proxy": "http://proxy.example.org:3128", "no_proxy": "10.0.0.0/8"},
    }
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({**good, "config": {**good["config"], **more}, "notify": {"secretName": "wheelport-notify"}}))
    text = helm("template", "wheelport", CHART, "--values", values)
    for line in ["per_gb_out = 0.09", "secretName: wheelport-notify", "mountPath: /notify", "queue = 100\n", "spool_max = \"2GiB\"", "token_sha256 = ", "retry_floor = 1\n", "ops_secret_file = ", "client_certificate = ", "/kubernetes.io/namespace", "younger_than = ", "expires = "]:
        assert line in text, line


def test_the_values_schema_refuses_mistakes(tmp_path: pathlib.Path) -> None:
    good = yaml.safe_load((HERE / "values" / "irsa.yaml").read_text())
    for change, told in [
        ({"replicaCount": 3}, "replicaCount"),
        ({"config": {**good["config"], "route": []}}, "minItems"),
        ({"config": {**good["config"], "cache": {"max_size": 8}}}, "max_size"),
        ({"config": {**good["config"], "route": [{"domain": "acme", "repository": "r", "domain_owner": 111122223333}]}}, "domain_owner"),
        ({"cache": {"kind": "existingClaim"}}, "existingClaim"),
        ({"cache": {"kind": "existingClaim", "existingClaim": "c"}, "replicas": 2}, "readWriteMany"),
        ({"serviceAccount": {"roleArn": "wheelport-read"}}, "roleArn"),
        ({"ingress": {"enabled": True, "host": "pypi.example.org"}}, "allowed_hosts"),
        ({"config": {**good["config"], "notify": {"url": "http://hooks.example.org/", "secret_file": "/notify/secret"}}}, "url"),
        ({"config": {**good["config"], "notify": {"url": "https://hooks.example.org/", "secret_file": "/notify/secret"}}}, "notify.secretName"),
    ]:
        values = tmp_path / "values.yaml"
        values.write_text(yaml.safe_dump({**good, **change}))
        assert told in helm("template", "wheelport", CHART, "--values", values, fails=True), change


def test_the_chart_without_what_is_optional(tmp_path: pathlib.Path) -> None:
    off = {name: {"enabled": False} for name in ("autoscaling", "podDisruptionBudget", "networkPolicy")}
    cache = {"kind": "existingClaim", "existingClaim": "wheelport"}
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump({
        **yaml.safe_load((HERE / "values" / "irsa.yaml").read_text()), **off, "cache": cache,
        "serviceAccount": {"create": False, "name": "mine"}, "fullnameOverride": "pypi",
    }))
    objects = [found for found in yaml.safe_load_all(helm("template", "release", CHART, "--values", values)) if found]
    assert sorted(found["kind"] for found in objects) == ["ConfigMap", "Deployment", "Service"]
    assert {found["metadata"]["name"] for found in objects} == {"pypi"}
    (deployment,) = [found for found in objects if found["kind"] == "Deployment"]
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}, "two pods cannot mount the claim at once"
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "mine"
    for found in objects:
        kubernetes_validate.validate(found, VERSIONS[-1], strict=True)


def test_the_notes_warn_of_uploads_through_replicas_that_share_nothing(tmp_path: pathlib.Path) -> None:
    good = yaml.safe_load((HERE / "values" / "irsa.yaml").read_text())
    uploading = {**good["config"], "route": [{**good["config"]["route"][0], "upload": "token"}]}
    many = {"autoscaling": {"enabled": True}}
    for change, warned in [
        ({}, False), ({"replicas": 3}, False), ({"config": uploading}, False),
        ({"config": uploading, "replicas": 2}, True), ({"config": uploading, **many}, True),
        ({"config": {**uploading, "fleet": {"store": "s3://acme-wheelport"}}, "replicas": 3}, False),
        ({"config": {**uploading, "fleet": {"events": "https://sqs.eu-central-1.amazonaws.com/1/q"}}, "replicas": 3}, True),
    ]:
        values = tmp_path / "values.yaml"
        values.write_text(yaml.safe_dump({**good, **change}))
        notes = helm("install", "wheelport", CHART, "--dry-run=client", "--values", values).split("NOTES:")[1]
        assert ("WARNING: uploads are on" in notes) is warned, change


def test_a_change_of_configuration_is_rolled_out(tmp_path: pathlib.Path) -> None:
    values = HERE / "values" / "irsa.yaml"

    def checksum(*more: str) -> str:
        text = helm("template", "wheelport", CHART, "--values", values, *more)
        (found,) = re.findall(r"checksum/config: (\w+)", text)
        return found

    assert checksum() == checksum("--set", "log=debug")
    assert checksum() != checksum("--set", "config.cache.fresh_for=5m")


def test_the_chart_is_clean_and_can_be_packed(tmp_path: pathlib.Path) -> None:
    helm("lint", "--strict", CHART, "--values", HERE / "values" / "full.yaml")
    helm("package", CHART, "--destination", tmp_path)
    (packed,) = tmp_path.glob("wheelport-*.tgz")
    assert "values.schema.json" in output("tar", "-tzf", packed)


def test_one_version_everywhere() -> None:
    cargo = tomllib.loads((KUBERNETES.parents[1] / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (cargo, cargo)
    for overlay in [*OVERLAYS, "try-out"]:
        images = {container["image"] for pod in pods(kustomized(overlay)) for container in pod["spec"]["containers"]}
        assert images == {f"wheelport:{cargo}"}, overlay
