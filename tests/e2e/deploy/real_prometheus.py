"""A real Prometheus server that scrapes real programs, with the rules of deploy/prometheus at a quicker pace."""

import json
import math
import pathlib
import re
import shutil
import subprocess
import urllib.parse
import urllib.request

import phi_programs
import yaml
from sources import ROOT, dashboards, rules

SCRAPE = "1s"


def binary() -> str:
    return shutil.which("prometheus") or str(ROOT / "build" / "tools" / "prometheus")


class Prometheus:
    """Scrapes `targets` (job: metrics address) each second. Time scale 0.05 makes a window of five minutes fifteen seconds."""

    def __init__(self, folder: pathlib.Path, targets: dict[str, str], time_scale: float):
        self.time_scale = time_scale
        (folder / "rules.yaml").write_text(rules.to_yaml(rules.rules(time_scale)), encoding="utf-8")
        config = {
            "global": {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": [address], "labels": {"instance": f"{job.removeprefix('phi-')}-0"}}]} for job, address in targets.items()],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        self.address = f"127.0.0.1:{phi_programs.free_port()}"
        self.log = folder / "prometheus.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [binary(), f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={self.address}"],
                stdout=log,
                stderr=log,
            )
        phi_programs.wait_until(self.ready, "prometheus ready")

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def _get(self, path: str, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.loads(answer.read())["data"]

    def query(self, expr: str) -> list:
        return self._get("query", query=expr)["result"]

    def query_range(self, expr: str, start: float, end: float, step: float = 1) -> list:
        return self._get("query_range", query=expr, start=start, end=end, step=step)["result"]

    def label_values(self, definition: str) -> list[str]:
        """What Grafana offers for a variable."""
        series, label = label_values(definition)
        return self._get(f"label/{label}/values", **{"match[]": panel_expr(series)})

    def has_value(self, expr: str) -> bool:
        """Whether there is something to draw: the quantile of no calls is a sample too, NaN."""
        return any(math.isfinite(float(series["value"][1])) for series in self.query(expr))

    def fired(self) -> set[str]:
        """Alerts that were firing at any time."""
        return {series["metric"]["alertname"] for series in self.query('last_over_time(ALERTS{alertstate="firing"}[1h])')}


def panel_expr(expr: str, rate_interval: str = "10s") -> str:
    """A panel's expression as Grafana would send it, for all jobs and instances."""
    expr = expr.replace("$__rate_interval", rate_interval)
    for variable in dashboards.variables()[1:]:
        expr = expr.replace(f"${variable['name']}", variable["allValue"])
    return expr


def label_values(definition: str) -> tuple[str, str]:
    """Series and label of a variable's label_values(series, label)."""
    return re.fullmatch(r"label_values\((.+), (\w+)\)", definition).groups()
