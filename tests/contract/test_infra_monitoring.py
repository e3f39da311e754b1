"""Prometheus and Grafana: promtool agrees, every alert is tested and explained, every metric shown exists."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.promtool import Promtool, promtool
from support.repository import ROOT, json_of, text_of, yaml_of

__all__ = ["promtool"]

RULES = "infra/prometheus/rules/spindle.yaml"
RULE_TESTS = "infra/prometheus/tests/spindle.yaml"
DASHBOARD = "infra/grafana/dashboards/spindle.json"
METRIC = re.compile(r"\bspindle_[a-z_]+[a-z]\b")
ROW = re.compile(r"^\| `(spindle_\w+)` \| (counter|gauge|histogram) \| ([\w, ]*?) ?\|", re.MULTILINE)
DEFINES = {"Counter", "Gauge", "Histogram", "Summary", "CounterMetricFamily", "GaugeMetricFamily"}


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Return name -> (type, labels), from the tables of docs/operations.md."""
    rows = ROW.findall(text_of("docs/operations.md"))
    return {name: (kind, frozenset(re.findall(r"\w+", labels))) for name, kind, labels in rows}


def base(name: str, known: dict[str, tuple[str, frozenset[str]]]) -> str:
    """Return the metric that a series such as …_bucket belongs to."""
    stem = re.sub(r"_(bucket|sum|count)$", "", name)
    return stem if stem != name and known.get(stem, ("",))[0] == "histogram" else name


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in json_of(DASHBOARD)["panels"] if panel["type"] != "row")


def expressions() -> dict[str, str]:
    """Return where -> PromQL, of every alert and every panel."""
    alerts = {rule["alert"]: rule["expr"] for group in yaml_of(RULES)["groups"] for rule in group["rules"]}
    shown = {f"{p['title']} {t['refId']}": t["expr"] for p in panels() for t in p["targets"]}
    return alerts | shown


def defined() -> dict[str, str]:
    """Return metric -> file, of every metric that the code defines."""
    found: dict[str, str] = {}
    for plane in ("common/spindle_common", "control/spindle_control", "worker/spindle_worker"):
        for file in (ROOT / plane).rglob("*.py"):
            for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if name := _metric(call):
                    found[name] = str(file.relative_to(ROOT))
    return found


def _metric(call: ast.AST) -> str | None:
    """Return the exposed name of what a call such as Counter("spindle_runs", …) defines."""
    if not (isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant)):
        return None
    kind = getattr(call.func, "id", getattr(call.func, "attr", ""))
    name = str(call.args[0].value)
    if kind not in DEFINES or not name.startswith("spindle_"):
        return None
    return name.removesuffix("_total") + "_total" if kind.startswith("Counter") else name


def test_rules_hold_their_unit_tests(promtool: Promtool) -> None:
    alerts = [rule["alert"] for group in yaml_of(RULES)["groups"] for rule in group["rules"]]
    assert f"SUCCESS: {len(alerts)} rules found" in promtool("check", "rules", ROOT / RULES)
    assert "SUCCESS" in promtool("test", "rules", ROOT / RULE_TESTS)


@pytest.mark.parametrize("targets", ["laptop", "prod"])
def test_configuration_is_valid(promtool: Promtool, tmp_path: Path, targets: str) -> None:
    """With the files where the containers see them, so that promtool opens each."""
    key = tmp_path / "key"
    key.write_text("secret")
    mounted = {"rules/spindle.yaml": RULES, "targets/control.yaml": f"infra/prometheus/targets/{targets}.yaml"}
    for place, source in mounted.items():
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_text(text_of(source))
    config = tmp_path / "prometheus.yaml"
    config.write_text(re.sub(r"/run/secrets/\w+", str(key), text_of("infra/prometheus/prometheus.yaml")))
    report = promtool("check", "config", config)
    assert "1 rule files found" in report
    assert "WARNING" not in report


