"""The policies of deploy/iam: they suffice, nothing in them is superfluous, and they name what the service names."""

import json
import pathlib
import urllib.error

import pytest
from deploy_world import (
    ACCOUNT,
    OTHER_ACCOUNT,
    REGION,
    actions,
    check,
    emulator,
    listed,
    make_wheel,
    policy,
    same_policy,
)
from tools import ROOT

FILES = sorted((ROOT / "deploy" / "iam").glob("*.json"))
OUTSIDER = ("AKIAOUTSIDER00000000", "not-a-secret")
# What stops working without each action of the policy for reading.
NEEDED_FOR = {
    "codeartifact:GetAuthorizationToken": "token",
    "sts:GetServiceBearerToken": "token",
    "codeartifact:GetRepositoryEndpoint": "endpoint",
    "codeartifact:ListPackages": "list",
    "codeartifact:ReadFromRepository": "read",
}
# The same for what rules and events ask.
ASKED_FOR = {
    "codeartifact:DescribePackage": "origins",
    "codeartifact:ListPackageVersions": "ages",
    "codeartifact:DescribePackageVersion": "ages",
    "codeartifact:DescribeRepository": "upstreams",
}
RULES = '[[rule]]\nname = "cooldown"\nyounger_than = "7 days"\n'


def role(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def without(action: str) -> str:
    return "without-" + action.split(":")[1]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An emulator whose roles may do what the policies allow, and roles that lack one action each."""
    read, publish = actions(policy("read")), actions(policy("publish"))
    asking = read | ASKED_FOR.keys()
    roles = {"read": read, "publish": publish, "asking": asking}
    roles |= {without(action): read - {action} for action in read}
    roles |= {without(action): asking - {action} for action in ASKED_FOR}
    identities = "".join(
        f'[[roles]]\narn = "{role(name)}"\nactions = {json.dumps(sorted(allowed))}\n'
        for name, allowed in roles.items()
    )
    identities += (
        f'[[principals]]\naccess_key = "{OUTSIDER[0]}"\nsecret_key = "{OUTSIDER[1]}"\nuser = "outsider"\n'
        f'account = "{OTHER_ACCOUNT}"\nactions = {json.dumps(sorted(read))}\n'
    )
    with emulator(tmp_path_factory.mktemp("iam"), identities) as running:
        service = running.client()
        service.create_domain(domain="acme")
        service.create_repository(domain="acme", repository="python")
        token = service.get_authorization_token(domain="acme")["authorizationToken"]
        running.upload("acme", "python", token, make_wheel("sample", "1.0"))
        yield running


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_command_prints_the_files(file: pathlib.Path):
    values = {"REGION": REGION, "ACCOUNT": ACCOUNT, "DOMAIN": "acme", "REPOSITORY": "python", "READER": OTHER_ACCOUNT}
    values |= {"BUCKET": "acme-wheelport", "QUEUE": "wheelport-events", "/KEY": "/key-1"}
    text = file.read_text()
    for word, value in values.items():
        text = text.replace(word, value)
    assert same_policy(policy(file.stem, reader=OTHER_ACCOUNT), text)
    assert len(text) < 7168, "the service takes no longer policy"


def test_the_policy_for_reading_suffices(world):
    steps = check(world, f"--role-arn={role('read')}")
    assert set(steps.values()) == {"ok"}, steps


def test_every_action_of_the_policy_for_reading_is_looked_at():
    assert actions(policy("read")) == set(NEEDED_FOR)


@pytest.mark.parametrize("action", NEEDED_FOR, ids=lambda action: action.split(":")[1])
def test_nothing_in_the_policy_for_reading_is_superfluous(world, action):
    steps = check(world, f"--role-arn={role(without(action))}")
    assert steps[NEEDED_FOR[action]] in ("fail", "warn"), steps


@pytest.mark.parametrize("missing", [None, *ASKED_FOR], ids=lambda action: (action or "x:nothing").split(":")[1])
def test_what_rules_and_events_ask_is_looked_at_right_by_right(world, missing):
    asked = {action for action in actions(policy("origins")) | actions(policy("fleet")) if action.startswith("codeartifact:")}
    assert asked == set(ASKED_FOR)
    config = world.home / "rules.toml"
    config.write_text(RULES)
    name = without(missing) if missing else "asking"
    # The queue is not there; what a step says of it is not looked at.
    steps = check(world, f"--role-arn={role(name)}", f"--config={config}", "--fleet-events=http://127.0.0.1:1/1/q")
    if missing:
        assert steps[ASKED_FOR[missing]] in ("fail", "warn"), steps
    else:
        assert {steps[step] for step in ASKED_FOR.values()} == {"ok"}, steps


def test_only_the_policy_for_publishing_publishes(world):
    wheels = {"publish": make_wheel("published", "1.0"), "read": make_wheel("refused", "1.0")}
    for name, wheel in wheels.items():
        token = token_of(world, name)
        if name == "publish":
            world.upload("acme", "python", token, wheel)
        else:
            with pytest.raises(urllib.error.HTTPError) as refused:
                world.upload("acme", "python", token, wheel)
            assert refused.value.code == 403
    names = [package["package"] for package in world.client().list_packages(domain="acme", repository="python")["packages"]]
    assert "published" in names and "refused" not in names


def token_of(world, name: str) -> str:
    keys = world.client("sts").assume_role(RoleArn=role(name), RoleSessionName="test")["Credentials"]
    service = world.client(keys=(keys["AccessKeyId"], keys["SecretAccessKey"]), token=keys["SessionToken"])
    return service.get_authorization_token(domain="acme")["authorizationToken"]


def test_the_policies_name_what_the_service_names(world):
    service = world.client()
    domain = service.describe_domain(domain="acme")["domain"]["arn"]
    repository = service.describe_repository(domain="acme", repository="python")["repository"]["arn"]
    by_sid = {statement["Sid"]: statement["Resource"] for statement in policy("publish")["Statement"]}
    assert by_sid["MintTokens"] == domain
    assert by_sid["Read"] == repository
    assert by_sid["Publish"] == repository.replace(":repository/", ":package/") + "/pypi//*"


def test_another_account_needs_both_policies_on_the_owners_side(world):
    """The outsider's own policy is the one for reading, all the time."""
    service = world.client()

    def steps() -> dict[str, str]:
        return check(world, keys=OUTSIDER)

    assert steps()["token"] == "fail"
    document = json.dumps(policy("cross-account-domain", reader=OTHER_ACCOUNT))
    service.put_domain_permissions_policy(domain="acme", policyDocument=document)
    assert steps()["token"] == "ok"
    assert steps()["endpoint"] == "fail"
    document = json.dumps(policy("cross-account-repository", reader=OTHER_ACCOUNT))
    service.put_repository_permissions_policy(domain="acme", repository="python", policyDocument=document)
    assert set(steps().values()) == {"ok"}, steps()
    service.delete_repository_permissions_policy(domain="acme", repository="python")
    service.delete_domain_permissions_policy(domain="acme")
    assert steps()["token"] == "fail"


def test_resources_are_never_wider_than_needed():
    for statement in policy("publish")["Statement"]:
        if "*" in listed(statement["Resource"]):
            assert statement["Action"] == "sts:GetServiceBearerToken"
            assert statement["Condition"]["StringEquals"]["sts:AWSServiceName"] == "codeartifact.amazonaws.com"
