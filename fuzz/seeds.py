"""Writes the first inputs of a fuzz target into corpus/TARGET: small ones of every shape that the target knows.

    python3 seeds.py wheel
"""

import gzip
import io
import json
import pathlib
import sys
import tarfile
import warnings
import zipfile

warnings.filterwarnings("ignore", "Duplicate name")  # on purpose

METADATA = b"Metadata-Version: 2.1\nName: a-b\nVersion: 1.0\nRequires-Dist: c (>=1)\nRequires-Dist: d; extra == 'e'\n\nText\n"
DIGEST = "0" * 64
USAGE = json.dumps({
    "layout": 1, "day": "2026-11-28", "names": ["main", "a-b", "1.0", "ci:web"],
    "rows": [[0, 1, 2, 5, 3, 10, 20], [0, 1, 2, 0, 1, 86399, 0], [0, 1, 2, 1, 9, 0, 86399]], "others": [[0, 4, 7, 0]],
}, separators=(",", ":")).encode()


def wheel(compression=zipfile.ZIP_DEFLATED, directory="a_b-1.0.dist-info", comment=b"", extra=()):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("a_b/__init__.py", b"")
        archive.writestr(f"{directory}/METADATA", METADATA)
        for name in extra:
            archive.writestr(name, METADATA)
        archive.comment = comment
    return buffer.getvalue()


