"""The dashboards: generated, whole, within the dashboard rules, and about metrics that exist."""

import json
import re

import pytest

from promtool import parse, run_case
from real_prometheus import label_values, panel_expr
from sources import ROOT, rules
from sources import dashboards as source

BOARDS = {board.uid: board for board in source.dashboards()}
ALERTS = {alert.name for alert in rules.alerts(rules.Times())}
RECORDED = {record.name for record in rules.recordings(rules.Times())}

PANEL_KEYS = {"id", "type", "title", "description", "datasource", "gridPos", "targets", "fieldConfig", "options"}
TARGET_KEYS = {"refId", "datasource", "editorMode", "expr", "legendFormat", "range"}
UNITS = {"percentunit", "percent", "reqps", "short", "s", "bytes", "Bps", "mbytes", "MBs", "watt", "celsius"}
# Of each variable, what all of it is; outside Kubernetes there is no namespace.
VARIABLES = {"namespace": ".*", "job": ".+", "instance": ".+"}
SELECTOR = re.compile(r"(?<![\w$\"])((?:\w+:)?(?:phi|process)_\w+(?::\w+)?|up)\b(\{[^}]*\})?")
SUFFIXES = ("_bucket", "_count", "_sum")


def lint(board: dict) -> list[str]:
    """Rules of Grafana's dashboard-linter and of the monitoring mixins, in our words.

    Not asked for: a variable `cluster`, which no series has before somebody federates, and each Prometheus is a data source; `model`, as
    a release serves one and `job` chooses it; `group`, which is a worker's `instance`; clickable links to runbooks, as this repository has
    no address of its own: descriptions name their paths, and alerts carry them as runbook_url, which the chart can complete.
    """
    wrong = []
    source_variable, *variables = board["templating"]["list"]
    if (source_variable["name"], source_variable["type"], source_variable["query"]) != ("datasource", "datasource", "prometheus"):
        wrong.append("no templated data source")
    if {variable["name"]: variable["allValue"] for variable in variables} != VARIABLES:
        wrong.append("other variables, or other values for all of one")
    for variable in variables:
        if not (variable["multi"] and variable["includeAll"] and variable["refresh"] == 2) or variable["datasource"] != source.DATASOURCE:
            wrong.append(f"variable {variable['name']}: not multi with all, refreshed with the time range, of the data source chosen")
    if board["editable"] or board["graphTooltip"] != 1 or not board["uid"] or not board["tags"] or board["schemaVersion"] != 39:
        wrong.append("editable, no shared crosshair, no uid, no tags or another schema")
    if not any(link["type"] == "dashboards" and link["tags"] == board["tags"] and link["includeVars"] and link["keepTime"] for link in board["links"]):
        wrong.append("no way to the other dashboards")
    annotations = {annotation["name"]: annotation for annotation in board["annotations"]["list"]}
    if set(annotations) != {"Alerts", "Versions"} or any(annotation["datasource"] != source.DATASOURCE for annotation in annotations.values()):
        wrong.append("not annotated with alerts and versions")
    elif "ALERTS{" not in annotations["Alerts"]["expr"] or "phi_build_info{" not in annotations["Versions"]["expr"]:
        wrong.append("annotations of something else")
    numbers = [panel["id"] for panel in board["panels"]]
    if len(set(numbers)) != len(numbers):
        wrong.append("two panels have one id")
    return wrong + lint_places(board["panels"]) + [text for panel in board["panels"] if panel["type"] != "row" for text in lint_panel(panel)]


def lint_places(panels: list[dict]) -> list[str]:
    wrong, taken = [], set()
    for panel in panels:
        grid = panel["gridPos"]
        cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        if cells & taken or grid["x"] + grid["w"] > 24:
            wrong.append(f"{panel['title']}: overlaps or leaves the grid")
        taken |= cells
    return wrong


def lint_panel(panel: dict) -> list[str]:
    title, wrong = panel["title"], []
    unit = panel["fieldConfig"]["defaults"]["unit"]
    if set(panel) != PANEL_KEYS:
        wrong.append(f"{title}: keys {set(panel) ^ PANEL_KEYS}")
    if not title or not panel["description"].endswith("."):
        wrong.append(f"{title}: no title or description")
    if not set(re.findall(rf"{rules.RUNBOOKS}/(\w+)", panel["description"])) <= ALERTS:
        wrong.append(f"{title}: a runbook that is none")
    if unit not in UNITS:
        wrong.append(f"{title}: unit {unit}")
    if panel["type"] == "heatmap" and (panel["options"]["calculate"] or unit != "s" or panel["options"]["yAxis"]["unit"] != "s"):
        wrong.append(f"{title}: a heatmap that counts by itself, or not of seconds")
    for target in panel["targets"]:
        expr = target["expr"]
        if set(target) != TARGET_KEYS | ({"format"} if panel["type"] == "heatmap" else set()):
            wrong.append(f"{title}: a target's keys {sorted(target)}")
        if panel["datasource"] != source.DATASOURCE or target["datasource"] != source.DATASOURCE:
            wrong.append(f"{title}: a data source of its own")
        if set(re.findall(r"\[(.*?)\]", expr)) - {"$__rate_interval"}:
            wrong.append(f"{title}: a range other than $__rate_interval")
        selectors = SELECTOR.findall(expr)
        if not selectors or any('job=~"$job"' not in matchers for _, matchers in selectors):
            wrong.append(f"{title}: no job matcher")
        if panel["type"] == "heatmap" and (target["format"] != "heatmap" or not re.fullmatch(r"sum by \(le\) \(increase\(.*\)\)", expr)):
            wrong.append(f"{title}: not a heatmap's query")
    return wrong


