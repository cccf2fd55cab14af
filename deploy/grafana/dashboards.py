#!/usr/bin/env python3
"""The Grafana dashboards of phi-serve, as typed source; the JSON that Grafana reads is generated.

  deploy/grafana/dashboards.py    writes deploy/helm/phi-serve/files/dashboards/*.json (a test compares)

Chart and compose file provision them from there. Metrics are those of service/telemetry/metric_catalog.cc; the GPU panels read the
DCGM exporter. Some panels read what deploy/prometheus/rules.py records.
"""

import dataclasses
import json
import pathlib
import sys

DEPLOY = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DEPLOY / "prometheus"))
import rules  # what is promised, and what counts as the service's fault

OUTPUT = DEPLOY / "helm" / "phi-serve" / "files" / "dashboards"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
MATCH = 'namespace=~"$namespace",job=~"$job",instance=~"$instance"'
RATE = "$__rate_interval"

# Catalogue metrics that no panel shows, and why.
UNUSED = {
    "phi_model_info": "a name and a checksum: for joins and for GetModelInfo's readers",
    "process_start_time_seconds": "phi_replica_epoch and restarts tell more",
}


def of(metric: str, more: str = "") -> str:
    """A selector of `metric` for the jobs and instances that are looked at."""
    return f"{metric}{{{MATCH}{',' + more if more else ''}}}"


def rate(metric: str, more: str = "") -> str:
    return f"rate({of(metric, more)}[{RATE}])"


def total(metric: str, by: str = "", more: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} ({rate(metric, more)})"


def gpu(metric: str) -> list["Query"]:
    return [Query(rules.of_gpus_in_use(metric, metric, MATCH), "{{Hostname}} {{gpu}}")]


def quantile(q: float, metric: str, by: str = "", more: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) ({rate(metric + '_bucket', more)}))"


def quantiles(metric: str, more: str = "") -> list["Query"]:
    return [Query(quantile(q, metric, more=more), f"p{round(q * 100)}") for q in (0.5, 0.9, 0.99)]


@dataclasses.dataclass(frozen=True)
class Query:
    expr: str
    legend: str = ""


@dataclasses.dataclass(frozen=True)
class Panel:
    title: str
    description: str
    unit: str
    queries: list[Query]
    kind: str = "timeseries"  # timeseries, stat, heatmap, state-timeline
    width: int = 8
    stack: bool = False
    thresholds: tuple[tuple[float | None, str], ...] = ()
    maximum: float | None = None
    alerts: tuple[str, ...] = ()  # those that watch what it shows

    def json(self, number: int, x: int, y: int) -> dict:
        panel = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.text(),
            "datasource": DATASOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "targets": [self.target(index, query) for index, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self.defaults(), "overrides": []},
            "options": self.options(),
        }
        return panel

    def text(self) -> str:
        """The description, and where its alerts' runbooks are: as in their runbook_url, paths in this repository."""
        runbooks = ", ".join(f"{rules.RUNBOOKS}/{alert}.md" for alert in self.alerts)
        return f"{self.description} When it looks wrong: {runbooks}." if runbooks else self.description

    @property
    def height(self) -> int:
        return 4 if self.kind == "stat" else 8

    def target(self, index: int, query: Query) -> dict:
        target = {
            "refId": chr(ord("A") + index),
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "range": True,
        }
        if self.kind == "heatmap":
            target |= {"format": "heatmap", "legendFormat": "{{le}}"}
        return target

    def defaults(self) -> dict:
        defaults = {"unit": self.unit}
        steps = [{"value": value, "color": color} for value, color in self.thresholds or ((None, "green"),)]
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
        if self.maximum is not None:
            defaults |= {"min": 0, "max": self.maximum}
        if self.kind == "timeseries":
            defaults["custom"] = {
                "lineWidth": 1,
                "fillOpacity": 25 if self.stack else 5,
                "showPoints": "never",
                "stacking": {"mode": "normal" if self.stack else "none", "group": "A"},
            }
        return defaults

    def options(self) -> dict:
        if self.kind == "stat":
            return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "graphMode": "area", "colorMode": "value"}
        if self.kind == "heatmap":
            return {"calculate": False, "yAxis": {"unit": self.unit}, "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64}}
        if self.kind == "state-timeline":
            return {"mergeValues": True, "showValue": "never"}
        return {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}, "tooltip": {"mode": "multi", "sort": "desc"}}


@dataclasses.dataclass(frozen=True)
class Row:
    title: str
    panels: list[Panel]


