"""Every operation of the service model, through boto3."""

import datetime
import hashlib

import botocore.exceptions
import pytest
from aws_support import ACCOUNT, REGION

# What the emulator's store can give no meaning to.
NOT_EMULATED = {
    "CreatePackageGroup",
    "DeletePackageGroup",
    "ListAllowedRepositoriesForGroup",
    "ListAssociatedPackages",
    "ListSubPackageGroups",
    "UpdatePackageGroup",
    "UpdatePackageGroupOriginConfiguration",
}


def refusal(call, **arguments):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**arguments)
    return caught.value.response


def code(call, **arguments):
    return refusal(call, **arguments)["Error"]["Code"]


def minimal(shape, name=""):
    """The smallest input that passes the client's own validation."""
    if shape.type_name == "structure":
        return {member: minimal(shape.members[member], member) for member in shape.required_members}
    if shape.type_name == "list":
        return [minimal(shape.member)]
    if shape.type_name == "map":
        return {}
    if shape.type_name == "blob":
        return b"bytes"
    if shape.type_name == "boolean":
        return False
    if shape.type_name in ("integer", "long"):
        return 1
    if getattr(shape, "enum", None):
        return shape.enum[0]
    if name == "assetSHA256":
        return hashlib.sha256(b"bytes").hexdigest()
    if name == "resourceArn":
        return f"arn:aws:codeartifact:{REGION}:{ACCOUNT}:domain/nowhere"
    return "/pypi*" if name == "packageGroup" else "nowhere"


def operations():
    import botocore.session

    model = botocore.session.get_session().get_service_model("codeartifact")
    return [model.operation_model(name) for name in model.operation_names]


@pytest.mark.parametrize("operation", operations(), ids=lambda operation: operation.name)
def test_every_operation_is_known_and_answers_with_its_own_errors(emulator, codeartifact, operation):
    arguments = minimal(operation.input_shape)
    if operation.name == "CreateDomain":
        arguments["domain"] = "Not-A-Domain-Name"
    declared = {shape.name for shape in operation.error_shapes}
    try:
        codeartifact._make_api_call(operation.name, arguments)
    except botocore.exceptions.ClientError as error:
        expected = {"NotImplementedException"} if operation.name in NOT_EMULATED else declared
        if operation.name == "PublishPackageVersion":
            expected = {"ValidationException", "NotImplementedException"}
        assert error.response["Error"]["Code"] in expected
        assert error.response["Error"]["Message"]
    else:
        assert operation.name in {"ListDomains", "ListRepositories", "DeleteDomain"}


def test_domain_life(codeartifact, domain):
    described = codeartifact.describe_domain(domain=domain)["domain"]
    assert described["arn"] == f"arn:aws:codeartifact:{REGION}:{ACCOUNT}:domain/{domain}"
    assert described["status"] == "Active"
    assert described["repositoryCount"] == 1
    age = datetime.datetime.now(datetime.UTC) - described["createdTime"]
    assert datetime.timedelta(0) <= age + datetime.timedelta(seconds=1) < datetime.timedelta(minutes=5)
    assert domain in [one["name"] for one in codeartifact.list_domains()["domains"]]
    assert code(codeartifact.create_domain, domain=domain) == "ConflictException"
    conflict = refusal(codeartifact.delete_domain, domain=domain)
    assert conflict["ResponseMetadata"]["HTTPStatusCode"] == 409
    assert conflict["resourceType"] == "domain"


