#!/usr/bin/env python3
"""Recording and alert rules of phi-serve, as typed source; the YAML that Prometheus reads is generated.

  deploy/prometheus/rules.py                      writes deploy/helm/phi-serve/files/rules.yaml (a test compares)
  deploy/prometheus/rules.py --time_scale=0.02 -  the same rules with every window and `for` fifty times shorter, on
                                                  standard output: how a test sees an alert fire in seconds

Metrics are those of service/telemetry/metric_catalog.cc. Multi-window burn rates follow the SRE workbook, chapter 5.
"""

import argparse
import dataclasses
import pathlib
import sys

import yaml

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "helm" / "phi-serve" / "files" / "rules.yaml"
# In this repository; the chart's metrics.prometheusRule.runbookBase puts the address of a checkout before it.
RUNBOOKS = "docs/runbooks"

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# What the service promises.
AVAILABILITY = 0.999
FIRST_TOKEN_SECONDS = "0.5"  # a bucket of phi_router_time_to_first_token_seconds
FIRST_TOKEN_SHARE = 0.99

# Outcomes that are the service's fault. Never what the caller did: INVALID_ARGUMENT, NOT_FOUND, CANCELLED, a caller's
# own limit, or a deadline that passed in the middle of an answer, which is the one of these codes without a reason.
FAULT = (
    'code=~"UNAVAILABLE|INTERNAL|UNKNOWN|DATA_LOSS|RESOURCE_EXHAUSTED|DEADLINE_EXCEEDED",'
    'reason!~"CALLER_LIMIT|none"'
)
GENERATE = 'method=~"Generate|GenerateStream"'
# Fewer bad calls in the long window are no trend: one of five in an hour wakes nobody.
LEAST_BAD_CALLS = 10

# Jobs: phi-router and phi-worker, or what the chart's PodMonitors say, phi-serve/NAMESPACE/DEPLOYMENT.
ROUTERS = 'job=~"phi-(serve/.*-)?router"'
WORKERS = 'job=~"phi-(serve/.*-)?worker"'
PROCESSES = 'job=~"phi-(serve/.*-)?(router|worker)"'

# Recorded for each router: how many replicas it may send calls to.
READY_REPLICAS = "instance:phi_ready_replicas:sum"


@dataclasses.dataclass(frozen=True)
class Times:
    """Durations as PromQL writes them, scaled for tests."""

    scale: float = 1.0

    def __call__(self, seconds: float) -> str:
        milliseconds = max(1, round(seconds * self.scale * 1000))
        for unit, size in (("d", DAY * 1000), ("h", HOUR * 1000), ("m", MINUTE * 1000), ("s", 1000)):
            if milliseconds % size == 0:
                return f"{milliseconds // size}{unit}"
        return f"{milliseconds}ms"


@dataclasses.dataclass(frozen=True)
class Record:
    name: str
    expr: str

    def rule(self, times: Times) -> dict:
        return {"record": self.name, "expr": self.expr}


@dataclasses.dataclass(frozen=True)
class Alert:
    name: str
    severity: str  # critical: wake someone; warning: today; info: for context
    hold: float  # seconds that the expression has to hold
    expr: str
    summary: str
    description: str

    def rule(self, times: Times) -> dict:
        rule = {"alert": self.name, "expr": self.expr}
        if self.hold > 0:
            rule["for"] = times(self.hold)
        rule["labels"] = {"severity": self.severity}
        rule["annotations"] = {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{RUNBOOKS}/{self.name}.md",
        }
        return rule


def with_label(series: str, label: str, source: str, pattern: str) -> str:
    """The series with `label` set to the pattern's first group in `source`; as they were where it does not match."""
    return f'label_replace({series}, "{label}", "$1", "{source}", "{pattern}")'


def of_gpus_in_use(series: str, metric: str, pods: str) -> str:
    """Those of the DCGM exporter's `series`, made of `metric`, whose GPU is one that the `pods` use; all where it names none."""
    # Where Prometheus keeps `pod` for the exporter's own, the GPU's is `exported_pod`.
    for label in ("namespace", "pod"):
        series = with_label(series, label, f"exported_{label}", "(.+)")
    no_pods = f'group by (namespace, pod) ({metric}{{pod="",exported_pod=""}})'
    return f"{series} and on (namespace, pod) (up{{{pods}}} or {no_pods})"


