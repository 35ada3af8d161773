"""An issuer of ID tokens: a real key, real signatures by openssl, and the two documents by which others find the key."""

from __future__ import annotations

import base64
import http.server
import json
import pathlib
import subprocess
import threading
import time
import uuid
from types import TracebackType

AUDIENCE = "wheelport"
KEY_ID = "one"


class Issuer:
    """Serves its documents on loopback for as long as its block lasts, and signs with RS256."""

    def __init__(self, folder: pathlib.Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._key = folder / "issuer.key"
        openssl("genrsa", "-out", str(self._key), "2048")
        modulus = openssl("rsa", "-in", str(self._key), "-noout", "-modulus").decode().strip().removeprefix("Modulus=")
        public = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID, "n": encoded(bytes.fromhex(modulus)), "e": "AQAB"}
        self.keys = {"keys": [public]}
        documents: dict[str, object] = {"/keys": self.keys}
        # What GitHub gives to a job that asks for a token.
        self.answer = ""

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805: `self` is the issuer
                path = handler.path.partition("?")[0]
                body = {"value": self.answer} if path == "/request" else documents.get(path)
                handler.send_response(200 if body else 404)
                handler.end_headers()
                handler.wfile.write(json.dumps(body).encode())

            def log_message(handler, *_: object) -> None:  # noqa: N805
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        documents["/.well-known/openid-configuration"] = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}

    def __enter__(self) -> Issuer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, **more: object) -> str:
        """A token of a pipeline, with these claims besides or instead."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "iat": now, "nbf": now - 5, "exp": now + 600, "jti": str(uuid.uuid4()),
                  "project_path": "acme/tools", "namespace_path": "acme", "ref": "main", "ref_type": "branch",
                  "ref_protected": "true", "sub": "project_path:acme/tools:ref_type:branch:ref:main", **more}  # fmt: skip
        header = {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}
        signed = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{encoded(openssl('dgst', '-sha256', '-sign', str(self._key), stdin=signed.encode()))}"

    @property
    def table(self) -> str:
        """As it stands in a configuration, with the rules of the tests: the group reads, its main branch publishes."""
        return f"""
[[issuer]]
name = "ci"
url = "{self.url}"
audience = "{AUDIENCE}"

[[identity]]
name = "ci:{{project_path}}@{{ref}}"
issuer = "ci"
claims = {{ namespace_path = "acme" }}
read = ["*"]

[[identity]]
name = "ci:{{project_path}}@{{ref}}"
issuer = "ci"
claims = {{ namespace_path = "acme", ref_protected = "true" }}
publish = ["*"]
projects = ["acme-*"]
"""


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def openssl(*arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True, timeout=60).stdout
