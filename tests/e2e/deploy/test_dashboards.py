"""The dashboards: generated, whole, within the dashboard rules, and about metrics that exist."""

import json
import re
import subprocess

import pytest
import yaml

from sources import ROOT, rules
from sources import dashboards as source

BOARDS = {board.uid: board for board in source.dashboards()}

PANEL_KEYS = {"id", "type", "title", "description", "datasource", "gridPos", "targets", "fieldConfig", "options"}
UNITS = {"percentunit", "percent", "reqps", "short", "s", "bytes", "Bps", "decmbytes", "watt", "celsius"}
SUFFIXES = ("_bucket", "_count", "_sum")


def lint(board: dict) -> list[str]:
    """Rules of Grafana's dashboard-linter and of the monitoring mixins, in our words."""
    wrong = []
    names = [variable["name"] for variable in board["templating"]["list"]]
    if names[0] != "datasource" or board["templating"]["list"][0]["query"] != "prometheus":
        wrong.append("no templated data source")
    for variable in board["templating"]["list"][1:]:
        if not (variable["multi"] and variable["allValue"] and variable["refresh"] == 2):
            wrong.append(f"variable {variable['name']}: not multi with an allValue, refreshed with the time range")
    if board["editable"] or board["graphTooltip"] != 1 or not board["uid"] or not board["tags"]:
        wrong.append("editable, no shared crosshair, no uid or no tags")
    numbers = [panel["id"] for panel in board["panels"]]
    if len(set(numbers)) != len(numbers):
        wrong.append("two panels have one id")
    taken = set()
    for panel in board["panels"]:
        grid = panel["gridPos"]
        cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
        if cells & taken or grid["x"] + grid["w"] > 24:
            wrong.append(f"{panel['title']}: overlaps or leaves the grid")
        taken |= cells
        if panel["type"] != "row":
            wrong += lint_panel(panel)
    return wrong


def lint_panel(panel: dict) -> list[str]:
    title, wrong = panel["title"], []
    if set(panel) != PANEL_KEYS:
        wrong.append(f"{title}: keys {set(panel) ^ PANEL_KEYS}")
    if not title or not panel["description"].endswith("."):
        wrong.append(f"{title}: no title or description")
    if panel["fieldConfig"]["defaults"]["unit"] not in UNITS:
        wrong.append(f"{title}: unit {panel['fieldConfig']['defaults']['unit']}")
    for target in panel["targets"]:
        expr = target["expr"]
        if target["datasource"]["uid"] != "${datasource}":
            wrong.append(f"{title}: a data source of its own")
        if re.search(r"\b(rate|increase|irate)\(", expr) and "[$__rate_interval]" not in expr:
            wrong.append(f"{title}: a rate without $__rate_interval")
        if "DCGM_" not in expr and 'job=~"$job"' not in expr:
            wrong.append(f"{title}: no job matcher")
        if panel["type"] == "heatmap" and (target["format"] != "heatmap" or "by (le)" not in expr or "increase(" not in expr):
            wrong.append(f"{title}: not a heatmap's query")
    return wrong


def catalogue() -> set[str]:
    """Names in docs/api.md's generated table, which a lint test compares with the catalogue in code."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:phi|process)_[a-z0-9_]+)[`{]", text))
    assert len(names) > 40
    return names


def metrics_of(expr: str) -> set[str]:
    # A colon before or after a name makes it a recording rule's.
    found = re.findall(r"(?<![:\w])((?:phi|process)_[a-z0-9_]+)(?![:\w])", expr)
    return {base(name) for name in found}


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

    assert broken(lambda board, panel: None) == []
    assert broken(lambda board, panel: panel.update(description=""))
    assert broken(lambda board, panel: panel.update(gridpos={}))
    assert broken(lambda board, panel: panel["fieldConfig"]["defaults"].update(unit="seconds"))
    assert broken(lambda board, panel: panel["targets"][0].update(expr="rate(phi_x_total[5m])"))
    assert broken(lambda board, panel: panel["gridPos"].update(x=20))
    assert broken(lambda board, panel: board.update(editable=True))


def test_every_metric_exists_and_is_used():
    panels = [query.expr for board in BOARDS.values() for panel in board.panels() for query in panel.queries]
    alerts = [rule["expr"] for group in rules.rules()["groups"] for rule in group["rules"]]
    named = set().union(*(metrics_of(expr) for expr in panels + alerts))
    assert named <= catalogue()
    assert catalogue() - named == set(source.UNUSED) & catalogue()
    assert set(source.UNUSED) <= catalogue()
    runbooks = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "runbooks").glob("*.md"))
    assert metrics_of(runbooks) <= catalogue()


def test_promtool_parses_every_expression(tmp_path):
    """As recording rules, with Grafana's variables filled in."""
    recorded = []
    for board in BOARDS.values():
        for number, query in enumerate(query for panel in board.panels() for query in panel.queries):
            expr = query.expr.replace("$__rate_interval", "5m")
            expr = re.sub(r"\$(namespace|job|instance)", ".*", expr)
            recorded.append({"record": f"{board.uid.replace('-', '_')}:{number}", "expr": expr})
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}), encoding="utf-8")
    checked = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
