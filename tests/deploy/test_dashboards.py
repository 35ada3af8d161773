"""The alert rules and the dashboard: promtool takes them, the alerts fire when they should, and they speak of metrics that there are."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
from typing import Any

import pytest
import yaml

from tools import DEPLOY, HERE, ROOT, output, tool
from world import World, get

RULES = DEPLOY / "dashboards" / "alerts.yaml"
DASHBOARD = DEPLOY / "dashboards" / "wheelport.json"
STORIES = HERE / "alerts.test.yaml"
# Counted only when it happens, so a good day does not show them.
ON_BAD_DAYS = {
    "wheelport_upstream_retries_total", "wheelport_upstream_throttles_total", "wheelport_connections_refused_total",
    "wheelport_connections_closed_early_total", "wheelport_policy_refusals_total", "wheelport_policy_findings_total",
    "wheelport_slow_responses_total", "wheelport_identity_decisions_total", "wheelport_minted_tokens_total",
    "wheelport_issuer_keys", "wheelport_issuer_keys_age_seconds", "wheelport_issuer_keys_failed",
    # Only where a source of advisories is configured.
    "wheelport_advisories", "wheelport_advisories_stale", "wheelport_advisories_unreadable", "wheelport_advisories_memory_bytes",
    "wheelport_advisories_age_seconds", "wheelport_advisory_refreshes_total",
    # Only where there is a webhook.
    "wheelport_notices_total", "wheelport_notices_waiting", "wheelport_notice_failures_total",
    # Only where the listener speaks TLS.
    "wheelport_tls_handshakes_total", "wheelport_tls_certificate_remaining_seconds", "wheelport_tls_unusable_files",
}
# There only where replicas share something.
OF_A_FLEET = re.compile(r"wheelport_fleet_\w+")
NAME = re.compile(r"\bwheelport_[a-z_]+\b")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return json.loads(DASHBOARD.read_text())["panels"]


def expressions() -> list[str]:
    """Of the dashboard, with Grafana's variables filled in."""
    found = [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    return [expression.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$quota", "800") for expression in found]


@pytest.fixture(scope="module")
def metrics(served: World) -> dict[str, str]:
    """What is measured after a small day: name to one line of it."""
    for path in ("simple/", "simple/wheelport-hello/", "simple/wheelport-hello/", "simple/no-such-project/"):
        get(f"{served.proxy.origin}/{path}")
    page = get(f"{served.proxy.origin}/simple/wheelport-hello/")[1].decode()
    file = re.search(r'href="([^"#]+\.whl)', page)
    assert file
    get(f"{served.proxy.origin}/simple/wheelport-hello/{file[1]}")
    status, body = get(f"{served.proxy.operations}/metrics")
    assert status == 200
    return {line.split("{")[0].split(" ")[0]: line for line in body.decode().splitlines() if not line.startswith("#")}


def test_promtool_takes_the_rules() -> None:
    assert "SUCCESS" in output(tool("promtool"), "check", "rules", RULES)


def test_promtool_takes_the_metrics(served: World, metrics: dict[str, str]) -> None:
    """The format is OpenMetrics', of which promtool lints the older relative; only what it says about names is listened to."""
    text = get(f"{served.proxy.operations}/metrics")[1].decode().replace("# EOF\n", "")
    done = subprocess.run([tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True)
    assert "error while linting" not in done.stderr, done.stderr


def test_alerts_fire_when_they_should_and_only_then(tmp_path: pathlib.Path) -> None:
    stories = tmp_path / "alerts.test.yaml"
    stories.write_text(STORIES.read_text().replace("RULES", str(RULES)))
    assert "SUCCESS" in output(tool("promtool"), "test", "rules", stories)


@pytest.mark.parametrize("alert", [rule["alert"] for rule in rules() if "alert" in rule])
def test_every_alert_has_a_story_and_a_runbook(alert: str) -> None:
    assert alert in STORIES.read_text(), "no story in which it fires"
    (rule,) = [rule for rule in rules() if rule.get("alert") == alert]
    path, anchor = rule["annotations"]["runbook"].split("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.MULTILINE)
    assert anchor in [heading.lower().replace(" ", "-") for heading in headings], f"{path} has no #{anchor}"
    assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_rules_and_panels_speak_of_metrics_that_there_are(metrics: dict[str, str]) -> None:
    text = "\n".join([rule["expr"] for rule in rules()] + expressions())
    named = set(NAME.findall(text))
    assert len(named) > 15
    assert {name for name in named - set(metrics) - ON_BAD_DAYS if not OF_A_FLEET.fullmatch(name)} == set()


def test_every_metric_is_on_the_dashboard(metrics: dict[str, str]) -> None:
    shown = set(NAME.findall("\n".join(expressions())))
    base = {re.sub(r"_(sum|count)$", "_bucket", name) for name in metrics}
    assert base - shown - {"wheelport_token_age_seconds"} == set()


def test_labels_are_those_that_there_are(metrics: dict[str, str]) -> None:
    known = {name: set(re.findall(r'(\w+)="', line)) | {"job", "instance", "le"} for name, line in metrics.items()}
    text = "\n".join([rule["expr"] for rule in rules()] + expressions())
    for name, matchers in re.findall(r"\b(wheelport_[a-z_]+)\{([^}]*)\}", text):
        labels = set(re.findall(r"(\w+)(?==~?|!=|!~)", re.sub(r'"[^"]*"', "", matchers)))
        if name in known:
            assert labels <= known[name], f"{name} has no {labels - known[name]}"


def test_promtool_takes_every_query_of_the_dashboard(tmp_path: pathlib.Path) -> None:
    found = expressions()
    assert len(found) > 20
    path = tmp_path / "dashboard.yaml"
    recorded = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(found)]
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    assert "SUCCESS" in output(tool("promtool"), "check", "rules", path)


def test_the_dashboard_is_laid_out() -> None:
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    taken: dict[tuple[int, int], str] = {}
    for panel in panels():
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
            taken[cell] = panel["title"]
    variables = {entry["name"] for entry in json.loads(DASHBOARD.read_text())["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels()))) - {"__rate_interval"}
    assert used == variables