def with_release(series: str) -> str:
    return with_label(series, "release", "job", "(.*)-(router|worker)")


BURN_WINDOWS = (5 * MINUTE, 30 * MINUTE, HOUR, 6 * HOUR, 3 * DAY)
LONG_WINDOWS = BURN_WINDOWS[2:]  # those that say whether it matters


def window_name(seconds: float) -> str:
    """The window as rule names have it: unscaled, so that a name means the same in a test."""
    return Times()(seconds)


def recordings(t: Times) -> list[Record]:
    records = []
    for window in BURN_WINDOWS:
        name, w = window_name(window), t(window)
        calls = f"sum by (job) (rate(phi_router_requests_total{{{GENERATE}}}[{w}]))"
        faults = f"sum by (job) (rate(phi_router_requests_total{{{GENERATE},{FAULT}}}[{w}]))"
        records.append(Record(f"job:phi_request_errors:ratio_rate{name}", f"({faults} or 0 * {calls}) / ({calls} > 0)"))
        count = f"sum by (job) (rate(phi_router_time_to_first_token_seconds_count[{w}]))"
        quick = f'sum by (job) (rate(phi_router_time_to_first_token_seconds_bucket{{le="{FIRST_TOKEN_SECONDS}"}}[{w}]))'
        records.append(Record(f"job:phi_slow_first_tokens:ratio_rate{name}", f"1 - {quick} / ({count} > 0)"))
        if window in LONG_WINDOWS:
            for bad, per_second in (("phi_request_errors", faults), ("phi_slow_first_tokens", f"{count} - {quick}")):
                records.append(Record(f"job:{bad}:increase{name}", per_second.replace("rate(", "increase(")))
    records.append(Record("job:phi_requests:rate5m", f"sum by (job) (rate(phi_router_requests_total[{t(5 * MINUTE)}]))"))
    # A router exports no series for a state that no replica is in; what every router exports says that it is there.
    by_router = "sum by (namespace, job, instance)"
    ready = f'{by_router} (phi_router_replica_state{{state="ready"}})'
    records.append(Record(READY_REPLICAS, f"{ready} or {by_router} (0 * phi_router_inflight_requests)"))
    return records


def burn(ratio: str, budget: float, factor: float, long: float, short: float) -> str:
    """Both windows above `factor` times the budget: the long one shows that it matters, the short one that it lasts."""
    limit = f"({factor} * {budget:.6g})"
    return (
        f"job:{ratio}:ratio_rate{window_name(long)} > {limit}"
        f" and job:{ratio}:ratio_rate{window_name(short)} > {limit}"
        f" and job:{ratio}:increase{window_name(long)} >= {LEAST_BAD_CALLS}"
    )


def slo_alerts() -> list[Alert]:
    errors, slow = "phi_request_errors", "phi_slow_first_tokens"
    error_budget, slow_budget = 1 - AVAILABILITY, 1 - FIRST_TOKEN_SHARE
    share = "{{ $value | humanizePercentage }}"
    return [
        Alert(
            "PhiErrorBudgetBurnFast",
            "critical",
            2 * MINUTE,
            burn(errors, error_budget, 14.4, HOUR, 5 * MINUTE) + f"\nor {burn(errors, error_budget, 6, 6 * HOUR, 30 * MINUTE)}",
            "Calls fail fast enough to spend a month's error budget in days",
            f"{share} of the Generate calls of {{{{ $labels.job }}}} fail by the service's fault.",
        ),
        Alert(
            "PhiErrorBudgetBurnSlow",
            "warning",
            HOUR,
            burn(errors, error_budget, 1, 3 * DAY, 6 * HOUR),
            "Calls fail faster than the error budget allows",
            f"{share} of the Generate calls of {{{{ $labels.job }}}} failed over three days.",
        ),
        Alert(
            "PhiFirstTokenBudgetBurn",
            "warning",
            5 * MINUTE,
            burn(slow, slow_budget, 14.4, HOUR, 5 * MINUTE) + f"\nor {burn(slow, slow_budget, 6, 6 * HOUR, 30 * MINUTE)}",
            "First tokens come too late too often",
            f"{share} of the first tokens of {{{{ $labels.job }}}} take longer than {FIRST_TOKEN_SECONDS} s.",
        ),
    ]


