"""Draws the dashboards from the same queries that Grafana would send, by matplotlib (Debian's python3-matplotlib).

The pictures in docs/dashboards are made anew by:
  PHI_DRAW_DASHBOARDS=docs/dashboards pytest tests/e2e/deploy/test_observed.py -k all_is_well
"""

import collections
import datetime
import math
import pathlib
import re

from real_prometheus import panel_expr
from sources import dashboards

COLORS = ["#3b78b5", "#e08a2e", "#4f9d4f", "#c0504d", "#8064a2", "#7f6a55", "#d37ab1", "#7f7f7f", "#b5b53b", "#3bb5b0"]
STATE_COLORS = {0: "#c0504d", 1: "#4f9d4f"}
SI = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def shown(value: float, unit: str) -> str:
    """A value as the panel's unit has it."""
    if math.isnan(value):
        return "-"
    if unit == "percentunit":
        return f"{100 * value:.4g}%"
    if unit == "s" and abs(value) < 1:
        return f"{1e6 * value:.3g} µs" if abs(value) < 1e-3 else f"{1e3 * value:.3g} ms"
    if unit == "s" and abs(value) >= 86400:
        return f"{value / 86400:.3g} d"
    suffix = {"s": " s", "bytes": "B", "Bps": "B/s", "reqps": " /s"}.get(unit, "")
    for size, letter in SI:
        if abs(value) >= size:
            return f"{value / size:.3g} {letter}{suffix.strip()}"
    return f"{value:.3g}{suffix}"


def legend(query, metric: dict) -> str:
    text = query.legend
    for name, value in metric.items():
        text = text.replace("{{" + name + "}}", value)
    return re.sub(r"\{\{\w+\}\}", "none", text)


def series_of(prometheus, panel, span) -> list[tuple[str, list[tuple[float, float]]]]:
    """(legend, points) of all of a panel's queries."""
    found = []
    for query in panel.queries:
        for series in prometheus.query_range(panel_expr(query.expr), *span):
            points = [(float(at), float(value)) for at, value in series["values"]]
            found.append((legend(query, series["metric"]) or series["metric"].get("le", ""), points))
    return found


def draw_lines(axes, panel, found, span):
    if panel.stack:
        columns = collections.defaultdict(float)
        bottoms = {}
        for index, (name, points) in enumerate(found):
            low = [columns[at] for at, _ in points]
            for at, value in points:
                columns[at] += value
            bottoms[name] = low
            times = [at - span[0] for at, _ in points]
            axes.fill_between(times, low, [columns[at] for at, _ in points], color=COLORS[index % len(COLORS)], alpha=0.5, lw=0.8, label=name)
    else:
        for index, (name, points) in enumerate(found):
            axes.plot([at - span[0] for at, _ in points], [value for _, value in points], color=COLORS[index % len(COLORS)], lw=1, label=name)
    low, high = axes.get_ylim()
    axes.set_ylim(low if low < -0.1 * high else 0, 1.05 * high if any(value for _, points in found for _, value in points) else 1)
    if any(name for name, _ in found):
        axes.legend(fontsize=5, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False, handlelength=1, columnspacing=1)


def draw_heatmap(axes, found, span):
    """Cumulative buckets as Grafana's heatmap has them: each less the one below."""
    buckets = sorted(((math.inf if name == "+Inf" else float(name)), dict(points)) for name, points in found)
    times = sorted({at for _, points in buckets for at in points})
    rows, below = [], collections.defaultdict(float)
    for _, points in buckets:
        rows.append([max(0.0, points.get(at, 0) - below[at]) for at in times])
        for at in times:
            below[at] = points.get(at, 0)
    axes.pcolormesh([at - span[0] for at in times], range(len(rows)), rows, cmap="Oranges", shading="nearest")
    step = max(1, len(buckets) // 6)
    axes.set_yticks(range(0, len(buckets), step), [shown(bound, "s") if math.isfinite(bound) else "+Inf" for bound, _ in buckets][::step])


def draw_states(axes, found, span):
    for row, (_, points) in enumerate(found):
        for at, value in points:
            axes.barh(row, 1, left=at - span[0], color=STATE_COLORS.get(int(value), "#7f7f7f"), height=0.7)
    axes.set_yticks(range(len(found)), [name for name, _ in found])


def draw_panel(axes, panel, found, span):
    axes.set_title(panel.title, fontsize=7, loc="left", pad=3)
    axes.tick_params(labelsize=5, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if not found:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no data: needs the DCGM exporter", ha="center", va="center", fontsize=6, color="#7f7f7f")
    elif panel.kind == "stat":
        axes.set_axis_off()
        axes.text(0.5, 0.45, shown(found[0][1][-1][1], panel.unit), ha="center", va="center", fontsize=15, color="#4f9d4f")
    elif panel.kind == "heatmap":
        draw_heatmap(axes, found, span)
    elif panel.kind == "state-timeline":
        draw_states(axes, found, span)
    else:
        draw_lines(axes, panel, found, span)
        axes.yaxis.set_major_formatter(lambda value, _: shown(value, panel.unit))
        axes.grid(axis="y", lw=0.3, color="#dddddd")


def draw(prometheus, folder: pathlib.Path, span: tuple[float, float]) -> None:
    """One picture a dashboard, of the time from span[0] to span[1]; the x axes are seconds from its start."""
    import matplotlib  # not needed to run the tests

    matplotlib.use("Agg")
    from matplotlib import pyplot

    when = datetime.datetime.fromtimestamp(span[0], datetime.timezone.utc)
    for board in dashboards.dashboards():
        layout = board.json()["panels"]
        height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in layout)
        figure = pyplot.figure(figsize=(12, 0.27 * height + 0.6), dpi=90)
        figure.text(0.01, 1 - 0.2 / figure.get_figheight(), f"{board.title}: {when:%Y-%m-%d}, {span[1] - span[0]:.0f} s of a real run, drawn by matplotlib", fontsize=9)
        panels = iter(board.panels())
        for spot in layout:
            grid = spot["gridPos"]

            def place(pad_left, pad_right, pad_top, pad_bottom, grid=grid):
                unit = 0.27 / figure.get_figheight()
                left, right = grid["x"] / 24 + pad_left, (grid["x"] + grid["w"]) / 24 - pad_right
                top = 1 - 0.4 / figure.get_figheight() - unit * (grid["y"] + pad_top)
                return left, top - unit * (grid["h"] - pad_top - pad_bottom), right - left, unit * (grid["h"] - pad_top - pad_bottom)

            if spot["type"] == "row":
                figure.text(0.01, place(0, 0, 0, 0)[1], spot["title"], fontsize=8, weight="bold", color="#444444")
                continue
            panel = next(panels)
            draw_panel(figure.add_axes(place(0.045, 0.01, 0.9, 1.9)), panel, series_of(prometheus, panel, span), span)
        figure.savefig(folder / f"{board.uid}.png")
        pyplot.close(figure)
