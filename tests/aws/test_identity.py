"""Signatures, sessions and denials."""

import base64
import datetime
import json
import urllib.error
import urllib.request

import botocore.exceptions
import pytest
from aws_support import ACCOUNT, ADMINISTRATOR, REGION, make_wheel


def refusal(call, **arguments):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]


def keys(session):
    return (session["AccessKeyId"], session["SecretAccessKey"]), session["SessionToken"]


def web_token(**claims):
    parts = [{"alg": "RS256"}, {"sub": "pod", "iss": "https://issuer.invalid", "aud": "sts"} | claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2ln"])


def test_wrong_keys(emulator):
    for wrong, control_code, sts_code in [
        (("AKIASTRANGER00000000", "secret"), "UnrecognizedClientException", "InvalidClientTokenId"),
        ((ADMINISTRATOR[0], "secret"), "InvalidSignatureException", "SignatureDoesNotMatch"),
    ]:
        assert refusal(emulator.client(keys=wrong).list_domains)["Code"] == control_code
        assert refusal(emulator.client("sts", keys=wrong).get_caller_identity)["Code"] == sts_code


def test_caller_identity(emulator):
    identity = emulator.client("sts").get_caller_identity()
    assert identity["Account"] == ACCOUNT
    assert identity["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/administrator"


def test_a_presigned_identity_request(emulator):
    url = emulator.client("sts").generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert b":user/administrator</Arn>" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"), timeout=10)


def test_assumed_role(emulator, domain):
    role = f"arn:aws:iam::{ACCOUNT}:role/anything"
    session = emulator.client("sts").assume_role(RoleArn=role, RoleSessionName="build", DurationSeconds=900)
    pair, token = keys(session["Credentials"])
    identity = emulator.client("sts", keys=pair, token=token).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/anything/build"
    client = emulator.client(keys=pair, token=token)
    rest = client.get_authorization_token(domain=domain, durationSeconds=0)["expiration"]
    assert rest == session["Credentials"]["Expiration"]
    stolen = emulator.client(keys=pair, token="other")
    assert refusal(stolen.list_domains)["Code"] == "UnrecognizedClientException"


def test_session_token(emulator):
    pair, token = keys(emulator.client("sts").get_session_token(DurationSeconds=900)["Credentials"])
    assert emulator.client("sts", keys=pair, token=token).get_caller_identity()["Account"] == ACCOUNT


def test_conditions_of_roles(emulator):
    sts = emulator.client("sts")
    partner = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/partner", "RoleSessionName": "build"}
    careful = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/careful", "RoleSessionName": "build"}
    for wanting in (partner, careful):
        refused = refusal(sts.assume_role, **wanting)
        assert refused["Code"] == "AccessDenied"
        assert "is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::" in refused["Message"]
    sts.assume_role(ExternalId="ticket-17", **partner)
    sts.assume_role(SerialNumber=f"arn:aws:iam::{ACCOUNT}:mfa/me", TokenCode="123456", **careful)


def test_web_identity(emulator):
    role = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/pod", "RoleSessionName": "pod"}
    sts = emulator.client("sts")
    session = sts.assume_role_with_web_identity(WebIdentityToken=web_token(), **role)
    assert session["SubjectFromWebIdentityToken"] == "pod"
    pair, token = keys(session["Credentials"])
    emulator.client(keys=pair, token=token).list_domains()
    ended = web_token(exp=int(datetime.datetime(2020, 1, 1).timestamp()))
    refused = refusal(sts.assume_role_with_web_identity, WebIdentityToken=ended, **role)
    assert refused["Code"] == "ExpiredTokenException"
    refused = refusal(sts.assume_role_with_web_identity, WebIdentityToken="no token", **role)
    assert refused["Code"] == "InvalidIdentityToken"


@pytest.mark.parametrize(
    ("user", "operation", "action"),
    [
        ("AKIANOTOKEN000000000", "get_authorization_token", "codeartifact:GetAuthorizationToken"),
        ("AKIANOBEARER00000000", "get_authorization_token", "sts:GetServiceBearerToken"),
        ("AKIANOLIST0000000000", "list_packages", "codeartifact:ListPackages"),
    ],
)
def test_denials_name_the_missing_action(emulator, domain, user, operation, action):
    client = emulator.client(keys=(user, "s"))
    arguments = {"domain": domain} | ({"repository": "python"} if operation == "list_packages" else {})
    refused = refusal(getattr(client, operation), **arguments)
    assert refused["Code"] == "AccessDeniedException"
    assert f"is not authorized to perform: {action} on resource: " in refused["Message"]


def test_a_domain_belongs_to_its_account(emulator, domain):
    outsider = emulator.client(keys=("AKIAOUTSIDER00000000", "s"))
    assert refusal(outsider.describe_domain, domain=domain)["Code"] == "ResourceNotFoundException"
    assert domain not in [one["name"] for one in outsider.list_domains()["domains"]]


def test_another_account_needs_a_policy_of_the_domain(emulator, codeartifact, domain, publish):
    publish("sample", "1.0")
    outsider = emulator.client(keys=("AKIAOUTSIDER00000000", "s"))
    where = {"domain": domain, "domainOwner": ACCOUNT}
    refused = refusal(outsider.get_authorization_token, **where)
    assert refused["Code"] == "AccessDeniedException"
    assert "because no resource-based policy allows the codeartifact:GetAuthorizationToken" in refused["Message"]

    def allow(*actions):
        statement = {"Effect": "Allow", "Principal": {"AWS": "444455556666"}, "Action": actions, "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        codeartifact.put_domain_permissions_policy(domain=domain, policyDocument=document)

    allow("codeartifact:GetAuthorizationToken")
    token = outsider.get_authorization_token(**where)["authorizationToken"]
    page = f"{emulator.data}/pypi/d/{domain}-{ACCOUNT}/python/simple/sample/"
    request = urllib.request.Request(page, headers={"Authorization": f"Bearer {token}"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=10)
    allow("codeartifact:GetAuthorizationToken", "codeartifact:Read*")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def test_any_region_is_fine_by_default(emulator):
    assert REGION != "us-west-2"
    emulator.client(region="us-west-2").list_domains()


def test_a_token_carries_the_rights_of_its_principal(emulator, domain, publish):
    publish("sample", "1.0")
    page = f"{emulator.data}/pypi/d/{domain}-{ACCOUNT}/python/simple/sample/"

    def token(user):
        return emulator.client(keys=(user, "s")).get_authorization_token(domain=domain)["authorizationToken"]

    def read(user):
        request = urllib.request.Request(page, headers={"Authorization": f"Bearer {token(user)}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status

    assert read("AKIANOLIST0000000000") == 200
    with pytest.raises(urllib.error.HTTPError, match="403"):
        read("AKIANOREAD0000000000")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        emulator.upload(domain, "python", token("AKIANOLIST0000000000"), make_wheel("sample", "2.0"))