def absence_alert(name: str, component: str, mine: str, others: str, description: str) -> Alert:
    """Of a release by what is left of it; of the only one by Prometheus having no target."""
    up, others_up = with_release(f"up{{{mine}}} == 1"), with_release(f"up{{{others}}} == 1")
    return Alert(
        name,
        "critical",
        2 * MINUTE,
        f"group by (release) ({others_up}) unless on (release) {up}\nor on () absent(up{{{mine}}} == 1)",
        f"No {component} is there",
        f"No {component}{{{{ with $labels.release }}}} of {{{{ . }}}}{{{{ end }}}} answers Prometheus{description}",
    )


def seen_deployments(t: Times) -> str:
    """Namespace and Deployment of all that Prometheus scraped within a day, by the job that the chart gives them."""
    jobs = f"last_over_time(up{{{PROCESSES}}}[{t(DAY)}])"
    jobs = with_label(jobs, "namespace", "job", "phi-serve/([^/]+)/.*")
    return f"group by (namespace, deployment) ({with_label(jobs, 'deployment', 'job', 'phi-serve/[^/]+/(.*)')})"


def replica_alerts(t: Times) -> list[Alert]:
    return [
        absence_alert("PhiRouterAbsent", "router", ROUTERS, WORKERS, ": callers reach nothing."),
        absence_alert("PhiWorkerAbsent", "worker", WORKERS, ROUTERS, ": no call can be answered."),
        Alert(
            "PhiNoReadyReplica",
            "critical",
            MINUTE,
            f"max by (job) ({READY_REPLICAS}) == 0",
            "No replica answers",
            "The routers of {{ $labels.job }} see no ready replica: every call is refused with UNAVAILABLE.",
        ),
        Alert(
            "PhiReplicasMissing",
            "warning",
            10 * MINUTE,
            # A router that finds no replica by name expects none.
            f"{READY_REPLICAS} < on (namespace, job, instance) phi_router_replicas_expected\nor {READY_REPLICAS} == 0"
            "\nor min by (namespace, deployment) (kube_deployment_status_replicas_available)"
            " < on (namespace, deployment) max by (namespace, deployment) (kube_deployment_spec_replicas)"
            f" and on (namespace, deployment) {seen_deployments(t)}",
            "Fewer replicas are ready than should be",
            "{{ with $labels.deployment }}Deployment {{ . }}{{ else }}{{ $labels.instance }}{{ end }} has {{ $value }}"
            " ready replicas, fewer than it asks for.",
        ),
        Alert(
            "PhiReplicaNotReady",
            "warning",
            15 * MINUTE,  # the supervisor's own limit for a start
            # The window bridges the pauses of a pod that is started again and again.
            f"max by (job, instance) (max_over_time(phi_replica_ready[{t(6 * MINUTE)}])) == 0",
            "A worker is there and does not become ready",
            "{{ $labels.instance }} has not been ready for longer than a start may take.",
        ),
        Alert(
            "PhiEngineStalled",
            "critical",
            MINUTE,
            "max by (job, instance) (time() - phi_rank_last_step_timestamp_seconds)"
            f" > {30 * t.scale:g} and on (job, instance) phi_replica_ready == 1",
            "A replica that calls itself ready finishes no steps",
            "The slowest rank of {{ $labels.instance }} finished its last step {{ $value | humanizeDuration }} ago.",
        ),
        Alert(
            "PhiReplicaRestarting",
            "critical",
            0,
            f"sum by (job, instance) (increase(phi_replica_restarts_total[{t(15 * MINUTE)}])) > 3",
            "A replica's ranks end again and again",
            "{{ $labels.instance }} was restarted {{ $value | humanize }} times in a quarter of an hour.",
        ),
        Alert(
            "PhiReplicaRestarted",
            "warning",
            0,
            f"sum by (job, instance, cause) (increase(phi_replica_restarts_total[{t(15 * MINUTE)}])) > 0",
            "A replica lost its ranks and started them again",
            "{{ $labels.instance }} restarted its ranks, cause {{ $labels.cause }}.",
        ),
    ]


