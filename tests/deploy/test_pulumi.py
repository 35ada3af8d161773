"""The Pulumi program of deploy/pulumi, run with Pulumi's mocks: what it registers, and that it refuses what cannot work."""

import json
import subprocess

import pytest
from deploy_world import ACCOUNT, OTHER_ACCOUNT, REGION, policy, same_policy
from tools import HERE, python_environment

ISSUER = "oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE"
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"
EXAMPLE = {
    "domain": "acme",
    "irsa": {
        "provider_arn": PROVIDER,
        "read_accounts": ["wheelport:wheelport"],
        "publish_accounts": ["wheelport:wheelport-publish"],
    },
    "tags": {"team": "platform"},
}


def run(tmp_path, **settings):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PULUMI_SKIP_UPDATE_CHECK": "true"}
    command = [python_environment("pulumi") / "python", HERE / "pulumi_mocks.py", json.dumps(settings)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def registered(tmp_path, **settings) -> tuple[dict[tuple[str, str], dict], dict]:
    """Inputs by kind and name, and the stack's outputs."""
    done = run(tmp_path, **settings)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    kinds = {(entry["type"].split(":")[-1], entry["name"]): entry["inputs"] for entry in found["resources"]}
    assert len(kinds) == len(found["resources"])
    return kinds, found["exports"]


def test_the_domain_has_its_key_and_a_private_repository_over_a_public_one(tmp_path):
    made, outputs = registered(tmp_path, **EXAMPLE)
    assert made["Key", "domain"]["enableKeyRotation"] is True
    assert made["Domain", "domain"]["encryptionKey"] == outputs["key_arn"]
    assert made["Repository", "public"]["externalConnections"] == {"externalConnectionName": "public:pypi"}
    assert made["Repository", "private"]["upstreams"] == [{"repositoryName": "python-public"}]
    assert "externalConnections" not in made["Repository", "private"]
    tagged = [inputs.get("tags") for (kind, _), inputs in made.items() if kind in ("Key", "Domain", "Repository", "Role")]
    assert tagged == [{"team": "platform"}] * 6
    assert outputs["domain_owner"] == ACCOUNT
    assert outputs["read_role_arn"] == f"arn:aws:iam::{ACCOUNT}:role/wheelport-read"


def test_the_roles_have_the_policies_of_deploy_iam_and_trust_their_service_account_only(tmp_path):
    made, _ = registered(tmp_path, **EXAMPLE)
    for name, account in {"read": "wheelport:wheelport", "publish": "wheelport:wheelport-publish"}.items():
        assert same_policy(made["RolePolicy", name]["policy"], policy(name))
        (trust,) = json.loads(made["Role", name]["assumeRolePolicy"])["Statement"]
        assert trust["Action"] == "sts:AssumeRoleWithWebIdentity"
        assert trust["Principal"] == {"Federated": PROVIDER}
        assert trust["Condition"]["StringEquals"] == {
            f"{ISSUER}:sub": [f"system:serviceaccount:{account}"],
            f"{ISSUER}:aud": "sts.amazonaws.com",
        }
    assert not any(kind.endswith(("Permissions", "PermissionsPolicy")) for kind, _ in made)


def test_other_accounts_get_the_cross_account_policies(tmp_path):
    made, _ = registered(tmp_path, **EXAMPLE, reader_accounts=[OTHER_ACCOUNT])
    domain = made["DomainPermissions", "domain"]["policyDocument"]
    repository = made["RepositoryPermissionsPolicy", "private"]["policyDocument"]
    assert same_policy(domain, policy("cross-account-domain", reader=OTHER_ACCOUNT))
    assert same_policy(repository, policy("cross-account-repository", reader=OTHER_ACCOUNT))
    made, _ = registered(tmp_path, **EXAMPLE, publisher_accounts=[OTHER_ACCOUNT])
    repository = json.loads(made["RepositoryPermissionsPolicy", "private"]["policyDocument"])
    assert [statement["Sid"] for statement in repository["Statement"]] == ["Read", "Publish"]


def test_workloads_without_kubernetes(tmp_path):
    made, outputs = registered(
        tmp_path,
        domain="acme",
        trusted_services=["ecs-tasks.amazonaws.com", "pods.eks.amazonaws.com"],
        trusted_principals=[f"arn:aws:iam::{OTHER_ACCOUNT}:root"],
        external_id="ticket-17",
        create_publish_role="false",
    )
    assert outputs["publish_role_arn"] is None
    assert ("Role", "publish") not in made
    workloads, principals = json.loads(made["Role", "read"]["assumeRolePolicy"])["Statement"]
    assert workloads["Action"] == ["sts:AssumeRole", "sts:TagSession"]
    assert principals["Condition"] == {"StringEquals": {"sts:ExternalId": "ticket-17"}}


def test_the_read_role_may_take_the_publish_role(tmp_path):
    made, outputs = registered(
        tmp_path,
        domain="acme",
        irsa={"provider_arn": PROVIDER, "read_accounts": ["wheelport:wheelport"]},
        publish_from_read_role="true",
    )
    (trust,) = json.loads(made["Role", "publish"]["assumeRolePolicy"])["Statement"]
    assert trust["Principal"] == {"AWS": outputs["read_role_arn"]}
    (given,) = json.loads(made["RolePolicy", "chain"]["policy"])["Statement"]
    assert (given["Action"], given["Resource"]) == ("sts:AssumeRole", outputs["publish_role_arn"])


def test_roles_may_ask_for_origins_where_rules_need_it(tmp_path):
    made, _ = registered(tmp_path, **EXAMPLE, read_origins="true", reader_accounts=[OTHER_ACCOUNT])
    (origins,) = policy("origins")["Statement"]
    for name in ("read", "publish"):
        assert origins in json.loads(made["RolePolicy", name]["policy"])["Statement"]
    (allowed,) = json.loads(made["RepositoryPermissionsPolicy", "private"]["policyDocument"])["Statement"]
    assert set(origins["Action"]) <= set(allowed["Action"])


def test_a_fleet_has_a_closed_bucket_a_queue_of_events_and_the_policy_for_both(tmp_path):
    made, outputs = registered(tmp_path, **EXAMPLE, fleet={"bucket": "acme-wheelport"})
    for name in ("read", "publish"):
        assert same_policy(made["RolePolicy", f"{name}-fleet"]["policy"], policy("fleet"))
    assert outputs["fleet_store"] == "s3://acme-wheelport/wheelport"
    closed = made["BucketPublicAccessBlock", "fleet"]
    assert all(value for name, value in closed.items() if name.startswith(("block", "ignore", "restrict")))
    (rule,) = made["BucketServerSideEncryptionConfiguration", "fleet"]["rules"]
    assert rule["applyServerSideEncryptionByDefault"]["kmsMasterKeyId"] == outputs["key_arn"]
    rules = made["BucketLifecycleConfiguration", "fleet"]["rules"]
    expired = [rule["filter"]["prefix"] for rule in rules if "expiration" in rule]
    assert expired == ["wheelport/v1/blob/", "wheelport/v1/metadata/", "wheelport/v1/page/"]
    pattern = json.loads(made["EventRule", "packages"]["eventPattern"])
    assert pattern["detail"] == {"domainName": ["acme"], "packageFormat": ["pypi"]}
    (allowed,) = json.loads(made["QueuePolicy", "events"]["policy"])["Statement"]
    assert allowed["Principal"] == {"Service": "events.amazonaws.com"}
    assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/wheelport-packages"}}
    assert "deadLetterTargetArn" in made["Queue", "events"]["redrivePolicy"]


def test_a_role_that_nobody_could_take_is_refused(tmp_path):
    done = run(tmp_path, domain="acme")
    assert done.returncode != 0
    assert "no principal could assume the role wheelport-read" in done.stderr


def test_the_example_names_only_settings_that_the_program_reads():
    folder = HERE.parents[1] / "deploy" / "pulumi"
    program = (folder / "__main__.py").read_text()
    for line in (folder / "Pulumi.example.yaml").read_text().splitlines():
        name = line.strip().removeprefix("wheelport-packages:").split(":")[0]
        if line.strip().startswith("wheelport-packages:"):
            assert f'"{name}"' in program, name
    assert f"aws:region: {REGION}" in (folder / "Pulumi.example.yaml").read_text()


@pytest.mark.parametrize("file", ["Pulumi.yaml", "Pulumi.example.yaml"])
def test_the_project_files_are_yaml(file):
    """Read with the parser that Pulumi's own SDK brings."""
    path = HERE.parents[1] / "deploy" / "pulumi" / file
    script = "import sys, yaml; assert isinstance(yaml.safe_load(open(sys.argv[1])), dict)"
    command = [python_environment("pulumi") / "python", "-c", script, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