def tar(form=tarfile.PAX_FORMAT, name="a_b-1.0/PKG-INFO"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for path, content in [("a_b-1.0/setup.py", b"#"), (name, METADATA)]:
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_sdist():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a_b-1.0/PKG-INFO", METADATA)
    return buffer.getvalue()


def form_fields(file_type="bdist_wheel", name="a_b-1.0-py3-none-any.whl"):
    values = {
        ":action": "file_upload", "protocol_version": "1", "name": "a-b", "version": "1.0", "filetype": file_type,
        "sha256_digest": DIGEST, "md5_digest": "0" * 32, "blake2_256_digest": DIGEST,
    }
    records = [f"{key}={value}" for key, value in values.items()] + [f"@{name}"]
    return b"".join(record.encode() + b"\xff" for record in records)


def form(end="--\r\n", disposition='form-data; name="content"; filename="a_b-1.0-py3-none-any.whl"', start=""):
    field = '--b\r\nContent-Disposition: form-data; name=":action"\r\n\r\nfile_upload\r\n'
    content = f"--b\r\nContent-Disposition: {disposition}\r\nContent-Type: application/octet-stream\r\n\r\nPK\r\n--b"
    return b"multipart/form-data; boundary=b\n\x07" + (start + field + content + end).encode()


def page(**more):
    file = {
        "filename": "a_b-1.0-py3-none-any.whl", "url": f"1.0/a_b-1.0-py3-none-any.whl#sha256={DIGEST}",
        "hashes": {"sha256": DIGEST}, "requires-python": ">=3.8", "size": 7, "yanked": "why",
        "upload-time": "2024-05-01T12:00:00.000000Z", "core-metadata": {"sha256": DIGEST}, "gpg-sig": True,
    }
    document = {
        "meta": {"api-version": "1.1"}, "name": "a-b", "versions": ["1.0"],
        "files": [file, file | {"filename": "a_b-1.0-2.tar.gz", "url": "https://other.invalid/x/a_b-1.0-2.tar.gz", "yanked": False}],
    }
    return json.dumps(document | more).encode()


def html(body):
    return f"<!DOCTYPE html><html><head><meta name='pypi:repository-version' content='1.1'></head><body>{body}</body></html>".encode()


CONFIGURATION = b"""listen = ["127.0.0.1:8080", "[::1]:8080"]
ops_listen = "127.0.0.1:9090"
[aws]
region = "eu-central-1"
external_id = "e"
token_lifetime = "1h"
[[route]]
name = "main"
domain = "acme"
domain_owner = "111122223333"
repository = "python"
endpoint = "https://repository.invalid/pypi/python/"
default = true
upload = "token"
publish_role_arn = "arn:aws:iam::111122223333:role/publish"
[[publisher]]
name = "ci"
token_sha256 = "%s"
projects = ["acme-*"]
routes = ["main"]
[cache]
max_size = "50GiB"
fresh_for = "1h 30s"
[server]
public_url = "https://packages.invalid/"
allowed_hosts = ["*.acme.internal", "private"]
trusted_proxies = ["10.0.0.0/8"]
memory = "1GiB"
[upstream]
proxy = "http://u:p@proxy.internal:3128"
redirect_hosts = ["*.example.org"]
request_rate = 350
retry_ratio = 0.1
[upload]
max_fields = 2000
stall_timeout = "250ms"
""" % DIGEST.encode()
FILE = {"name": "a_b-1.0.tar.gz", "version": "1.0", "hashes": [["sha256", DIGEST]], "size": 1, "yanked": {"Because": "x"}, "core_metadata": "Available"}


def record(kind, document):
    return bytes([kind]) + json.dumps(document).encode()


LINK = f"<a href='1.0/a_b-1.0.tar.gz#sha256={DIGEST}' data-requires-python='&gt;=3.8' data-yanked='x&amp;y' data-core-metadata='sha256={DIGEST}'>a_b-1.0.tar.gz</a><br>"

def event(**changed):
    detail = {
        "domainName": "acme", "domainOwner": "111122223333", "repositoryName": "python", "packageFormat": "pypi", "packageName": "a-b",
        "packageVersion": "1.0", "packageVersionState": "Published", "operationType": "Created", "changes": {"assetsAdded": 1},
    }
    return json.dumps({
        "version": "0", "detail-type": "CodeArtifact Package Version State Change", "source": "aws.codeartifact", "account": "111122223333",
        "region": "eu-central-1", "resources": [], "detail": {**detail, **changed},
    }).encode()


SEEDS = {
    "address": lambda: [path.encode() for path in (
        "/", "/simple/", "/simple/a-b/", "/simple/A.B", "/simple/a-b/1.0/a_b-1.0-py3-none-any.whl",
        "/simple/a-b/1.0/a_b-1.0-py3-none-any.whl.metadata", "/pypi/other/simple/a-b/", "/pypi/a-b/json",
        "/pypi/a-b/1.0/json", "/pypi/main/a-b/1.0%2Bx/json", "/legacy/", "/+simple/a//b/", "/simple/%2e%2e/x", "//evil/simple/A/",
    )],
    "configuration": lambda: [
        b"\x04" + CONFIGURATION, b"\x00\"http://u:$@proxy.internal:3128\"\n" + CONFIGURATION, b"\x00\"socks5://u:$@h\"\n",
        b"\x00[\"$\"]\n", b"\x01{ a = \"$\" }\n", b"\x02\"$\"\ndomain = 7\n", b"\x03\"$\"\n[[route]]\ndomain = \"acme\"\nrepository = \"r1\"\n",
    ],
    "events": lambda: [
        event(), event(packageFormat="npm"), event(packageName="A_b", packageNamespace=None), event(operationType="Deleted"), event(packageName=7),
        event().replace(b"aws.codeartifact", b"acme"), b"{}", event()[:200],
    ],
    "advisories": lambda: [
        b"\x00" + json.dumps({"id": "MAL-2026-1", "modified": "2026-01-02T03:04:05Z", "affected": [{"package": {"ecosystem": "PyPI", "name": "A_b"}, "versions": ["1.0", "odd!"], "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "2.0"}, {"last_affected": "2.1"}]}]}]}).encode(),
        b"\x00" + json.dumps({"id": "GHSA-1", "withdrawn": "2026-01-02T03:04:05Z", "affected": [{"package": {"ecosystem": "PyPI", "name": "a"}, "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}], "database_specific": {"cwe_ids": ["CWE-506"]}}).encode(),
        b'\x01{"package": {"purl": "pkg:pypi/a-b@1.0%2Bcpu?x=y"}}', b'\x01{"package": {"name": "a", "ecosystem": "PyPI"}, "version": "1"}',
        b'\x02{"queries": [{"package": {"purl": "pkg:pypi/a"}, "version": "1"}, {"commit": "00"}]}', b"\x03\x04\x00\x00\x00\x28\xb5\x2f\xfd",
    ],
    "fields": lambda: [form_fields() + wheel(), form_fields("sdist", "a_b-1.0.tar.gz") + gzip.compress(tar(), mtime=0)],
    "form": lambda: [
        form(), form(end="\r\n--b--\r\n"), form(end=""), form(start="\r\n"),
        form(disposition="form-data; name=content; filename*=utf-8''a.whl"),
        b'multipart/form-data; charset=utf-8; boundary="b"\n\x01--b--',
    ],
    "headers": lambda: [b"\n".join(lines) for lines in (
        (b"application/vnd.pypi.simple.v1+json, text/html;q=0.1", b"gzip, zstd;q=0", b"bytes=0-9", b'W/"a", "sha256-abc"', b'"sha256-abc"', b"localhost:80", b"http://localhost:80", b"1.2.3.4, [::1]:9"),
        (b"*/*;q=0.001", b"*", b"bytes=-5", b"*", b"Tue, 15 Nov 1994 12:45:26 GMT", b"[::1]", b"null", b""),
        (b"text/*", b"identity;q=0", b"bytes=5-,7-8", b"", b"", b"index.acme.internal.", b"", b"unknown"),
    )],
    "hints": lambda: [
        b"1 0123456789abcdef page-changed aws/eu-central-1/111122223333/acme/python hello 17",
        b"1 0123456789abcdef purge acme/python a-b", b"1 0123456789abcdef accept acme/python a-b",
        b"1 0123456789abcdef slow-down eu-central-1",
    ],
    "names": lambda: [b"A_b.C\n1.0+x!\na_b-1.0-py3-none-any.whl", b"cffi\n1.0.2.post2\ncffi-1.0.2-2.tar.gz", "ä\n \n x%".encode()],
    "page_html": lambda: [html(LINK), html(LINK + "<a href='//h/x'>x</a>"), html("<base href='/y/'>" + LINK), html("<!-- " + LINK)],
    "page_json": lambda: [page(), page(extra={"a": [1, 2.5, None]}), page(**{"project-status": {"status": "quarantined"}}), page(files=[])],
    "records": lambda: [
        b"\x00wheelport record 1 pages " + DIGEST.encode() + b" " + b"0" * 16 + b"\npayload",
        record(1, {"fetched": 1, "document": {"name": "a-b", "api_version": [1, 1], "versions": ["1.0"], "files": [FILE]}}), record(2, {"fetched": 1, "document": {"projects": ["a-b"]}}),
        record(3, {"repository": "acme_python-5c2f1e2a", "project": "a-b", "entries": [{"published": 1, "file": FILE}]}),
    ],
    "replies": lambda: [
        b"https://s3.eu-central-1.amazonaws.com/x?y=z#f\n7\n\nUser: arn:aws:sts::111122223333:assumed-role/x is not authorized",
        b"../../simple/a-b/1.0/x.whl\nWed, 21 Oct 2026 07:28:05 GMT\nWed, 21 Oct 2026 07:28:00 GMT\nBasic YXdzOmE= <token>AKIAIOSFODNN7EXAMPLE</token>",
        b"//user:p@h:1/\n18446744073709551616\n\n", b"http://acme-111122223333.d.codeartifact.eu-central-1.amazonaws.com/\n\n\n",
    ],
    "sdist": lambda: [
        b"\x00" + gzip.compress(tar(), mtime=0), b"\x01" + tar(), b"\x01" + tar(tarfile.GNU_FORMAT, "./a_b-1.0/PKG-INFO"),
        b"\x01" + tar(tarfile.GNU_FORMAT, "x" * 120 + "/PKG-INFO"), b"\x01" + tar(name="é" * 80 + "/PKG-INFO"), b"\x02" + zip_sdist(),
    ],
    "tokens": lambda: [
        b"\x00" + json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "A" * 43, "kid": "a", "use": "sig"}]}).encode() + b"\neyJhbGciOiJFZERTQSIsImtpZCI6ImEifQ.e30.AAAA",
        b"\x00" + json.dumps({"keys": [{"kty": "RSA", "n": "A" * 342, "e": "AQAB", "alg": "RS256"}, {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43}]}).encode() + b"\n",
        b'\x01{"alg":"ES256","kid":"a"}\n{"iss":"https://ci.invalid","aud":["wheelport"],"exp":1,"project_path":"acme/x","a":{"b":"x"}}',
        b"\x02e30.AAAA", b"\x03Basic X190b2tlbl9fOm9uZQ==", b"\x03Bearer one",
    ],
    "usage": lambda: [
        b"\x00" + USAGE, b"\x00" + USAGE.replace(b'"layout":1', b'"layout":2'), b"\x02" + b'{"days":{"2026-11-28":["00000000000000ab","00000000000000ac"]}}',
        b"\x03project=A.b%3D%3D1.0&since=2026-01-01&until=2026-11-28&limit=7",
    ],
    "wheel": lambda: [
        wheel(), wheel(zipfile.ZIP_STORED), wheel(zipfile.ZIP_BZIP2), wheel(zipfile.ZIP_LZMA), wheel(directory="A.b-1.0.dist-info", comment=b"c"),
        wheel(extra=("a_b/__init__.py", "c-2.dist-info/METADATA")), METADATA,
    ],
}

if __name__ == "__main__":
    target = sys.argv[1]
    corpus = pathlib.Path(__file__).parent / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]()):
        (corpus / f"seed-{number}").write_bytes(seed)