def hardware_alerts(t: Times) -> list[Alert]:
    xid = "DCGM_FI_DEV_XID_ERRORS"
    changes = of_gpus_in_use(f"changes({xid}[{t(5 * MINUTE)}])", xid, WORKERS)
    return [
        Alert(
            "PhiCollectiveErrors",
            "critical",
            0,
            f"sum by (job, instance) (increase(phi_collective_errors_total[{t(5 * MINUTE)}])) > 0",
            "A collective between ranks failed",
            "Each failed collective ends the ranks of {{ $labels.instance }}; network, driver or a lost rank.",
        ),
        Alert(
            "PhiGpuXidErrors",
            "critical",
            0,
            f"sum by (instance, gpu, namespace, pod) ({changes}) > 0",
            "A GPU reports XID errors",
            "GPU {{ $labels.gpu }} of {{ $labels.instance }}{{ with $labels.pod }}, which {{ . }} uses,{{ end }}"
            " reported an XID error.",
        ),
    ]


def load_alerts(t: Times) -> list[Alert]:
    five = t(5 * MINUTE)
    return [
        Alert(
            "PhiQueueFull",
            "warning",
            5 * MINUTE,
            "sum by (job) (rate(phi_router_shed_total"
            f'{{reason=~"QUEUE_FULL|TOKEN_BUDGET|KV_CAPACITY"}}[{five}])) > 0',
            "Calls are refused because the queues are full",
            "{{ $labels.job }} refuses {{ $value | humanize }} calls a second for want of capacity.",
        ),
        Alert(
            "PhiKvCachePressure",
            "warning",
            10 * MINUTE,
            f"max by (job, instance) (max_over_time(phi_kv_usage_ratio[{five}])) > 0.95"
            f" and on (job, instance) rate(phi_preemptions_total[{five}]) > 0",
            "The KV cache is full and requests take turns in it",
            "{{ $labels.instance }} preempts requests: up to {{ $value | humanizePercentage }} of its KV blocks are owned.",
        ),
        Alert(
            "PhiInterTokenSlow",
            "warning",
            15 * MINUTE,
            "histogram_quantile(0.99, sum by (job, le) (rate(phi_inter_token_seconds_bucket"
            f"[{five}]))) > 4 * histogram_quantile(0.99, sum by (job, le) "
            f"(rate(phi_inter_token_seconds_bucket[{t(DAY)}])))",
            "Tokens come much slower than over the last day",
            "The 99th percentile between tokens of {{ $labels.job }} is {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "PhiSlowReaders",
            "info",
            0,
            f"sum by (job) (increase(phi_router_slow_readers_total[{five}])) > 0",
            "Callers take no tokens and are cut off",
            "{{ $labels.job }} cut off {{ $value | humanize }} streams whose reader took nothing.",
        ),
        Alert(
            "PhiCancelStorm",
            "info",
            10 * MINUTE,
            f"sum by (job) (rate(phi_cancelled_total[{five}]))"
            f" > 0.5 * sum by (job) (rate(phi_time_to_first_token_seconds_count[{five}]) + 0.01)",
            "Callers give up on a large share of their requests",
            "{{ $labels.job }}: {{ $value | humanize }} requests a second are cancelled; are their deadlines too short?",
        ),
    ]


def grows(series: str, t: Times) -> str:
    """By more than a tenth and 32 MiB within six hours, and as much in the six before: one step never does both."""

    def grew(until: float) -> str:
        ends = f" offset {t(until)}" if until else ""
        newest, oldest = f"min_over_time({series}[{t(HOUR)}]{ends})", f"[{t(HOUR)}] offset {t(until + 5 * HOUR)}"
        return f"{newest} - 1.1 * max_over_time({series}{oldest}) > {32 * 2**20}"

    return f"{grew(0)} and {grew(6 * HOUR)}"


