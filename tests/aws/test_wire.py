"""What only a raw request shows: headers, numbers, missing pieces."""

import http.client
import json
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials
from aws_support import ADMINISTRATOR, REGION


def raw(emulator, method, target, headers=(), body=None):
    """Sends exactly these headers and `Host`; no length and no type unless named."""
    address = urllib.parse.urlsplit(emulator.control)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.putrequest(method, target, skip_accept_encoding=True)
    for name, value in dict(headers).items():
        if name.lower() != "host":
            connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def signed(emulator, method, target):
    request = botocore.awsrequest.AWSRequest(method, emulator.control + target)
    credentials = botocore.credentials.Credentials(*ADMINISTRATOR)
    botocore.auth.SigV4Auth(credentials, "codeartifact", REGION).add_auth(request)
    return dict(request.headers.items())


def test_a_post_needs_neither_length_nor_type(emulator, domain):
    target = f"/v1/authorization-token?domain={domain}"
    answer, content = raw(emulator, "POST", target, signed(emulator, "POST", target))
    assert answer.status == 200
    assert answer.getheader("content-type") == "application/json"
    assert answer.getheader("x-amzn-requestid")
    body = json.loads(content)
    assert set(body) == {"authorizationToken", "expiration"}
    assert isinstance(body["expiration"], int)


def test_times_are_numbers_with_a_fraction(emulator, domain):
    target = f"/v1/domain?domain={domain}"
    answer, content = raw(emulator, "GET", target, signed(emulator, "GET", target))
    assert answer.status == 200
    assert isinstance(json.loads(content)["domain"]["createdTime"], float)


def test_the_shape_of_an_error(emulator):
    target = "/v1/domain?domain=nowhere"
    answer, content = raw(emulator, "GET", target, signed(emulator, "GET", target))
    assert answer.status == 404
    assert answer.getheader("x-amzn-errortype") == "ResourceNotFoundException"
    assert json.loads(content) == {
        "__type": "ResourceNotFoundException",
        "message": "Domain not found. ResourceId: nowhere",
        "resourceId": "nowhere",
        "resourceType": "domain",
    }


def test_unsigned_and_half_signed_requests(emulator):
    for headers, status, code in [
        ({}, 403, "MissingAuthenticationTokenException"),
        ({"Authorization": "Bearer x"}, 400, "IncompleteSignatureException"),
        ({"Authorization": "AWS4-HMAC-SHA256 Credential=x"}, 400, "IncompleteSignatureException"),
    ]:
        answer, _ = raw(emulator, "GET", "/v1/domain?domain=nowhere", headers)
        assert (answer.status, answer.getheader("x-amzn-errortype")) == (status, code)


def test_a_changed_request_is_refused(emulator):
    headers = signed(emulator, "GET", "/v1/domain?domain=nowhere")
    answer, _ = raw(emulator, "GET", "/v1/domain?domain=elsewhere", headers)
    assert (answer.status, answer.getheader("x-amzn-errortype")) == (403, "InvalidSignatureException")


def test_an_unknown_address(emulator):
    answer, _ = raw(emulator, "GET", "/v2/domain")
    assert (answer.status, answer.getheader("x-amzn-errortype")) == (404, "UnknownOperationException")