def catalogue() -> set[str]:
    """Names in docs/api.md's generated table, which a lint test compares with the catalogue in code."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:phi|process)_[a-z0-9_]+)[`{]", text))
    assert len(names) > 40
    return names


def metrics_of(text: str) -> set[str]:
    # A colon before or after a name makes it a recording rule's.
    found = re.findall(r"(?<![:\w])((?:phi|process)_[a-z0-9_]+)(?![:\w])", text)
    return {base(name) for name in found}


def recorded_of(text: str) -> set[str]:
    return set(re.findall(r"\b(?:job|instance):phi_\w+:\w+", text))


def base(name: str) -> str:
    for suffix in SUFFIXES:
        if name.endswith(suffix) and name.removesuffix(suffix) in catalogue():
            return name.removesuffix(suffix)
    return name


@pytest.mark.parametrize("uid", BOARDS)
def test_the_committed_json_is_the_generated_one(uid):
    assert (source.OUTPUT / f"{uid}.json").read_text(encoding="utf-8") == source.to_json(BOARDS[uid])
    assert {path.stem for path in source.OUTPUT.glob("*.json")} == set(BOARDS)


@pytest.mark.parametrize("uid", BOARDS)
def test_lint(uid):
    assert lint(json.loads(source.to_json(BOARDS[uid]))) == []


def test_lint_finds_what_is_wrong():
    def broken(change):
        board = BOARDS["phi-service"].json()
        change(board, next(panel for panel in board["panels"] if panel["type"] == "timeseries"))
        return lint(board)

    def heatmap(board):
        return next(panel for panel in board["panels"] if panel["type"] == "heatmap")

    assert broken(lambda board, panel: None) == []
    assert broken(lambda board, panel: panel.update(description=""))
    assert broken(lambda board, panel: panel.update(gridpos={}))
    assert broken(lambda board, panel: panel["fieldConfig"]["defaults"].update(unit="seconds"))
    assert broken(lambda board, panel: panel["targets"][0].update(expr="rate(phi_x_total[5m])"))
    assert broken(lambda board, panel: panel["gridPos"].update(x=20))
    assert broken(lambda board, panel: panel["targets"][0].update(expr=panel["targets"][0]["expr"] + ' / sum(phi_requests_running{namespace=~"$namespace"})'))
    assert broken(lambda board, panel: panel["targets"][0].update(expr="sum(DCGM_FI_DEV_GPU_UTIL)"))
    assert broken(lambda board, panel: panel["targets"][0].update(exemplar=True))
    assert broken(lambda board, panel: panel["targets"][0].update(datasource={"type": "prometheus", "uid": "mine"}))
    assert broken(lambda board, panel: panel.update(description="See docs/runbooks/PhiNothing.md."))
    assert broken(lambda board, panel: heatmap(board)["options"].update(calculate=True))
    assert broken(lambda board, panel: heatmap(board)["fieldConfig"]["defaults"].update(unit="short"))
    assert broken(lambda board, panel: heatmap(board)["targets"][0].update(format="time_series"))
    assert broken(lambda board, panel: board.update(editable=True))
    assert broken(lambda board, panel: board.update(graphTooltip=0))
    assert broken(lambda board, panel: board.update(schemaVersion=40))
    assert broken(lambda board, panel: board.update(links=[]))
    assert broken(lambda board, panel: board["annotations"]["list"].pop())
    assert broken(lambda board, panel: board["annotations"]["list"][1].update(expr="changes(phi_model_info[2m])"))
    assert broken(lambda board, panel: board["templating"]["list"].pop())
    assert broken(lambda board, panel: board["templating"]["list"][2].update(allValue=".*"))
    assert broken(lambda board, panel: board["templating"]["list"][2].update(multi=False))


def test_every_alert_has_a_panel_that_names_its_runbook():
    panels = [panel for board in BOARDS.values() for panel in board.panels()]
    assert {alert for panel in panels for alert in panel.alerts} == ALERTS
    named = " ".join(panel["description"] for board in BOARDS.values() for panel in board.json()["panels"] if panel["type"] != "row")
    assert set(re.findall(rf"{rules.RUNBOOKS}/(\w+)\.md", named)) == ALERTS


def panel_value(tmp_path, title: str, series: list[tuple[str, str]], expected: list[tuple[str, float]]) -> None:
    """What the panel's first query gives after ten minutes of the series."""
    panel = next(panel for board in BOARDS.values() for panel in board.panels() if panel.title == title)
    expr = panel_expr(panel.queries[0].expr, "5m")
    samples = [{"labels": labels, "value": value} for labels, value in expected]
    run_case(tmp_path, 60, series, {"promql_expr_test": [{"expr": expr, "eval_time": "10m", "exp_samples": samples}]})