def process_alerts(t: Times) -> list[Alert]:
    mine = PROCESSES
    return [
        Alert(
            "PhiFileDescriptorsLow",
            "critical",
            2 * MINUTE,
            f"process_open_fds{{{mine}}} / process_max_fds{{{mine}}} > 0.8",
            "A process is about to run out of file descriptors",
            "{{ $labels.instance }} uses {{ $value | humanizePercentage }}; at 100% gRPC's listener never accepts again.",
        ),
        Alert(
            "PhiMemoryGrowth",
            "warning",
            HOUR,
            f"({grows(f'process_resident_memory_bytes{{{mine}}}', t)})"
            "\nor on (namespace, pod, container) "
            f"""(({grows('container_memory_working_set_bytes{container=~"router|worker"}', t)})"""
            f" and on (namespace, pod, container) up{{{mine}}})",
            "A process's memory grows",
            "{{ with $labels.pod }}{{ . }}{{ else }}{{ $labels.instance }}{{ end }} grew by more than a tenth and 32 MiB in"
            " the last six hours, and as much in the six before.",
        ),
        Alert(
            "PhiLogLinesDropped",
            "warning",
            0,
            f"sum by (job, instance) (increase(phi_log_dropped_total[{t(5 * MINUTE)}])) > 0",
            "Log lines are lost",
            "Nothing reads standard error of {{ $labels.instance }}: {{ $value | humanize }} lines were dropped.",
        ),
        Alert(
            "PhiTargetDown",
            "warning",
            5 * MINUTE,
            f"up{{{mine}}} == 0\nor absent(up{{{mine}}})",
            "A metrics port does not answer, or Prometheus knows none",
            "Prometheus cannot scrape {{ $labels.instance }} of {{ $labels.job }} (no names: it has no target of phi-serve at all).",
        ),
        Alert(
            "PhiVersionSkew",
            "warning",
            30 * MINUTE,
            "count by (job, program) (count by (job, program, version) (phi_build_info)) > 1",
            "Two versions run side by side",
            "{{ $value }} versions of {{ $labels.program }} ({{ $labels.job }}) have run together for longer than a rollout takes.",
        ),
        Alert(
            "PhiCertificateExpiry",
            "warning",
            HOUR,
            f"(phi_tls_certificate_expiry_timestamp_seconds > 0) - time() < {14 * DAY * t.scale:g}",
            "A TLS certificate ends soon, or has ended",
            "The certificate of {{ $labels.instance }} {{ if lt $value 0.0 }}has expired"
            "{{ else }}ends in {{ $value | humanizeDuration }}{{ end }}.",
        ),
    ]


def alerts(t: Times) -> list[Alert]:
    return slo_alerts() + replica_alerts(t) + hardware_alerts(t) + load_alerts(t) + process_alerts(t)


def rules(time_scale: float = 1.0) -> dict:
    t = Times(time_scale)
    return {
        "groups": [
            {"name": "phi-serve.recording", "rules": [record.rule(t) for record in recordings(t)]},
            {"name": "phi-serve.slo", "rules": [alert.rule(t) for alert in slo_alerts()]},
            {"name": "phi-serve.replicas", "rules": [alert.rule(t) for alert in replica_alerts(t) + hardware_alerts(t)]},
            {"name": "phi-serve.load", "rules": [alert.rule(t) for alert in load_alerts(t)]},
            {"name": "phi-serve.processes", "rules": [alert.rule(t) for alert in process_alerts(t)]},
        ]
    }


def to_yaml(content: dict) -> str:
    header = "# Generated by deploy/prometheus/rules.py, which is where to change it.\n"
    return header + yaml.safe_dump(content, sort_keys=False, width=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", default=str(OUTPUT), help="file to write, or - for standard output")
    parser.add_argument("--time_scale", type=float, default=1.0, help="factor on every window and `for`")
    arguments = parser.parse_args()
    text = to_yaml(rules(arguments.time_scale))
    if arguments.output == "-":
        sys.stdout.write(text)
    else:
        pathlib.Path(arguments.output).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