def test_repository_life(codeartifact, domain):
    created = codeartifact.create_repository(
        domain=domain,
        repository="team",
        description="for the team",
        upstreams=[{"repositoryName": "python"}],
        tags=[{"key": "a", "value": "b"}],
    )["repository"]
    assert created["upstreams"] == [{"repositoryName": "python"}]
    assert created["administratorAccount"] == ACCOUNT
    assert codeartifact.list_tags_for_resource(resourceArn=created["arn"])["tags"] == [{"key": "a", "value": "b"}]

    updated = codeartifact.update_repository(domain=domain, repository="team", description="new", upstreams=[])
    assert (updated["repository"]["description"], updated["repository"]["upstreams"]) == ("new", [])
    connection = {"domain": domain, "repository": "team", "externalConnection": "public:pypi"}
    connected = codeartifact.associate_external_connection(**connection)["repository"]
    assert connected["externalConnections"] == [
        {"externalConnectionName": "public:pypi", "packageFormat": "pypi", "status": "Available"}
    ]
    assert code(codeartifact.associate_external_connection, **connection) == "ConflictException"
    gone = codeartifact.disassociate_external_connection(**connection)["repository"]
    assert gone["externalConnections"] == []
    assert code(codeartifact.disassociate_external_connection, **connection) == "ResourceNotFoundException"

    names = [one["name"] for one in codeartifact.list_repositories(repositoryPrefix="te")["repositories"]]
    assert names == ["team"]
    pages = codeartifact.get_paginator("list_repositories_in_domain").paginate(
        domain=domain, PaginationConfig={"PageSize": 1}
    )
    assert [one["name"] for page in pages for one in page["repositories"]] == ["python", "team"]
    codeartifact.delete_repository(domain=domain, repository="team")
    missing = refusal(codeartifact.describe_repository, domain=domain, repository="team")
    assert missing["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert (missing["resourceId"], missing["resourceType"]) == ("team", "repository")


def test_too_many_upstreams_are_a_quota(codeartifact, domain):
    names = [f"up{number}" for number in range(11)]
    for name in names:
        codeartifact.create_repository(domain=domain, repository=name)
    upstreams = [{"repositoryName": name} for name in names]
    refused = refusal(codeartifact.update_repository, domain=domain, repository="python", upstreams=upstreams)
    assert refused["Error"]["Code"] == "ServiceQuotaExceededException"
    assert refused["ResponseMetadata"]["HTTPStatusCode"] == 402


def test_tags(codeartifact, domain):
    arn = codeartifact.describe_domain(domain=domain)["domain"]["arn"]
    codeartifact.tag_resource(resourceArn=arn, tags=[{"key": "x", "value": "1"}, {"key": "y", "value": "2"}])
    codeartifact.untag_resource(resourceArn=arn, tagKeys=["x"])
    assert codeartifact.list_tags_for_resource(resourceArn=arn)["tags"] == [{"key": "y", "value": "2"}]


def test_policies(codeartifact, domain):
    for kind, where in [("domain", {}), ("repository", {"repository": "python"})]:
        get = getattr(codeartifact, f"get_{kind}_permissions_policy")
        put = getattr(codeartifact, f"put_{kind}_permissions_policy")
        delete = getattr(codeartifact, f"delete_{kind}_permissions_policy")
        assert code(get, domain=domain, **where) == "ResourceNotFoundException"
        document = '{"Version": "2012-10-17", "Statement": []}'
        policy = put(domain=domain, policyDocument=document, **where)["policy"]
        assert policy["document"] == document
        assert get(domain=domain, **where)["policy"] == policy
        stale = {"domain": domain, "policyDocument": "{}", "policyRevision": "other", **where}
        assert code(put, **stale) == "ConflictException"
        assert code(put, domain=domain, policyDocument="no JSON", **where) == "ValidationException"
        delete(domain=domain, policyRevision=policy["revision"], **where)
        assert code(get, domain=domain, **where) == "ResourceNotFoundException"


def test_endpoint(emulator, codeartifact, domain):
    ask = {"domain": domain, "repository": "python"}
    for kind in ("ipv4", "dualstack"):
        answer = codeartifact.get_repository_endpoint(format="pypi", endpointType=kind, **ask)
        assert answer["repositoryEndpoint"] == f"{emulator.data}/pypi/d/{domain}-{ACCOUNT}/python/"
    for other in ("npm", "maven", "nuget", "generic", "ruby", "swift", "cargo"):
        endpoint = codeartifact.get_repository_endpoint(format=other, **ask)["repositoryEndpoint"]
        assert endpoint == f"{emulator.data}/{other}/d/{domain}-{ACCOUNT}/python/"


@pytest.mark.parametrize("seconds", [None, 900, 43200])
def test_token_lifetime(codeartifact, domain, seconds):
    arguments = {} if seconds is None else {"durationSeconds": seconds}
    answer = codeartifact.get_authorization_token(domain=domain, domainOwner=ACCOUNT, **arguments)
    life = answer["expiration"] - datetime.datetime.now(datetime.UTC)
    assert abs(life.total_seconds() - (seconds or 43200)) < 60
    assert answer["authorizationToken"].count(".") == 4


@pytest.mark.parametrize("seconds", [0, 1, 899])
def test_impossible_token_lifetimes(codeartifact, domain, seconds):
    refused = refusal(codeartifact.get_authorization_token, domain=domain, durationSeconds=seconds)
    assert refused["Error"]["Code"] == "ValidationException"
    assert refused["reason"] == "FIELD_VALIDATION_FAILED"


def test_packages(codeartifact, domain, publish):
    for project in ("alpha", "beta", "gamma"):
        publish(project, "1.0")
    where = {"domain": domain, "repository": "python"}
    pages = codeartifact.get_paginator("list_packages").paginate(PaginationConfig={"PageSize": 2}, **where)
    assert [one["package"] for page in pages for one in page["packages"]] == ["alpha", "beta", "gamma"]
    first = codeartifact.list_packages(packagePrefix="al", format="pypi", **where)["packages"]
    published = {"restrictions": {"publish": "ALLOW", "upstream": "BLOCK"}}
    assert first == [{"format": "pypi", "package": "alpha", "originConfiguration": published}]
    assert codeartifact.list_packages(format="maven", **where)["packages"] == []

    package = {"format": "pypi", "package": "beta", **where}
    assert codeartifact.describe_package(**package)["package"]["name"] == "beta"
    controls = {"publish": "BLOCK", "upstream": "ALLOW"}
    changed = codeartifact.put_package_origin_configuration(restrictions=controls, **package)
    assert changed["originConfiguration"]["restrictions"] == controls
    for filtered in ({"publish": "BLOCK"}, {"upstream": "ALLOW"}):
        found = codeartifact.list_packages(**filtered, **where)["packages"]
        assert [one["package"] for one in found] == ["beta"]
    assert codeartifact.delete_package(**package)["deletedPackage"]["package"] == "beta"
    assert code(codeartifact.describe_package, **package) == "ResourceNotFoundException"
    group = codeartifact.get_associated_package_group(domain=domain, format="pypi", package="alpha")
    assert group["packageGroup"]["pattern"] == "/*"


def test_version_reads(codeartifact, domain, publish):
    name, content = publish("sample", "1.0", ["idna>=3", "attrs; extra == 'x'"])
    package = {"domain": domain, "repository": "python", "format": "pypi", "package": "sample"}
    version = {"packageVersion": "1.0", **package}
    described = codeartifact.describe_package_version(**version)["packageVersion"]
    assert (described["status"], described["origin"]["originType"]) == ("Published", "INTERNAL")
    assert described["origin"]["domainEntryPoint"] == {"repositoryName": "python"}

    listed = codeartifact.list_package_version_assets(**version)
    (asset,) = listed["assets"]
    assert (asset["name"], asset["size"]) == (name, len(content))
    assert asset["hashes"] == {
        "MD5": hashlib.md5(content).hexdigest(),
        "SHA-1": hashlib.sha1(content).hexdigest(),
        "SHA-256": hashlib.sha256(content).hexdigest(),
        "SHA-512": hashlib.sha512(content).hexdigest(),
    }
    got = codeartifact.get_package_version_asset(asset=name, **version)
    assert got["asset"].read() == content
    assert (got["assetName"], got["packageVersion"]) == (name, "1.0")
    assert got["packageVersionRevision"] == listed["versionRevision"] == described["revision"]
    assert code(codeartifact.get_package_version_asset, asset="other.whl", **version) == "ResourceNotFoundException"

    assert "# Sample" in codeartifact.get_package_version_readme(**version)["readme"]
    needs = codeartifact.list_package_version_dependencies(**version)["dependencies"]
    assert [one["package"] for one in needs] == ["idna", "attrs"]
    assert needs[0]["versionRequirement"] == ">=3"


def test_version_changes(codeartifact, domain, publish):
    for number in ("1.0", "1.1", "1.2"):
        publish("sample", number)
    package = {"domain": domain, "repository": "python", "format": "pypi", "package": "sample"}

    def versions(**filters):
        return [one["version"] for one in codeartifact.list_package_versions(**filters, **package)["versions"]]

    assert versions() == ["1.0", "1.1", "1.2"]
    assert versions(sortBy="PUBLISHED_TIME", originType="INTERNAL") == ["1.2", "1.1", "1.0"]
    assert versions(originType="EXTERNAL") == []
    assert codeartifact.list_package_versions(**package)["defaultDisplayVersion"] == "1.2"

    update = codeartifact.update_package_versions_status
    outcome = update(versions=["1.0", "9.9"], targetStatus="Unlisted", **package)
    assert outcome["successfulVersions"]["1.0"]["status"] == "Unlisted"
    assert outcome["failedVersions"]["9.9"]["errorCode"] == "NOT_FOUND"
    outcome = update(versions=["1.0"], expectedStatus="Published", targetStatus="Archived", **package)
    assert outcome["failedVersions"]["1.0"]["errorCode"] == "MISMATCHED_STATUS"
    outcome = update(versions=["1.0"], versionRevisions={"1.0": "other"}, targetStatus="Archived", **package)
    assert outcome["failedVersions"]["1.0"]["errorCode"] == "MISMATCHED_REVISION"
    assert versions(status="Unlisted") == ["1.0"]

    outcome = codeartifact.dispose_package_versions(versions=["1.1"], **package)
    assert outcome["successfulVersions"]["1.1"]["status"] == "Disposed"
    outcome = update(versions=["1.1"], targetStatus="Published", **package)
    assert outcome["failedVersions"]["1.1"]["errorCode"] == "NOT_ALLOWED"

    outcome = codeartifact.delete_package_versions(versions=["1.0"], **package)
    assert outcome["successfulVersions"]["1.0"]["status"] == "Deleted"
    assert versions() == ["1.1", "1.2"]
    assert code(update, versions=["1.2"], targetStatus="Disposed", **package) == "ValidationException"


def test_copy(codeartifact, domain, publish):
    publish("sample", "1.0")
    codeartifact.create_repository(domain=domain, repository="between", upstreams=[{"repositoryName": "python"}])
    codeartifact.create_repository(domain=domain, repository="target")
    copy = {"domain": domain, "format": "pypi", "package": "sample", "destinationRepository": "target"}
    outcome = codeartifact.copy_package_versions(sourceRepository="between", versions=["1.0"], **copy)
    assert outcome["failedVersions"]["1.0"]["errorCode"] == "NOT_FOUND"
    outcome = codeartifact.copy_package_versions(
        sourceRepository="between", versions=["1.0"], includeFromUpstream=True, **copy
    )
    assert outcome["successfulVersions"]["1.0"]["status"] == "Published"
    both = {"versions": ["1.0"], "versionRevisions": {"1.0": "x"}, "sourceRepository": "python", **copy}
    assert code(codeartifact.copy_package_versions, **both) == "ValidationException"
