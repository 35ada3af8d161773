"""What people see and do on the pages of the site, in a real Chromium."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest

from browser import Browser
from install_browser import AXE
from projects import MARK
from world import World, get

PAGES = ["/", "/projects/", "/search?q=acme", "/search?q=nothing-of-this", "/projects/acme-http/", "/projects/acme-http/2.0.0/", "/projects/evil/", "/projects/told-in-rst/"]

OPERATORS = ["/status", "/savings", "/usage", "/usage?project=acme-http"]


def addresses(world: World) -> list[str]:
    """Of all pages, those of operators included; one of them has something to show."""
    get(f"{world.proxy.index}acme-http/1.10.0/acme_http-1.10.0-py3-none-any.whl")
    return [world.proxy.origin + page for page in PAGES] + [world.proxy.operations + page for page in OPERATORS]


def names(browser: Browser) -> list[str]:
    return browser.run("return [...document.querySelectorAll('.projects .name a')].map((link) => link.textContent)")


def test_search_finds_projects_as_one_types(world: World, browser: Browser) -> None:
    browser.open(f"{world.proxy.origin}/projects/")
    browser.run("window.stays = true")
    assert len(names(browser)) == 50
    browser.press("/")
    assert browser.run("return document.activeElement.name") == "q"
    browser.type("input[type=search]", "acme")
    everything = ["acme-auth", "acme-billing", "acme-cli", "acme-core", "acme-http"]
    browser.until(lambda: names(browser) == everything, "what was typed is found")
    assert browser.text("#count") == "5 of 68 projects"
    assert browser.url.endswith("/projects/?q=acme")
    browser.type("input[type=search]", "-h")
    browser.until(lambda: names(browser) == ["acme-http"], "more letters find less")
    assert browser.run("return window.stays"), "the page was not loaded again"
    browser.click(".projects .name a")
    browser.until(lambda: browser.url.endswith("/projects/acme-http/"), "a click leads to the project")
    assert not browser.errors()


def test_search_works_without_scripts(world: World, browser: Browser) -> None:
    browser.scripts(False)
    browser.open(f"{world.proxy.origin}/projects/")
    browser.type("input[type=search]", "acme\ue007")
    browser.until(lambda: "q=acme" in browser.url, "the form leads to what it finds")
    assert browser.texts(".projects .name a") == ["acme-auth", "acme-billing", "acme-cli", "acme-core", "acme-http"]
    browser.open(f"{world.proxy.origin}/projects/")
    browser.click(".pager a[rel=next]")
    browser.until(lambda: "page=2" in browser.url, "pages follow each other")
    assert len(browser.texts(".projects .name a")) == 18
    browser.open(f"{world.proxy.origin}/projects/acme-http/")
    assert "Files" in browser.texts("h2")
    assert set(browser.texts("button[data-copy]")) == {""}, "a button that could do nothing is not shown"


def test_a_row_says_what_is_known(world: World, browser: Browser) -> None:
    get(f"{world.proxy.origin}/projects/acme-http/")
    row = lambda: browser.text(".projects li")  # noqa: E731: it is looked at until it says so

    def says() -> bool:
        browser.open(f"{world.proxy.origin}/projects/?q=acme-http")
        return "Talks to the services of Acme" in row() and "1.10.0" in row()

    browser.until(says, "version and summary of the newest release are shown")
    assert "2.1.0rc1" not in row() and "2.0.0" not in row()
    # Pages of operators share the style sheet, and have a class of this name for the newest figure of a plot.
    below = "return arguments[0].map((part) => document.querySelector(`.projects .newest ${part}`).getBoundingClientRect().top)"
    version, date = browser.run(below, [".mono", "time"])
    assert date > version, "the date stands below the version"


def test_a_project_says_everything(world: World, browser: Browser) -> None:
    browser.open(f"{world.proxy.origin}/projects/acme-http/")
    text = browser.run("return document.body.innerText")
    assert browser.text("h1") == "acme-http" and browser.text(".title .mono") == "1.10.0"
    for part in [
        "Talks to the services of Acme", "CPython 3.12, Linux x86-64, glibc 2.17+", "CPython 3.12, macOS 11.0+ ARM64",
        "CPython 3.9+, stable ABI, Linux ARM64, musl 1.2+", "CPython 3.13, free-threaded, Windows x86-64", "Python 3, any platform", "Source",
        ">=3.9", "MIT", "Ada Example", "Documentation", 'python_version >= "3.10"', "acme-core", "2.0.0 loses requests <b>now and then</b>.",
        f"pip install --index-url {world.proxy.origin}/simple/ acme-http",
    ]:  # fmt: skip
        assert part in text, f"{part} is missing:\n{text}"
    versions = browser.run("return [...document.querySelectorAll('.versions a')].map((link) => link.textContent)")
    assert versions == ["2.1.0rc1", "2.0.0", "1.10.0", "1.9.0"]
    links = browser.run("return [...document.links].map((link) => link.href)")
    assert f"{world.proxy.origin}/projects/acme-core/" in links and "https://docs.acme.example/http" in links
    assert not [link for link in links if link.startswith("javascript:")]
    assert browser.run("return document.querySelector('.description h3').textContent") == "acme-http"
    assert browser.run("return document.querySelectorAll('.description td').length") == 4
    assert browser.run("return [...document.querySelectorAll('.description a')].map((link) => link.textContent)") == ["build", "docs"]
    assert not browser.errors()


def test_a_blocked_release_says_why_and_whom_to_ask(world: World, browser: Browser) -> None:
    browser.open(f"{world.proxy.origin}/projects/acme-http/2.0.0/")
    note = browser.text(".note.red")
    assert note.startswith("Blocked. 2.0.0 loses requests <b>now and then</b>. Rule bad-release")
    assert browser.run("return document.querySelector('.note.red a').href") == "https://wiki.acme.example/packages?a=1&b=2"
    assert not browser.run("return document.querySelector('.install')"), "nothing to install"
    assert not browser.errors()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(world: World, browser: Browser, scheme: str) -> None:
    """axe finds nothing serious, in both colour schemes."""
    browser.prefer(scheme)
    axe = AXE.read_text()
    for page in addresses(world):
        browser.open(page)
        # The policy of the page allows no other script; the browser's own protocol is not bound by it.
        browser.devtools("Runtime.evaluate", expression=axe)
        result = browser.devtools("Runtime.evaluate", expression="axe.run(document)", awaitPromise=True, returnByValue=True)
        violations = result["result"]["value"]["violations"]
        serious = [violation for violation in violations if violation["impact"] in ("serious", "critical")]
        shown = [(violation["id"], [node["html"] for node in violation["nodes"]][:3]) for violation in serious]
        assert not serious, f"{page} {scheme}: {json.dumps(shown, indent=1)}"


def test_the_scheme_of_the_reader_decides_about_light_and_dark(world: World, browser: Browser) -> None:
    def ground() -> int:
        colour = browser.run("return getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    browser.open(f"{world.proxy.origin}/projects/")
    light = ground()
    browser.prefer("dark")
    assert light > 600 and ground() < 150


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_scrolls_sideways_on_a_narrow_screen(world: World, browser: Browser, width: int) -> None:
    browser.size(width)
    for page in addresses(world):
        browser.open(page)
        beyond = browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert beyond <= 0, f"{page} is {beyond} pixels wider than {width}"


def test_a_button_copies_what_stands_beside_it(world: World, browser: Browser) -> None:
    origin = world.proxy.origin
    browser.devtools("Browser.grantPermissions", origin=origin, permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.open(f"{origin}/projects/acme-http/")
    for name in ["install-uv", "digest-0"]:
        browser.click(f"button[data-copy={name}]")
        browser.until(lambda: browser.text(f"button[data-copy={name}]") == "Copied", "the button says so")
        copied = browser.run("return navigator.clipboard.readText()")
        assert copied == browser.run("return document.getElementById(arguments[0]).textContent", name)
    assert not browser.errors()


def test_what_strangers_write_does_nothing(world: World, browser: Browser) -> None:
    for page in ["/projects/evil/", "/projects/?q=evil", "/projects/?q=%3Cscript%3Ewindow.owned=1%3C/script%3E", "/projects/evil/1.0/"]:
        browser.open(f"{world.proxy.origin}{page}")
        browser.run("document.querySelectorAll('main *').forEach((node) => node.dispatchEvent(new MouseEvent('mouseover', { bubbles: true })))")
        state = browser.run(f"return {{ owned: window.{MARK} ?? null, url: location.href, shown: getComputedStyle(document.body).display }}")
        assert state["owned"] is None and state["url"].startswith(world.proxy.origin) and state["shown"] == "block", f"{page}: {state}"
        found = browser.run(
            "return { scripts: document.scripts.length, styles: document.styleSheets.length,"
            " foreign: document.querySelectorAll('main :is(img, iframe, svg, form:not([role=search]), style, script, base, meta, link)').length,"
            " handlers: [...document.querySelectorAll('*')].flatMap((node) => [...node.attributes]).filter((one) => one.name.startsWith('on')).length,"
            " styled: document.querySelectorAll('[style]').length,"
            " links: [...document.links].map((link) => link.protocol).filter((one) => !['http:', 'https:', 'mailto:'].includes(one)) }"
        )
        assert found == {"scripts": 1, "styles": 1, "foreign": 0, "handlers": 0, "styled": 0, "links": []}, page
        assert "\u202e" not in browser.run("return document.documentElement.outerHTML")
    browser.open(f"{world.proxy.origin}/projects/evil/")
    assert "left off" in browser.run("return document.body.innerText") or len(browser.run("return document.body.innerText")) < 400_000
    assert not browser.errors(), "the policy of the page had nothing to stop"


def test_a_description_that_is_no_markdown_is_shown_as_text(world: World, browser: Browser) -> None:
    browser.open(f"{world.proxy.origin}/projects/told-in-rst/")
    assert browser.text(".description pre") == "Title\n=====\n\n.. note:: <b>x</b>"
    browser.open(f"{world.proxy.origin}/projects/only-source/")
    assert "has no wheel" in browser.text("aside")


def test_a_page_is_one_response(world: World, browser: Browser) -> None:
    """Nothing but the page itself is requested, from this server or another."""
    for page in addresses(world):
        browser.open(page)
        requested = browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name).filter((name) => !name.endsWith('/favicon.ico'))")
        assert requested == [], page


def test_the_json_beside_each_page_says_the_same(world: World) -> None:
    def load(path: str) -> dict[str, object]:
        with urllib.request.urlopen(f"{world.proxy.origin}{path}", timeout=30) as answer:
            assert answer.headers["content-type"] == "application/json"
            return json.load(answer)

    for path in ["/projects.json?q=acme", "/search.json?q=acme", "/pypi/python/projects.json?q=acme"]:
        found = load(path)
        assert (found["found"], found["total"], found["page"], found["pages"]) == (5, 68, 1, 1), path
        assert [project["name"] for project in found["projects"]] == ["acme-auth", "acme-billing", "acme-cli", "acme-core", "acme-http"]
    project = load("/projects/acme-http.json")
    assert (project["version"], project["licence"], project["requires_python"]) == ("1.10.0", "MIT", ">=3.9")
    assert project["description"]["content_type"] == "text/markdown" and project["description"]["text"].startswith("# acme-http\n")
    assert [group.get("extra") for group in project["dependencies"]] == [None, "cli"]
    (blocked,) = [release for release in project["versions"] if "refused" in release]
    assert blocked["version"] == "2.0.0" and blocked["refused"]["rule"] == "bad-release"
    wheel = next(file for file in project["files"] if file["words"] == "Python 3, any platform")
    status, data = get(f"{world.proxy.origin}/{wheel['path']}")
    assert status == 200 and len(data) == wheel["size"]
    assert load("/projects/acme-http/1.9.0.json")["version"] == "1.9.0"