def test_promtool_finds_mistakes(promtool: Promtool, tmp_path: Path) -> None:
    """Else the tests that ask it would prove nothing."""
    broken = tmp_path / "rules.yaml"
    broken.write_text("groups: [{name: x, rules: [{alert: X, expr: 'sum(('}]}]")
    with pytest.raises(pytest.fail.Exception, match="parse error"):
        promtool("check", "rules", broken)
    first = yaml_of(RULE_TESTS)["tests"][0]
    for case in first["alert_rule_test"]:
        case["exp_alerts"] = []
    wrong = tmp_path / "tests.yaml"
    wrong.write_text(yaml.safe_dump({"rule_files": [str(ROOT / RULES)], "tests": [first]}))
    with pytest.raises(pytest.fail.Exception, match="alertname: SpindleControlDown"):
        promtool("test", "rules", wrong)


def test_dashboard_queries_parse(promtool: Promtool, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(expressions().values())
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert len(rules) > 20
    assert f"SUCCESS: {len(rules)} rules found" in promtool("check", "rules", file)


def test_every_alert_fires_and_stays_quiet_in_a_test() -> None:
    cases = [case for test in yaml_of(RULE_TESTS)["tests"] for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case.get("exp_alerts")}
    quiet = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    alerts = {rule["alert"] for group in yaml_of(RULES)["groups"] for rule in group["rules"]}
    assert fires == quiet == alerts


def test_every_alert_says_what_to_do() -> None:
    page = text_of("docs/operations.md")
    for group in yaml_of(RULES)["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in {"warning", "critical"}
            assert set(rule["annotations"]) == {"summary", "description", "runbook"}
            assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
            assert f"### {rule['alert']}\n" in page


def test_alerts_and_panels_ask_for_documented_metrics() -> None:
    known = documented()
    assert len(known) > 20
    unknown = {
        f"{where}: {name}"
        for where, query in expressions().items()
        for name in METRIC.findall(query)
        if base(name, known) not in known
    }
    assert unknown == set()


def test_alerts_and_panels_group_by_labels_that_exist() -> None:
    known = documented()
    for where, query in expressions().items():
        used = {label for found in re.findall(r"by \(([\w, ]+)\)", query) for label in re.findall(r"\w+", found)}
        names = {base(name, known) for name in METRIC.findall(query)}
        labels = frozenset().union(*(known[name][1] for name in names)) | {"le", "instance", "job"}
        assert used <= labels, f"{where}: {used - labels}"


def test_every_documented_metric_is_on_the_dashboard() -> None:
    known = documented()
    shown = {base(name, known) for panel in panels() for t in panel["targets"] for name in METRIC.findall(t["expr"])}
    assert set(known) - shown == set()


def test_counters_are_rated_and_histograms_are_quantiled() -> None:
    for where, query in expressions().items():
        for name in re.findall(r"\bspindle_\w+_total\b", query):
            assert re.search(rf"(rate|increase)\({name}\b", query), f"{where}: {name} only grows"
        for name in re.findall(r"\bspindle_\w+_bucket\b", query):
            assert f"rate({name}" in query, where
            assert "histogram_quantile(" in query, where


def test_code_and_documentation_name_the_same_metrics() -> None:
    code = defined()
    assert {name: file for name, file in code.items() if name not in documented()} == {}, "undocumented"
    assert sorted(set(documented()) - set(code)) == [], "documented in docs/operations.md, but nothing defines them"


def test_dashboard_is_well_formed() -> None:
    dashboard = json_of(DASHBOARD)
    assert (dashboard["uid"], dashboard["schemaVersion"]) == ("spindle", 42)
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(numbers)) == len(numbers)
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows == ["Runs", "Queues", "Nodes", "Workers", "API", "Models"]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} overlaps"
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_dashboard_uses_the_provisioned_source() -> None:
    (source,) = yaml_of("infra/grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    for panel in panels():
        assert panel["description"]
        for where in (panel, *panel["targets"]):
            assert where["datasource"] == {"type": source["type"], "uid": source["uid"]}
    (provider,) = yaml_of("infra/grafana/provisioning/dashboards/spindle.yaml")["providers"]
    mounts = yaml_of("compose.yaml")["services"]["grafana"]["volumes"]
    assert f"./infra/grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert (
        source["jsonData"]["timeInterval"] == yaml_of("infra/prometheus/prometheus.yaml")["global"]["scrape_interval"]
    )