def calls(code: str, reason: str, growth: int) -> tuple[str, str]:
    return (f'phi_router_requests_total{{job="phi-router",instance="router-0",method="Generate",code="{code}",reason="{reason}"}}', f"0+{growth}x20")


@pytest.mark.parametrize(("code", "reason", "expected"), [("DEADLINE_EXCEEDED", "none", 1), ("DEADLINE_EXCEEDED", "DEADLINE_IN_QUEUE", 0.75), ("RESOURCE_EXHAUSTED", "CALLER_LIMIT", 1)])
def test_availability_counts_what_the_alerts_count(code, reason, expected, tmp_path):
    panel_value(tmp_path, "Availability", [calls("OK", "none", 90), calls(code, reason, 30)], [("{}", expected)])


def test_the_burn_is_of_the_budget_that_is_promised(tmp_path):
    panel_value(tmp_path, "Error budget burn", [calls("OK", "none", 90), calls("UNAVAILABLE", "REPLICA_LOST", 30)], [("{}", round(0.25 / (1 - rules.AVAILABILITY), 6))])


def test_ready_replicas_are_the_least_that_any_router_sees(tmp_path):
    def router(instance: str, *states: str) -> list[tuple[str, str]]:
        labels = f'job="phi-router",instance="{instance}"'
        replicas = [(f'phi_router_replica_state{{{labels},replica="r{i}",state="{state}"}}', "1+0x20") for i, state in enumerate(states)]
        return [*replicas, (f"phi_router_inflight_requests{{{labels}}}", "3+0x20")]

    seeing = router("router-0", "ready", "ready")
    for other, least in ((router("router-1", "ready", "lost"), 1), (router("router-1", "lost", "lost"), 0), (router("router-1"), 0)):
        panel_value(tmp_path, "Ready replicas", seeing + other, [("{}", least)])


def test_gpu_panels_show_the_gpus_of_our_pods(tmp_path):
    worker = ('up{job="phi-serve/inference/phi-worker",namespace="inference",pod="phi-0",instance="10.0.0.1:9090"}', "1+0x20")

    def gpu(number: int, more: str = "") -> str:
        return f'DCGM_FI_DEV_POWER_USAGE{{gpu="{number}"{more}}}'

    ours, theirs = gpu(0, ',namespace="inference",pod="phi-0"'), gpu(1, ',namespace="games",pod="doom-0"')
    panel_value(tmp_path, "Power", [worker, (ours, "300+0x20"), (theirs, "700+0x20")], [(ours, 300)])
    panel_value(tmp_path, "Power", [('up{job="phi-worker",instance="a:1"}', "1+0x20"), (gpu(2), "400+0x20")], [(gpu(2), 400)])


def expressions() -> list[str]:
    """All that the dashboards ask: panels, annotations and, as label_values has it, variables."""
    found = []
    for board in BOARDS.values():
        made = board.json()
        found += [query.expr for panel in board.panels() for query in panel.queries]
        found += [annotation["expr"] for annotation in made["annotations"]["list"]]
        found += [label_values(variable["definition"])[0] for variable in made["templating"]["list"][1:]]
    return found


def test_every_metric_exists_and_is_used():
    alerts = [rule["expr"] for group in rules.rules()["groups"] for rule in group["rules"]]
    named = set().union(*(metrics_of(expr) for expr in expressions() + alerts))
    assert named <= catalogue()
    assert catalogue() - named == set(source.UNUSED) & catalogue()
    assert set(source.UNUSED) <= catalogue()
    assert set().union(*(recorded_of(expr) for expr in expressions() + alerts)) <= RECORDED


# The Python package and files of tests, whose names only look like a metric's.
NO_METRICS = {"phi_serve", "phi_tensors_test", "phi_weights_test"}


def test_every_metric_named_anywhere_exists():
    texts = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    texts += [path for folder in ("helm", "docker") for path in (ROOT / "deploy" / folder).rglob("*") if path.suffix in (".yaml", ".json", ".tpl", ".txt", ".md")]
    named = {(name, str(path.relative_to(ROOT))) for path in texts for name in metrics_of(path.read_text(encoding="utf-8"))}
    assert len({name for name, _ in named}) > 40
    assert sorted(where for where in named if where[0] not in catalogue() | NO_METRICS) == []
    recorded = {(name, str(path.relative_to(ROOT))) for path in texts for name in recorded_of(path.read_text(encoding="utf-8"))}
    assert sorted(where for where in recorded if where[0] not in RECORDED) == []


def test_promtool_parses_every_expression(tmp_path):
    parse(tmp_path, [panel_expr(expr, "5m") for expr in expressions()])
