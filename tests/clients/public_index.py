"""A small public registry on loopback: what the emulator's external connection imports from."""

from __future__ import annotations

import html
import http.server
import json
import threading
import urllib.parse

from wheels import Distribution, normalize


class PublicIndex:
    """Serves the simple API (HTML and JSON) with files, core metadata, yanks and upload times."""

    def __init__(self, *distributions: Distribution) -> None:
        self.files: dict[str, list[Distribution]] = {}
        self.add(*distributions)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="public-index", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/simple/"

    def add(self, *distributions: Distribution) -> None:
        for distribution in distributions:
            self.files.setdefault(distribution.project, []).append(distribution)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> PublicIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _handler(index) -> type:  # noqa: N805: `self` is the handler inside
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = [urllib.parse.unquote(part) for part in self.path.strip("/").split("/")]
                match parts:
                    case ["simple", name] if normalize(name) in index.files:
                        self.page(normalize(name))
                    case ["files", filename]:
                        self.file(filename)
                    case _:
                        self.answer(404, "text/plain", b"no such thing")

            def page(self, project: str) -> None:
                files = index.files[project]
                if "v1+json" in self.headers.get("Accept", ""):
                    body = json.dumps(json_page(project, files)).encode()
                    self.answer(200, "application/vnd.pypi.simple.v1+json", body)
                else:
                    self.answer(200, "text/html", html_page(project, files).encode())

            def file(self, filename: str) -> None:
                for file in (file for files in index.files.values() for file in files):
                    if file.filename == filename:
                        return self.answer(200, "application/octet-stream", file.data)
                    if file.filename + ".metadata" == filename:
                        return self.answer(200, "application/octet-stream", file.metadata)
                return self.answer(404, "text/plain", b"no such file")

            def answer(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def json_page(project: str, files: list[Distribution]) -> dict[str, object]:
    entries = []
    for file in files:
        entry: dict[str, object] = {
            "filename": file.filename,
            "url": f"../../files/{urllib.parse.quote(file.filename)}",
            "hashes": {"sha256": file.sha256},
            "size": len(file.data),
            "upload-time": "2024-01-01T00:00:00.000000Z",
            "yanked": file.yanked,
        }
        if file.requires_python:
            entry["requires-python"] = file.requires_python
        entries.append(entry)
    versions = list(dict.fromkeys(file.version for file in files))
    return {"meta": {"api-version": "1.1"}, "name": project, "versions": versions, "files": entries}


def html_page(project: str, files: list[Distribution]) -> str:
    lines = [f"<!DOCTYPE html><html><body><h1>Links for {project}</h1>"]
    for file in files:
        attributes = ""
        if file.requires_python:
            attributes += f' data-requires-python="{html.escape(file.requires_python)}"'
        if file.yanked is not False:
            attributes += f' data-yanked="{html.escape(str(file.yanked))}"'
        address = f"../../files/{urllib.parse.quote(file.filename)}#sha256={file.sha256}"
        lines.append(f'<a href="{address}"{attributes}>{file.filename}</a><br/>')
    return "\n".join([*lines, "</body></html>"])
