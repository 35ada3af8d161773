"""The Terraform module of deploy/terraform, applied for real: the AWS provider against the emulator, with moto for IAM and KMS.

One test tells the whole story in order, because each step takes a provider's start: apply, nothing left to do, change in place, nothing
left to do, destroy. The others stand in folders of their own.
"""

import json
import os
import shutil
import stat

import boto3
import pytest
from deploy_world import (
    ACCOUNT,
    ADMINISTRATOR,
    OTHER_ACCOUNT,
    REGION,
    actions,
    check,
    emulator,
    moto,
    policy,
    same_policy,
)
from terraform import Terraform, provider
from tools import ROOT

MODULE = ROOT / "deploy" / "terraform"
OVERRIDE = "endpoints_override.tf"
OUTSIDER = ("AKIAOUTSIDER00000000", "not-a-secret")


class World:
    """The emulator, IAM and KMS, and the example of the module laid before them."""

    def __init__(self, running, stand_in: str, terraform: Terraform):
        self.emulator = running
        self.terraform = terraform
        self.codeartifact = running.client()
        self.stand_in = stand_in

    def client(self, service: str):
        session = boto3.session.Session(*ADMINISTRATOR, region_name=REGION)
        return session.client(service, endpoint_url=self.stand_in)

    def outputs(self) -> dict:
        return json.loads(self.terraform.run("output", "-json"))["packages"]["value"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    home = tmp_path_factory.mktemp("terraform")
    shutil.copytree(MODULE, home / "module")
    folder = home / "module" / "example"
    # The emulator knows the roles beforehand, with the rights that the module's policies will give them.
    identities = "".join(
        f'[[roles]]\narn = "arn:aws:iam::{ACCOUNT}:role/wheelport-{name}"\n'
        f"actions = {json.dumps(sorted(actions(policy(name))))}\n"
        for name in ("read", "publish")
    )
    identities += (
        f'[[principals]]\naccess_key = "{OUTSIDER[0]}"\nsecret_key = "{OUTSIDER[1]}"\nuser = "outsider"\n'
        f'account = "{OTHER_ACCOUNT}"\nactions = {json.dumps(sorted(actions(policy("read"))))}\n'
    )
    with emulator(home / "emulator", identities) as running, moto(home) as stand_in:
        endpoints = {"codeartifact": running.control, "sts": running.control, "iam": stand_in, "kms": stand_in}
        (folder / OVERRIDE).write_text(provider(**endpoints))
        terraform = Terraform(folder, running.environment())
        terraform.init()
        yield World(running, stand_in, terraform)


def test_the_files_are_formatted(tmp_path):
    terraform = Terraform(tmp_path, {"PATH": os.environ["PATH"], "HOME": str(tmp_path)})
    assert terraform.run("fmt", "-check", "-recursive", "-list=true", str(MODULE), expect=(0, 3)) == ""


def test_apply_then_change_then_destroy(world):
    terraform = world.terraform
    assert "11 added, 0 changed, 0 destroyed" in terraform.apply()
    outputs = world.outputs()
    everything_is_there(world, outputs)
    the_roles_are_least_privilege(world)
    wheelport_works_with_the_outputs(world, outputs)
    assert terraform.is_settled()

    example = terraform.folder / "main.tf"
    changed = example.read_text().replace("reader_accounts", "external_connection = null\n  publisher_accounts")
    changed = changed.replace('team = "platform"', 'team = "data"')
    changed = changed.replace("publish_accounts = [", "# [")
    changed = changed.replace("trusted_services = []", "publish_from_read_role = true\n  read_origins = true")
    assert changed.count("publisher_accounts") == 1
    example.write_text(changed)
    terraform.apply()
    the_change_is_there(world)
    assert terraform.is_settled()

    terraform.destroy()
    nothing_is_left(world)


def everything_is_there(world, outputs):
    domain = world.codeartifact.describe_domain(domain="acme")["domain"]
    assert domain["encryptionKey"] == outputs["key_arn"]
    assert domain["owner"] == outputs["domain_owner"] == ACCOUNT
    key = world.client("kms").describe_key(KeyId=outputs["key_arn"])["KeyMetadata"]
    assert key["Enabled"]
    private, public = (
        world.codeartifact.describe_repository(domain="acme", repository=name)["repository"]
        for name in ("python", "python-public")
    )
    assert [upstream["repositoryName"] for upstream in private["upstreams"]] == ["python-public"]
    assert private["externalConnections"] == []
    assert [entry["externalConnectionName"] for entry in public["externalConnections"]] == ["public:pypi"]
    tags = world.codeartifact.list_tags_for_resource(resourceArn=private["arn"])["tags"]
    assert tags == [{"key": "team", "value": "platform"}]
    endpoint = world.codeartifact.get_repository_endpoint(domain="acme", repository="python", format="pypi")
    assert outputs["repository_endpoint"] == endpoint["repositoryEndpoint"]
    document = world.codeartifact.get_domain_permissions_policy(domain="acme")["policy"]["document"]
    assert same_policy(document, policy("cross-account-domain", reader=OTHER_ACCOUNT))
    where = {"domain": "acme", "repository": "python"}
    document = world.codeartifact.get_repository_permissions_policy(**where)["policy"]["document"]
    assert same_policy(document, policy("cross-account-repository", reader=OTHER_ACCOUNT))


def the_roles_are_least_privilege(world):
    iam = world.client("iam")
    for name, account in {"read": "wheelport:wheelport", "publish": "wheelport:wheelport-publish"}.items():
        role = f"wheelport-{name}"
        assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
        assert iam.list_role_policies(RoleName=role)["PolicyNames"] == ["codeartifact"]
        given = iam.get_role_policy(RoleName=role, PolicyName="codeartifact")["PolicyDocument"]
        assert same_policy(given, policy(name))
        (trust,) = iam.get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Action"] == "sts:AssumeRoleWithWebIdentity"
        issuer = "oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE"
        assert trust["Principal"]["Federated"].endswith(f":oidc-provider/{issuer}")
        assert trust["Condition"]["StringEquals"] == {
            f"{issuer}:sub": f"system:serviceaccount:{account}",
            f"{issuer}:aud": "sts.amazonaws.com",
        }


def wheelport_works_with_the_outputs(world, outputs):
    for name in ("read", "publish"):
        steps = check(world.emulator, f"--role-arn={outputs[f'{name}_role_arn']}", domain=outputs["domain"])
        # An empty repository has no page to read.
        assert set(steps.values()) <= {"ok", "skip", "warn"} and steps["token"] == "ok", steps
    assert check(world.emulator, keys=OUTSIDER)["token"] == "ok"


def the_change_is_there(world):
    where = {"domain": "acme", "repository": "python"}
    private = world.codeartifact.describe_repository(**where)["repository"]
    assert private["upstreams"] == []
    names = [found["name"] for found in world.codeartifact.list_repositories_in_domain(domain="acme")["repositories"]]
    assert names == ["python"]
    document = json.loads(world.codeartifact.get_repository_permissions_policy(**where)["policy"]["document"])
    assert [statement["Sid"] for statement in document["Statement"]] == ["Read", "Publish"]
    tags = world.codeartifact.list_tags_for_resource(resourceArn=private["arn"])["tags"]
    assert tags == [{"key": "team", "value": "data"}]
    the_roles_ask_for_origins(world)
    the_read_role_takes_the_publish_role(world)


def the_roles_ask_for_origins(world):
    (origins,) = policy("origins")["Statement"]
    for role in ("wheelport-read", "wheelport-publish"):
        document = world.client("iam").get_role_policy(RoleName=role, PolicyName="codeartifact")["PolicyDocument"]
        (given,) = [statement for statement in document["Statement"] if statement["Sid"] == "Origins"]
        assert same_policy({"Statement": [given]}, {"Statement": [origins]})


def the_read_role_takes_the_publish_role(world):
    """And is the only one who can."""
    iam = world.client("iam")
    arn = f"arn:aws:iam::{ACCOUNT}:role/wheelport"
    (trust,) = iam.get_role(RoleName="wheelport-publish")["Role"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Condition"] == {"ArnEquals": {"aws:PrincipalArn": f"{arn}-read"}}
    (given,) = iam.get_role_policy(RoleName="wheelport-read", PolicyName="publish-as")["PolicyDocument"]["Statement"]
    assert (given["Action"], given["Resource"]) == ("sts:AssumeRole", f"{arn}-publish")


def nothing_is_left(world):
    names = [domain["name"] for domain in world.codeartifact.list_domains()["domains"]]
    assert names == ["demo"]
    assert world.client("iam").list_roles()["Roles"] == []
    keys = world.client("kms").list_keys()["Keys"]
    states = [world.client("kms").describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] for key in keys]
    assert set(states) == {"PendingDeletion"}
    assert check(world.emulator, keys=OUTSIDER)["token"] == "fail"


def test_a_role_that_nobody_could_take_is_refused(world, tmp_path):
    """In a folder of its own; creates nothing."""
    shutil.copytree(MODULE, tmp_path / "module")
    folder = tmp_path / "module" / "example"
    shutil.copy(world.terraform.folder / OVERRIDE, folder)
    text = (folder / "main.tf").read_text()
    start, end = text.index("  irsa = {"), text.index("  # For an account without")
    (folder / "main.tf").write_text(text[:start] + text[end:])
    terraform = Terraform(folder, world.emulator.environment())
    terraform.init_like(world.terraform)
    refused = terraform.run("plan", "-no-color", "-input=false", expect=(1,))
    assert "No principal could assume the role wheelport-read" in refused


def test_what_replicas_share(world, tmp_path):
    """In a folder of its own: a closed bucket whose files expire, and a queue that the rule fills with the domain's events."""
    shutil.copytree(MODULE, tmp_path / "module")
    folder = tmp_path / "module" / "example"
    endpoints = {"codeartifact": world.emulator.control, "sts": world.emulator.control}
    endpoints |= {service: world.stand_in for service in ("iam", "kms", "s3", "sqs", "events")}
    (folder / OVERRIDE).write_text(provider(**endpoints).replace("{\n", "{\n  s3_use_path_style = true\n", 1))
    text = (folder / "main.tf").read_text().replace('"acme"', '"fleet"')
    text = text.replace("  tags = {", '  name_prefix = "fleet"\n  fleet = { bucket = "acme-wheelport", destroy_with_objects = true }\n\n  tags = {')
    (folder / "main.tf").write_text(text)
    terraform = Terraform(folder, world.emulator.environment())
    terraform.init_like(world.terraform)
    terraform.apply()
    outputs = json.loads(terraform.run("output", "-json"))["packages"]["value"]
    assert outputs["fleet_store"] == "s3://acme-wheelport/wheelport"
    key = outputs["key_arn"].rsplit("/", 1)[1]
    iam, s3, sqs, events = (world.client(service) for service in ("iam", "s3", "sqs", "events"))
    expected = policy("fleet", domain="fleet", queue="fleet-events", key=key)
    for role in ("fleet-read", "fleet-publish"):
        given = iam.get_role_policy(RoleName=role, PolicyName="fleet")["PolicyDocument"]
        assert same_policy(given, expected), given

    closed = s3.get_public_access_block(Bucket="acme-wheelport")["PublicAccessBlockConfiguration"]
    assert all(closed.values())
    (rule,) = s3.get_bucket_encryption(Bucket="acme-wheelport")["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["KMSMasterKeyID"] == outputs["key_arn"]
    rules = s3.get_bucket_lifecycle_configuration(Bucket="acme-wheelport")["Rules"]
    prefixes = sorted(rule["Filter"]["Prefix"] for rule in rules if "Expiration" in rule)
    assert prefixes == [f"wheelport/v1/{kind}/" for kind in ("blob", "metadata", "page")]
    assert [rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] for rule in rules if "Expiration" not in rule] == [1]

    def put(source: str, **detail: str) -> None:
        given = {"domainName": "fleet", "packageFormat": "pypi", "packageName": "hello"} | detail
        entry = {"Source": source, "DetailType": "CodeArtifact Package Version State Change", "Detail": json.dumps(given)}
        assert events.put_events(Entries=[entry])["FailedEntryCount"] == 0

    put("acme.tests")
    put("aws.codeartifact", domainName="other")
    put("aws.codeartifact", packageFormat="npm")
    put("aws.codeartifact")
    queue = sqs.get_queue_url(QueueName="fleet-events")["QueueUrl"]
    (message,) = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    event = json.loads(message["Body"])
    assert (event["source"], event["detail"]["packageName"]) == ("aws.codeartifact", "hello")
    assert event["detail-type"] == "CodeArtifact Package Version State Change"
    terraform.destroy()


CONFIG = f"""
[profile base]
region = {REGION}

[profile mfa]
region = {REGION}
source_profile = base
mfa_serial = arn:aws:iam::{ACCOUNT}:mfa/ada

[profile mended]
region = {REGION}

[profile tools]
region = {REGION}
credential_process = KEYS

[profile deploy]
region = {REGION}
role_arn = arn:aws:iam::{ACCOUNT}:role/deploy
source_profile = base

[profile deploy-mfa]
region = {REGION}
role_arn = arn:aws:iam::{ACCOUNT}:role/deploy
source_profile = base
mfa_serial = arn:aws:iam::{ACCOUNT}:mfa/ada
"""


def test_profiles_for_mfa_fail_as_docs_aws_says_and_its_ways_out_work(world, tmp_path):
    """docs/AWS.md: `credential type source_profile requires role_arn`."""
    keys = tmp_path / "export-credentials"
    answer = {"Version": 1, "AccessKeyId": ADMINISTRATOR[0], "SecretAccessKey": ADMINISTRATOR[1]}
    keys.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    keys.chmod(keys.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "config").write_text(CONFIG.replace("KEYS", str(keys)))
    lines = f"aws_access_key_id = {ADMINISTRATOR[0]}\naws_secret_access_key = {ADMINISTRATOR[1]}\n"
    (tmp_path / "credentials").write_text("".join(f"[{name}]\n{lines}" for name in ("base", "mfa", "mended")))
    files = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }

    failing = plan_with_profiles(world, tmp_path / "failing", files, ["mfa", "deploy-mfa"], expect=1)
    assert "credential type source_profile requires role_arn, profile mfa" in failing
    assert "assume role with MFA enabled, but AssumeRoleTokenProvider session option not set" in failing
    # A profile is chosen and keys are in the environment: the profile still counts.
    text = plan_with_profiles(
        world, tmp_path / "chosen", files | environment_keys() | {"AWS_PROFILE": "mfa"}, [], expect=1
    )
    assert "credential type source_profile requires role_arn, profile mfa" in text

    working = plan_with_profiles(
        world, tmp_path / "working", files | environment_keys(), ["mended", "tools", "deploy"], expect=0
    )
    assert working.count(":user/administrator") == 3, working
    assert working.count(":assumed-role/deploy/") == 1, working


def environment_keys() -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": ADMINISTRATOR[0], "AWS_SECRET_ACCESS_KEY": ADMINISTRATOR[1]}


def plan_with_profiles(world, folder, environment, profiles: list[str], expect: int) -> str:
    """Plans a configuration that only asks who it is: once by the environment, and once by each profile."""
    folder.mkdir()
    settings = provider(sts=world.emulator.control)
    text = ""
    if not profiles or expect == 0:
        text += settings + 'data "aws_caller_identity" "environment" {}\n'
        text += 'output "environment" { value = data.aws_caller_identity.environment.arn }\n'
    for profile in profiles:
        alias = f'provider "aws" {{\n  alias = "{profile}"\n  profile = "{profile}"'
        text += settings.replace('provider "aws" {', alias)
        text += f'data "aws_caller_identity" "{profile}" {{\n  provider = aws.{profile}\n}}\n'
        text += f'output "{profile}" {{ value = data.aws_caller_identity.{profile}.arn }}\n'
    (folder / "main.tf").write_text(text)
    terraform = Terraform(folder, world.emulator.environment(keys=None) | environment)
    terraform.init_like(world.terraform)
    return terraform.run("plan", "-no-color", "-input=false", expect=(expect,))
