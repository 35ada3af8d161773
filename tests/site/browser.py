"""A real Chromium without a window, driven through Debian's chromedriver: the few commands of WebDriver that the tests need, and those of the browser's own
protocol that WebDriver does not have (colour scheme, scripts off, the size of a phone).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
LIMIT = 60.0


class Browser:
    """One window. Everything that the pages log as an error is kept by the browser; see `errors`."""

    def __init__(self, address: str) -> None:
        self._address = address
        arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "--force-color-profile=srgb"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        options = {"args": arguments}
        logging = {"browser": "ALL"}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logging}}
        self._session = self._call("POST", "/session", {"capabilities": capabilities})["sessionId"]

    def close(self) -> None:
        self._call("DELETE", f"/session/{self._session}")

    def open(self, url: str) -> None:
        self._do("POST", "url", {"url": url})

    @property
    def url(self) -> str:
        return self._do("GET", "url")

    def run(self, script: str, *arguments: object) -> object:
        """The value of a function's body, also where it is a promise."""
        body = f"const done = arguments[arguments.length - 1]; Promise.resolve((async function () {{ {script} }}).apply(null, arguments)).then(done, done)"
        return self._do("POST", "execute/async", {"script": body, "args": list(arguments)})

    def texts(self, selector: str) -> list[str]:
        return [self._do("GET", f"element/{found}/text") for found in self._find(selector)]

    def text(self, selector: str) -> str:
        return self.texts(selector)[0]

    def click(self, selector: str) -> None:
        self._do("POST", f"element/{self._find(selector)[0]}/click", {})

    def type(self, selector: str, text: str) -> None:
        self._do("POST", f"element/{self._find(selector)[0]}/value", {"text": text})

    def press(self, key: str) -> None:
        """One key for whatever has the focus."""
        actions = [{"type": "key", "id": "keys", "actions": [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]}]
        self._do("POST", "actions", {"actions": actions})

    def devtools(self, command: str, **parameters: object) -> object:
        return self._do("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def size(self, width: int, height: int = 900, scale: int = 1) -> None:
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)

    def scripts(self, on: bool) -> None:
        self.devtools("Emulation.setScriptExecutionDisabled", value=not on)

    def picture(self) -> bytes:
        """What a window of this size shows."""
        return base64.b64decode(self.devtools("Page.captureScreenshot", format="png")["data"])

    def errors(self) -> list[str]:
        """What pages have logged as errors since the last call; that there is no icon is none."""
        entries = self._do("POST", "se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE" and "favicon.ico" not in entry["message"]]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Looks again and again until something is so."""
        limit = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < limit, f"{what}: {self.url}\n{self.run('return document.body.innerText')}"
            time.sleep(0.02)

    def _find(self, selector: str) -> list[str]:
        found = self._do("POST", "elements", {"using": "css selector", "value": selector})
        assert found, f"nothing matches {selector} on {self.url}"
        return [element[ELEMENT] for element in found]

    def _do(self, method: str, command: str, body: object = None) -> object:
        return self._call(method, f"/session/{self._session}/{command}", body)

    def _call(self, method: str, path: str, body: object = None) -> object:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=2 * LIMIT) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {json.load(error)['value']['message']}") from None


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own, which ends with its driver."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log = pathlib.Path(folder) / "driver.log"
        with log.open("w") as output:
            driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "HOME": folder})
        try:
            limit = time.monotonic() + LIMIT
            while not (found := re.search(r"started successfully on port (\d+)", log.read_text())):
                assert driver.poll() is None and time.monotonic() < limit, log.read_text()
                time.sleep(0.05)
            browser = Browser(f"http://127.0.0.1:{found[1]}")
            try:
                yield browser
            finally:
                browser.close()
        finally:
            driver.terminate()
            driver.wait(LIMIT)