@dataclasses.dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    description: str
    rows: list[Row]

    def panels(self) -> list[Panel]:
        return [panel for row in self.rows for panel in row.panels]

    def json(self) -> dict:
        panels, number, y = [], 0, 0
        for row in self.rows:
            number += 1
            panels.append({"id": number, "type": "row", "title": row.title, "collapsed": False, "panels": [], "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
            x, y, height = 0, y + 1, 0
            for panel in row.panels:
                if x + panel.width > 24:
                    x, y, height = 0, y + height, 0
                number += 1
                panels.append(panel.json(number, x, y))
                x, height = x + panel.width, max(height, panel.height)
            y += height
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["phi-serve"],
            "editable": False,
            "graphTooltip": 1,
            "schemaVersion": 39,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "links": [{"title": "phi-serve", "type": "dashboards", "tags": ["phi-serve"], "asDropdown": True, "includeVars": True, "keepTime": True}],
            "annotations": {"list": annotations()},
            "templating": {"list": variables()},
            "panels": panels,
        }


def annotation(name: str, expr: str, title: str, color: str) -> dict:
    return {"name": name, "datasource": DATASOURCE, "enable": True, "expr": expr, "titleFormat": title, "iconColor": color, "step": "60s"}


def annotations() -> list[dict]:
    def versions(when: str) -> str:
        return f"count by (job, program, version) ({of('phi_build_info')}{when})"

    return [
        # Not all alerts have a job or an instance to choose by.
        annotation("Alerts", 'ALERTS{alertname=~"Phi.*",alertstate="firing"}', "{{alertname}}", "red"),
        # The value is always 1: another version is another series.
        annotation("Versions", f"{versions('')} unless {versions(' offset 2m')}", "{{program}} {{version}}", "blue"),
    ]


def variables() -> list[dict]:
    def query(name: str, expr: str, every: str) -> dict:
        return {
            "name": name,
            "label": name,
            "type": "query",
            "datasource": DATASOURCE,
            "definition": expr,
            "query": {"query": expr, "refId": name},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": every,
            "current": {"text": ["All"], "value": ["$__all"]},
            "sort": 1,
        }

    return [
        {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus", "current": {}, "refresh": 1},
        # Outside Kubernetes there is no such label; .* takes that too.
        query("namespace", "label_values(phi_build_info, namespace)", ".*"),
        query("job", 'label_values(phi_build_info{namespace=~"$namespace"}, job)', ".+"),
        query("instance", 'label_values(phi_build_info{namespace=~"$namespace",job=~"$job"}, instance)', ".+"),
    ]


CAP = 'kind="inflight_requests"'
ERROR_BUDGET = 1 - rules.AVAILABILITY


def bad_below_promise(share: float):
    """Red from ten times the budget on."""
    return bad_below(round(1 - 10 * (1 - share), 6), share)


def bad_above(warn: float, bad: float):
    return ((None, "green"), (warn, "orange"), (bad, "red"))


def bad_below(bad: float, warn: float):
    return ((None, "red"), (bad, "orange"), (warn, "green"))


def service() -> Dashboard:
    calls = total("phi_router_requests_total", more=rules.GENERATE)
    faults = total("phi_router_requests_total", more=f"{rules.GENERATE},{rules.FAULT}")
    quick = total("phi_router_time_to_first_token_seconds_bucket", more=f'le="{rules.FIRST_TOKEN_SECONDS}"')
    first = total("phi_router_time_to_first_token_seconds_count")
    return Dashboard(
        "phi-service",
        "phi-serve / service",
        "What callers get: promises, traffic, errors and latency at the routers",
        [
            Row("Promises", [
                Panel("Availability", f"Share of Generate calls that did not fail by the service's fault; promised: {100 * rules.AVAILABILITY:g}%.", "percentunit",
                      [Query(f"1 - ({faults} or vector(0)) / ({calls} > 0)")], kind="stat", width=4, thresholds=bad_below_promise(rules.AVAILABILITY), maximum=1),
                Panel(f"First token within {rules.FIRST_TOKEN_SECONDS} s", f"Share of first tokens in time; promised: {100 * rules.FIRST_TOKEN_SHARE:g}%.", "percentunit",
                      [Query(f"{quick} / ({first} > 0)")], kind="stat", width=4, thresholds=bad_below_promise(rules.FIRST_TOKEN_SHARE), maximum=1,
                      alerts=("PhiFirstTokenBudgetBurn",)),
                Panel("Calls", "Calls that end each second, all methods.", "reqps", [Query(total("phi_router_requests_total"))], kind="stat", width=4),
                Panel("Tokens", "Tokens generated each second.", "short", [Query(total("phi_generated_tokens_total"))], kind="stat", width=4),
                Panel("Ready replicas", "Replicas that the routers may send calls to; the least that any router sees.", "short",
                      [Query(f"min({of(rules.READY_REPLICAS)})")], kind="stat", width=4, thresholds=bad_below(1, 1),
                      alerts=("PhiNoReadyReplica", "PhiReplicasMissing")),
                Panel("Error budget burn", "How many times faster than allowed the error budget is spent over an hour; 1 lasts a month.", "short",
                      [Query(f'max(job:phi_request_errors:ratio_rate1h{{job=~"$job"}} / {ERROR_BUDGET:.6g})')], kind="stat", width=4, thresholds=bad_above(1, 6),
                      alerts=("PhiErrorBudgetBurnFast", "PhiErrorBudgetBurnSlow")),
            ]),
            Row("Traffic and errors", [
                Panel("Calls by code", "Calls that ended, by gRPC code.", "reqps", [Query(total("phi_router_requests_total", "code"), "{{code}}")], stack=True),
                Panel("Errors by reason", "Calls that ended with an error, by reason.", "reqps",
                      [Query(total("phi_router_requests_total", "reason", 'code!="OK"'), "{{reason}}")], stack=True),
                Panel("Refused for load", "Calls refused early, with the time to come back.", "reqps", [Query(f"{total('phi_router_shed_total', 'reason')} or vector(0)", "{{reason}}")], stack=True,
                      alerts=("PhiQueueFull",)),
                Panel("Under way", "Calls in the routers, and the cap above which they refuse.", "short",
                      [Query(f"sum({of('phi_router_inflight_requests')})", "under way"), Query(f"sum({of('phi_router_limit', CAP)})", "cap")]),
                Panel("Retries and failovers", "Calls tried once more before their first token, and those that another replica then answered.", "reqps",
                      [Query(total("phi_router_retries_total", "reason"), "retry: {{reason}}"), Query(total("phi_router_failovers_total", "reason"), "failover: {{reason}}")]),
                Panel("Readers cut off", "Streams ended because their reader took nothing.", "reqps", [Query(total("phi_router_slow_readers_total", "reason"), "{{reason}}")],
                      alerts=("PhiSlowReaders",)),
            ]),
            Row("Latency", [
                Panel("Time to first token", "From a call's arrival to its first token, at the routers.", "s", quantiles("phi_router_time_to_first_token_seconds")),
                Panel("Whole calls", "From a call's arrival to its end, at the routers.", "s", quantiles("phi_router_request_duration_seconds", rules.GENERATE)),
                Panel("The router's own time", "Time in a call that is the router's, waits left out.", "s", quantiles("phi_router_overhead_seconds")),
                Panel("First tokens", "How first tokens spread over time.", "s",
                      [Query(f"sum by (le) (increase({of('phi_router_time_to_first_token_seconds_bucket')}[{RATE}]))")], kind="heatmap", width=12),
                Panel("Whole calls, spread", "How whole calls spread over time.", "s",
                      [Query(f"sum by (le) (increase({of('phi_router_request_duration_seconds_bucket')}[{RATE}]))")], kind="heatmap", width=12),
            ]),
        ],
    )


def engine() -> Dashboard:
    return Dashboard(
        "phi-engine",
        "phi-serve / engine",
        "How the replicas batch: queues, steps, KV cache",
        [
            Row("Queue", [
                Panel("Requests", "In the replicas: taking part in steps, and waiting.", "short",
                      [Query(f"sum({of('phi_requests_running')})", "running"), Query(f"sum({of('phi_requests_waiting')})", "waiting")], stack=True),
                Panel("Waiting prompt tokens", "Prompt tokens in the waiting queues.", "short", [Query(f"sum by (instance) ({of('phi_waiting_tokens')})", "{{instance}}")], stack=True),
                Panel("Time in the queue", "From a request's arrival at a leader to its first step.", "s", quantiles("phi_queue_seconds")),
            ]),
            Row("Speed", [
                Panel("Tokens", "Prompt tokens taken in, those of them found in the prefix cache, and tokens generated.", "short",
                      [Query(total("phi_prompt_tokens_total"), "prompt"), Query(total("phi_prefix_hit_tokens_total"), "prompt, cached"),
                       Query(total("phi_generated_tokens_total"), "generated")]),
                Panel("Prefix cache hits", "Share of prompt tokens that did not have to be computed.", "percentunit",
                      [Query(f"{total('phi_prefix_hit_tokens_total')} / ({total('phi_prompt_tokens_total')} > 0)")], maximum=1),
                Panel("Between tokens", "Between two tokens of one sequence.", "s", quantiles("phi_inter_token_seconds"), alerts=("PhiInterTokenSlow",)),
                Panel("Time to first token", "From arrival at the leader to the first token.", "s", quantiles("phi_time_to_first_token_seconds")),
                Panel("Prefill", "From a request's first step to its first token.", "s", quantiles("phi_prefill_seconds")),
                Panel("Requests by end", "How requests end.", "reqps", [Query(total("phi_request_duration_seconds_count", "finish_reason"), "{{finish_reason}}")], stack=True),
            ]),
            Row("Steps", [
                Panel("Step time", "One forward pass over all ranks, 99th percentile.", "s", [Query(quantile(0.99, "phi_step_seconds", "phase"), "{{phase}}")]),
                Panel("Tokens in a step", "Median.", "short", [Query(quantile(0.5, "phi_step_tokens", "phase"), "{{phase}}")]),
                Panel("Sequences in a step", "Median.", "short", [Query(quantile(0.5, "phi_batch_size", "phase"), "{{phase}}")]),
                Panel("Steps, spread", "How step times spread over time.", "s", [Query(f"sum by (le) (increase({of('phi_step_seconds_bucket')}[{RATE}]))")], kind="heatmap", width=24),
            ]),
            Row("KV cache and waste", [
                Panel("KV blocks", "Blocks of the KV caches by state.", "short", [Query(f"sum by (state) ({of('phi_kv_blocks')})", "{{state}}")], stack=True),
                Panel("KV use", "Share of the blocks that running requests own.", "percentunit", [Query(of("phi_kv_usage_ratio"), "{{instance}}")], maximum=1,
                      alerts=("PhiKvCachePressure",)),
                Panel("Preemptions", "Sequences that gave up their blocks and start again.", "short", [Query(total("phi_preemptions_total", "instance"), "{{instance}}")]),
                Panel("Wasted tokens", "Tokens computed that reached nobody.", "short", [Query(total("phi_wasted_tokens_total", "reason"), "{{reason}}")], stack=True, width=12),
                Panel("Cancelled", "Requests whose caller went away, by where they stood.", "reqps", [Query(total("phi_cancelled_total", "stage"), "{{stage}}")], stack=True, width=12,
                      alerts=("PhiCancelStorm",)),
            ]),
        ],
    )


def replicas() -> Dashboard:
    return Dashboard(
        "phi-replicas",
        "phi-serve / replicas and ranks",
        "Which replica is in which state, and which of its ranks keeps the others waiting",
        [
            Row("Replicas", [
                Panel("Ready", "1 while a replica serves.", "short", [Query(of("phi_replica_ready"), "{{instance}}")], kind="state-timeline", width=12, thresholds=bad_below(1, 1),
                      alerts=("PhiReplicaNotReady",)),
                Panel("As the routers see them", "Replicas by the state in which routers see them, and how many there should be.", "short",
                      [Query(f"sum by (state) ({of('phi_router_replica_state')})", "{{state}}"), Query(f"sum({of('phi_router_replicas_expected')})", "expected")], width=12),
                Panel("Restarts", "Groups of ranks that ended without being asked to.", "short", [Query(f"sum by (instance, cause) (increase({of('phi_replica_restarts_total')}[{RATE}]))", "{{instance}} {{cause}}")],
                      alerts=("PhiReplicaRestarting", "PhiReplicaRestarted")),
                Panel("Epoch", "How often each replica's ranks were started.", "short", [Query(of("phi_replica_epoch"), "{{instance}}")]),
                Panel("Last start", "How long the phases of the last start took.", "s", [Query(f"max by (phase) ({of('phi_startup_seconds')})", "{{phase}}")]),
            ]),
            Row("Ranks", [
                Panel("Running", "1 while a rank's process runs.", "short", [Query(of("phi_rank_up"), "{{instance}} rank {{rank}}")], kind="state-timeline", width=12, thresholds=bad_below(1, 1)),
                Panel("Age of the last step", "Idle steps count, so more than the stall limit means a rank that hangs.", "s",
                      [Query(f"time() - {of('phi_rank_last_step_timestamp_seconds')}", "{{instance}} rank {{rank}}")], width=12, alerts=("PhiEngineStalled",)),
                Panel("Skew", "In the last step: the longest less the shortest time of a rank inside collectives. The rank that waits least is the slow one.", "s",
                      [Query(of("phi_rank_skew_seconds"), "{{instance}}")]),
                Panel("Time inside collectives", "Share of each rank's time, waiting for the others included.", "percentunit",
                      [Query(rate("phi_collective_seconds_total"), "{{instance}} rank {{rank}}")]),
                Panel("Collectives", "One collective on one rank, 99th percentile.", "s", [Query(quantile(0.99, "phi_collective_seconds", "kind"), "{{kind}}")]),
                Panel("Bytes sent", "In collectives, by rank.", "Bps", [Query(rate("phi_collective_bytes_total"), "{{instance}} rank {{rank}}")], width=12),
                Panel("Errors", "Collectives that failed; each ends its group.", "short", [Query(f"sum by (instance) (increase({of('phi_collective_errors_total')}[{RATE}]))", "{{instance}}")], width=12,
                      alerts=("PhiCollectiveErrors",)),
            ]),
        ],
    )


def machines() -> Dashboard:
    return Dashboard(
        "phi-machines",
        "phi-serve / GPU and process",
        "What the processes take from their machines; the GPU panels need the DCGM exporter and show the GPUs of the chosen workers' pods (outside Kubernetes, where it names no pods, all)",
        [
            Row("Processes", [
                Panel("CPU", "Cores in use by routers and the workers' supervisors; the container's metrics show the ranks.", "short", [Query(rate("process_cpu_seconds_total"), "{{instance}}")]),
                Panel("Resident memory", "Of routers and of the workers' supervisors; what the ranks take is planned, and the container's metrics show it.", "bytes", [Query(of("process_resident_memory_bytes"), "{{instance}}")],
                      alerts=("PhiMemoryGrowth",)),
                Panel("File descriptors", "Share of the limit; at 1 the listener never accepts again.", "percentunit",
                      [Query(f"{of('process_open_fds')} / {of('process_max_fds')}", "{{instance}}")], maximum=1, alerts=("PhiFileDescriptorsLow",)),
                Panel("Planned memory of the ranks", "What the ranks have planned, by use, and what is free beside it.", "bytes", [Query(f"sum by (kind) ({of('phi_device_memory_bytes')})", "{{kind}}")], stack=True),
                Panel("Log lines dropped", "Because nothing read standard error.", "short", [Query(rate("phi_log_dropped_total"), "{{instance}}")], alerts=("PhiLogLinesDropped",)),
                Panel("Certificates", "Time until the served TLS certificate ends; nothing without TLS.", "s",
                      [Query(f"({of('phi_tls_certificate_expiry_timestamp_seconds')} > 0) - time()", "{{instance}}")], alerts=("PhiCertificateExpiry",)),
                Panel("Versions", "Processes by program and version.", "short", [Query(f"count by (program, version) ({of('phi_build_info')})", "{{program}} {{version}}")], width=24,
                      alerts=("PhiVersionSkew", "PhiRouterAbsent", "PhiWorkerAbsent", "PhiTargetDown")),
            ]),
            Row("GPUs (DCGM)", [
                Panel("GPU utilisation", "Share of time in which a kernel ran.", "percent", gpu("DCGM_FI_DEV_GPU_UTIL")),
                Panel("Tensor cores", "Share of cycles in which the tensor pipe was active.", "percentunit", gpu("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE")),
                Panel("Memory bandwidth", "Share of cycles in which DRAM was active.", "percentunit", gpu("DCGM_FI_PROF_DRAM_ACTIVE")),
                Panel("GPU memory", "In use.", "mbytes", gpu("DCGM_FI_DEV_FB_USED")),
                Panel("Power", "Drawn.", "watt", gpu("DCGM_FI_DEV_POWER_USAGE")),
                Panel("Temperature", "Of the GPUs.", "celsius", gpu("DCGM_FI_DEV_GPU_TEMP")),
                # The exporter calls it a counter; DCGM makes it a rate in MB/s of its own.
                Panel("NVLink", "Bandwidth between GPUs, both directions.", "MBs", gpu("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL"), width=12),
                Panel("XID errors", "The last error that the driver reported.", "short", gpu("DCGM_FI_DEV_XID_ERRORS"), width=12, alerts=("PhiGpuXidErrors",)),
            ]),
        ],
    )


def dashboards() -> list[Dashboard]:
    return [service(), engine(), replicas(), machines()]


def to_json(dashboard: Dashboard) -> str:
    return json.dumps(dashboard.json(), indent=1) + "\n"


def main() -> int:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for dashboard in dashboards():
        (OUTPUT / f"{dashboard.uid}.json").write_text(to_json(dashboard), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
