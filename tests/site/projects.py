"""The projects that the tests of the site look at: one with everything, one that is hostile in every text, and many that are only there to be found."""

from __future__ import annotations

from wheels import Distribution, archived, module_of, sdist, wheel, wheel_contents

# Set by whatever a hostile page could run.
MARK = "owned"

DESCRIPTION = """\
# acme-http

A small client for the services of *Acme*, with retries and `asyncio`.

![build](https://badges.example/build.svg) [![docs](https://badges.example/docs.svg)](https://docs.example)

## Use

```python
import acme_http

client = acme_http.Client("https://api.acme.example")
print(client.get("/things"))
```

| Python | supported |
| --- | --- |
| 3.12 | yes |
| 3.8 | no |

1. One
2. Two

> A quotation.
"""

HOSTILE = f"""\
# Hello <script>window.{MARK} = 1</script>

<style>body {{ display: none }} h1 {{ content: url(https://evil.example/x) }}</style>
<img src=x onerror="window.{MARK} = 2"> <svg onload="window.{MARK} = 3"></svg>
<a href="javascript:window.{MARK} = 4" id="evil">click</a> [click](javascript:window.{MARK}=5)
<form action="https://evil.example/"><input name="q"><button>go</button></form>
<iframe src="https://evil.example/"></iframe><link rel="stylesheet" href="https://evil.example/x.css">
<div style="position:fixed;inset:0;background:red" onclick="window.{MARK} = 6" class="note red">cover</div>
<meta http-equiv="refresh" content="0;url=https://evil.example/"><base href="https://evil.example/">
\u202egnp.exe\u202c {"long" * 20_000}
"""

RULES = """\
[[rule]]
name = "bad-release"
projects = ["acme-http"]
versions = "==2.0.0"
reason = "2.0.0 loses requests <b>now and then</b>."
help = "https://wiki.acme.example/packages?a=1&b=2"
"""


def described(name: str, version: str, header: str, description: str, tags: str = "py3-none-any") -> Distribution:
    """A wheel with this core metadata."""
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{header}\n{description}"
    contents = wheel_contents(name, version, metadata)
    data = archived(contents, f"{module_of(name)}-{version}.dist-info/RECORD")
    return Distribution(name, version, f"{module_of(name)}-{version}-{tags}.whl", data, metadata.encode())


def projects() -> list[Distribution]:
    header = """\
Summary: Talks to the services of Acme
Author-email: Ada Example <ada@acme.example>
License-Expression: MIT
Requires-Python: >=3.9
Project-URL: Documentation, https://docs.acme.example/http
Project-URL: Evil, javascript:alert(1)
Requires-Dist: acme-core>=1.2
Requires-Dist: anyio<5,>=4; python_version >= "3.10"
Provides-Extra: cli
Requires-Dist: acme-cli; extra == "cli"
Description-Content-Type: text/markdown
"""
    evil = f"""\
Summary: <script>window.{MARK} = 7</script><img src=x onerror="window.{MARK} = 8"> \u202etxet
Author: <b onmouseover="window.{MARK} = 9">Eve</b>
Author-email: "Eve" <eve@evil.example?subject=x>, javascript:alert(1)
License: <script>window.{MARK} = 10</script>
Home-page: javascript:window.{MARK} = 11
Project-URL: <img src=x onerror="window.{MARK} = 12">, https://evil.example/"onmouseover="window.{MARK}=13
Project-URL: data, data:text/html,<script>alert(1)</script>
Requires-Dist: x-y (<1"><script>window.{MARK} = 14</script>); extra == "<i>"
Description-Content-Type: text/markdown
"""
    platforms = [
        "cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64",
        "cp312-cp312-macosx_11_0_arm64",
        "cp39-abi3-musllinux_1_2_aarch64",
        "cp313-cp313t-win_amd64",
    ]
    found = [wheel(f"acme-{name}", f"1.{number}.0") for number, name in enumerate(["core", "cli", "auth", "billing"])]
    found += [wheel(f"sample-{number:03}", "1.0") for number in range(60)]
    found += [described("acme-http", version, header, DESCRIPTION) for version in ("1.9.0", "1.10.0", "2.0.0", "2.1.0rc1")]
    found += [described("acme-http", "1.10.0", header, DESCRIPTION, tags) for tags in platforms]
    found += [sdist("acme-http", "1.10.0"), described("evil", "1.0", evil, HOSTILE)]
    found += [described("told-in-rst", "1.0", "Summary: Title\n", "Title\n=====\n\n.. note:: <b>x</b>\n"), sdist("only-source", "0.1")]
    return found
