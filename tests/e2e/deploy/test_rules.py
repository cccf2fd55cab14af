"""The Prometheus rules by promtool: every alert has a case in which it fires and one in which it is silent, and more where one is not enough."""

import re

import pytest
import yaml

from promtool import parse, promtool, run_case
from sources import ROOT, rules

RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
ROUTER = 'job="phi-router",instance="router-0"'
WORKER = 'job="phi-worker",instance="worker-0"'
OK_CALLS = f'phi_router_requests_total{{{ROUTER},method="Generate",code="OK",reason="none"}}'
LOST_CALLS = f'phi_router_requests_total{{{ROUTER},method="Generate",code="UNAVAILABLE",reason="REPLICA_LOST"}}'
BAD_CALLS = f'phi_router_requests_total{{{ROUTER},method="Generate",code="INVALID_ARGUMENT",reason="EMPTY_PROMPT"}}'
FIRST_TOKEN = "phi_router_time_to_first_token_seconds"
# As the chart's PodMonitors have it: a release's job and pods.
IN_KUBERNETES = 'job="phi-serve/inference/phi-phi-serve-worker",namespace="inference",pod="phi-0",container="worker",instance="10.0.0.1:9090"'
MEGABYTE = 1_000_000
LONG = "x1200"  # steps: more than any case looks at


def first_tokens(quick: int, all_of_them: int) -> list[tuple[str, str]]:
    return [
        (f'{FIRST_TOKEN}_bucket{{{ROUTER},method="Generate",le="0.5"}}', f"0+{quick}{LONG}"),
        (f'{FIRST_TOKEN}_count{{{ROUTER},method="Generate"}}', f"0+{all_of_them}{LONG}"),
    ]


def router(states: list[str], expected: int, labels: str = ROUTER) -> list[tuple[str, str]]:
    """What a router exports of its replicas: a series for the state that each is in, none for the others."""
    replicas = [(f'phi_router_replica_state{{{labels},replica="r{i}",state="{state}"}}', "1+0x60") for i, state in enumerate(states)]
    return [*replicas, (f"phi_router_inflight_requests{{{labels}}}", "3+0x60"), (f"phi_router_replicas_expected{{{labels}}}", f"{expected}+0x60")]


def build_info(program: str, version: str, job: str = "phi-serve/a/phi-serve-router") -> str:
    return f'phi_build_info{{job="{job}",instance="{version}",program="{program}",version="{version}"}}'


def calls(code: str, reason: str) -> str:
    return f'phi_router_requests_total{{{ROUTER},method="Generate",code="{code}",reason="{reason}"}}'


def deployment(available: int, asked: int, name: str = "phi-phi-serve-worker") -> list[tuple[str, str]]:
    labels = f'{{job="kube-state-metrics",namespace="inference",deployment="{name}"}}'
    return [(f"kube_deployment_status_replicas_available{labels}", f"{available}+0x60"), (f"kube_deployment_spec_replicas{labels}", f"{asked}+0x60")]


def slow_tokens(below: int, count: int) -> list[tuple[str, str]]:
    """A day of quick tokens, then half an hour of others: `below` of `count` a minute are within 10 ms."""
    name = "phi_inter_token_seconds_bucket"
    return [
        (f'{name}{{{WORKER},le="0.01"}}', f"0+100x1440 144000+{below}x40"),
        (f'{name}{{{WORKER},le="1"}}', f"0+100x1440 144000+{count}x40"),
        (f'{name}{{{WORKER},le="+Inf"}}', f"0+100x1440 144000+{count}x40"),
    ]


# alert: (evaluated after this many minutes, series with which it fires, series with which it is silent)
CASES = {
    "PhiErrorBudgetBurnFast": (
        90,
        [(OK_CALLS, "0+90x120"), (LOST_CALLS, "0+10x120")],
        [(OK_CALLS, "0+90x120"), (BAD_CALLS, "0+10x120"), (LOST_CALLS, "0+0x120")],
    ),
    "PhiErrorBudgetBurnSlow": (
        5000,
        [(OK_CALLS, f"0+500{LONG}"), (LOST_CALLS, f"0+1{LONG}")],
        [(OK_CALLS, f"0+5000{LONG}"), (LOST_CALLS, f"0+1{LONG}")],
    ),
    "PhiFirstTokenBudgetBurn": (90, first_tokens(50, 100), first_tokens(100, 100)),
    "PhiNoReadyReplica": (10, router(["connecting"], 1), router(["ready"], 1)),
    "PhiReplicasMissing": (20, router(["ready", "refused"], 2), router(["ready", "ready"], 2)),
    # Started again after ten minutes: for some scrapes there is no sample, and a crash loop leaves minutes without.
    "PhiReplicaNotReady": (
        20,
        [(f"phi_replica_ready{{{WORKER}}}", "0+0x5 _x4 0 _x5 0+0x10")],
        [(f"phi_replica_ready{{{WORKER}}}", "0+0x13 1+0x20")],
    ),
    "PhiRouterAbsent": (10, [(f"up{{{WORKER}}}", "1+0x20")], [(f"up{{{WORKER}}}", "1+0x20"), (f"up{{{ROUTER}}}", "1+0x20")]),
    "PhiWorkerAbsent": (10, [(f"up{{{ROUTER}}}", "1+0x20")], [(f"up{{{WORKER}}}", "1+0x20"), (f"up{{{ROUTER}}}", "1+0x20")]),
    "PhiEngineStalled": (
        10,
        [(f'phi_rank_last_step_timestamp_seconds{{{WORKER},rank="0"}}', "0+0x20"), (f"phi_replica_ready{{{WORKER}}}", "1+0x20")],
        [(f'phi_rank_last_step_timestamp_seconds{{{WORKER},rank="0"}}', "0+60x20"), (f"phi_replica_ready{{{WORKER}}}", "1+0x20")],
    ),
    "PhiReplicaRestarting": (
        15,
        [(f'phi_replica_restarts_total{{{WORKER},cause="rank_signal"}}', "0+1x20")],
        [(f'phi_replica_restarts_total{{{WORKER},cause="rank_signal"}}', "0+0x5 1+0x20")],
    ),
    "PhiReplicaRestarted": (
        10,
        [(f'phi_replica_restarts_total{{{WORKER},cause="stall"}}', "0+0x5 1+0x20")],
        [(f'phi_replica_restarts_total{{{WORKER},cause="stall"}}', "3+0x20")],
    ),
    "PhiCollectiveErrors": (
        8,
        [(f"phi_collective_errors_total{{{WORKER}}}", "0+0x5 1+0x20")],
        [(f"phi_collective_errors_total{{{WORKER}}}", "1+0x20")],
    ),
    "PhiGpuXidErrors": (
        8,
        [('DCGM_FI_DEV_XID_ERRORS{instance="node",gpu="0"}', "0+0x5 79+0x20")],
        [('DCGM_FI_DEV_XID_ERRORS{instance="node",gpu="0"}', "0+0x20")],
    ),
    "PhiQueueFull": (
        15,
        [(f'phi_router_shed_total{{{ROUTER},reason="QUEUE_FULL"}}', "0+5x20")],
        [(f'phi_router_shed_total{{{ROUTER},reason="CALLER_LIMIT"}}', "0+5x20")],
    ),
    "PhiKvCachePressure": (
        20,
        [(f"phi_kv_usage_ratio{{{WORKER}}}", "1+0x30"), (f"phi_preemptions_total{{{WORKER}}}", "0+2x30")],
        [(f"phi_kv_usage_ratio{{{WORKER}}}", "1+0x30"), (f"phi_preemptions_total{{{WORKER}}}", "7+0x30")],
    ),
    "PhiInterTokenSlow": (1470, slow_tokens(0, 1), slow_tokens(100, 100)),
    "PhiSlowReaders": (
        8,
        [(f'phi_router_slow_readers_total{{{ROUTER},reason="stalled"}}', "0+0x5 1+0x20")],
        [(f'phi_router_slow_readers_total{{{ROUTER},reason="stalled"}}', "0+0x20")],
    ),
    "PhiCancelStorm": (
        20,
        [(f'phi_cancelled_total{{{WORKER},stage="decode"}}', "0+60x30"), (f"phi_time_to_first_token_seconds_count{{{WORKER}}}", "0+60x30")],
        [(f'phi_cancelled_total{{{WORKER},stage="decode"}}', "0+6x30"), (f"phi_time_to_first_token_seconds_count{{{WORKER}}}", "0+60x30")],
    ),
    "PhiFileDescriptorsLow": (
        5,
        [(f"process_open_fds{{{ROUTER}}}", "900+0x10"), (f"process_max_fds{{{ROUTER}}}", "1024+0x10")],
        [(f"process_open_fds{{{ROUTER}}}", "90+0x10"), (f"process_max_fds{{{ROUTER}}}", "1024+0x10")],
    ),
    "PhiMemoryGrowth": (
        1200,
        [(f"process_resident_memory_bytes{{{ROUTER}}}", f"{60 * MEGABYTE}+{MEGABYTE // 2}x1200")],
        [(f"process_resident_memory_bytes{{{ROUTER}}}", f"{60 * MEGABYTE}+{MEGABYTE // 50}x1200")],
    ),
    "PhiLogLinesDropped": (
        8,
        [(f"phi_log_dropped_total{{{ROUTER}}}", "0+0x5 7+0x20")],
        [(f"phi_log_dropped_total{{{ROUTER}}}", "7+0x20")],
    ),
    "PhiTargetDown": (10, [(f"up{{{WORKER}}}", "0+0x20")], [(f"up{{{WORKER}}}", "1+0x20")]),
    "PhiVersionSkew": (
        40,
        [(build_info("phi-router", "1.0.0"), "1+0x60"), (build_info("phi-router", "1.1.0"), "1+0x60")],
        [(build_info("phi-router", "1.0.0"), "1+0x60"), (build_info("phi-router", "1.1.0", "phi-serve/b/phi-serve-router"), "1+0x60")],
    ),
    "PhiCertificateExpiry": (
        90,
        [(f"phi_tls_certificate_expiry_timestamp_seconds{{{ROUTER}}}", "864000+0x120")],
        [(f"phi_tls_certificate_expiry_timestamp_seconds{{{ROUTER}}}", "8640000+0x120")],
    ),
}


def up(job: str, value: int = 1) -> tuple[str, str]:
    return (f'up{{job="{job}",instance="{job}"}}', f"{value}+0x60")


RSS = f"process_resident_memory_bytes{{{ROUTER}}}"
WORKING_SET = 'container_memory_working_set_bytes{namespace="inference",pod="phi-0",container="worker"}'
XID = "DCGM_FI_DEV_XID_ERRORS"
A_WORKER_OF_OURS = (f"up{{{IN_KUBERNETES}}}", "1+0x1300")
EXPIRY = f"phi_tls_certificate_expiry_timestamp_seconds{{{ROUTER}}}"

BLIND_ROUTER = router(["connecting", "lost"], 2, ROUTER.replace("-0", "-1"))

# What else: (alert, what is tried): (minutes, seconds between samples, series, whether it fires)
MORE = {
    ("PhiReplicaNotReady", "a start within its budget"): (30, 60, [(f"phi_replica_ready{{{WORKER}}}", "0+0x14 1+0x30")], False),
    ("PhiReplicaNotReady", "a rank lost, and back in seconds"): (30, 15, [(f"phi_replica_ready{{{WORKER}}}", "1+0x60 0 1+0x90")], False),
    ("PhiNoReadyReplica", "two blind routers"): (10, 60, [*router(["lost", "lost"], 2), *BLIND_ROUTER], True),
    ("PhiNoReadyReplica", "one blind router of two"): (10, 60, [*router(["ready", "ready"], 2), *BLIND_ROUTER], False),
    ("PhiNoReadyReplica", "no replica by name"): (10, 60, router([], 0), True),
    ("PhiNoReadyReplica", "a name that nobody knows"): (10, 60, router([], 0)[:1], True),
    ("PhiReplicasMissing", "one blind router of two"): (20, 60, [*router(["ready", "ready"], 2), *BLIND_ROUTER], True),
    ("PhiReplicasMissing", "a router that finds no replica by name"): (20, 60, [*router(["ready"], 1), *router([], 0, ROUTER.replace("-0", "-1"))], True),
    ("PhiReplicasMissing", "a pod that stays pending"): (20, 60, [A_WORKER_OF_OURS, *deployment(1, 2), *router(["ready"], 1)], True),
    ("PhiReplicasMissing", "all pods available"): (20, 60, [A_WORKER_OF_OURS, *deployment(2, 2)], False),
    ("PhiReplicasMissing", "somebody else's Deployment"): (20, 60, [A_WORKER_OF_OURS, *deployment(1, 2, "delphi-worker")], False),
    ("PhiRouterAbsent", "it runs and does not answer"): (10, 60, [up("phi-router", 0), up("phi-worker")], True),
    ("PhiRouterAbsent", "of one release of two"): (10, 60, [up("phi-serve/a/x-router"), up("phi-serve/a/x-worker"), up("phi-serve/b/x-worker")], True),
    ("PhiRouterAbsent", "two whole releases"): (10, 60, [up(f"phi-serve/{ns}/x-{kind}") for ns in "ab" for kind in ("router", "worker")], False),
    ("PhiWorkerAbsent", "of one release of two"): (10, 60, [up("phi-serve/a/x-router"), up("phi-serve/a/x-worker"), up("phi-serve/b/x-router")], True),
    ("PhiWorkerAbsent", "nothing at all"): (10, 60, [up("another")], True),
    ("PhiCertificateExpiry", "expired"): (180, 60, [(EXPIRY, "600+0x200")], True),
    ("PhiCertificateExpiry", "no TLS"): (180, 60, [(EXPIRY, "0+0x200")], False),
    ("PhiMemoryGrowth", "20 MB to 60 MB in the first two minutes"): (900, 60, [(RSS, f"{20 * MEGABYTE}+{20 * MEGABYTE}x2 {60 * MEGABYTE}+0x1000")], False),
    ("PhiMemoryGrowth", "two small steps"): (900, 60, [(RSS, f"{40 * MEGABYTE}+0x300 {50 * MEGABYTE}+0x400 {60 * MEGABYTE}+0x400")], False),
    ("PhiMemoryGrowth", "a container's"): (1200, 60, [A_WORKER_OF_OURS, (WORKING_SET, f"{1000 * MEGABYTE}+{MEGABYTE}x1300")], True),
    ("PhiMemoryGrowth", "somebody else's container"): (1200, 60, [(f"up{{{WORKER}}}", "1+0x1300"), (WORKING_SET, f"{1000 * MEGABYTE}+{MEGABYTE}x1300")], False),
    ("PhiErrorBudgetBurnFast", "one call of five an hour"): (90, 60, [(OK_CALLS, "0+0x20 1+0x20 2+0x20 3+0x60"), (LOST_CALLS, "0+0x86 1+0x40")], False),
    ("PhiErrorBudgetBurnFast", "deadlines passed in the queue"): (90, 60, [(OK_CALLS, "0+90x120"), (calls("DEADLINE_EXCEEDED", "DEADLINE_IN_QUEUE"), "0+10x120")], True),
    ("PhiErrorBudgetBurnFast", "deadlines passed in an answer"): (90, 60, [(OK_CALLS, "0+90x120"), (calls("DEADLINE_EXCEEDED", "none"), "0+10x120")], False),
    ("PhiVersionSkew", "two pods of one version"): (40, 60, [(build_info("phi-router", "1.0.0"), "1+0x60"), (build_info("phi-router", "1.0.0").replace("instance=", "pod="), "1+0x60")], False),
    ("PhiEngineStalled", "what the default stall limit allows"): (10, 60, [(f'phi_rank_last_step_timestamp_seconds{{{WORKER},rank="0"}}', "-15+60x20"), (f"phi_replica_ready{{{WORKER}}}", "1+0x20")], False),
    ("PhiKvCachePressure", "one scrape of four just below"): (20, 15, [(f"phi_kv_usage_ratio{{{WORKER}}}", " ".join(["1 1 1 0.94"] * 30)), (f"phi_preemptions_total{{{WORKER}}}", "0+2x120")], True),
    ("PhiKvCachePressure", "preemptions, and room"): (20, 15, [(f"phi_kv_usage_ratio{{{WORKER}}}", "0.9+0x120"), (f"phi_preemptions_total{{{WORKER}}}", "0+2x120")], False),
    ("PhiGpuXidErrors", "of a worker's pod"): (8, 60, [A_WORKER_OF_OURS, (f'{XID}{{instance="node",gpu="0",namespace="inference",pod="phi-0"}}', "0+0x5 79+0x20")], True),
    ("PhiGpuXidErrors", "of a worker's pod, by an exporter with a pod of its own"): (
        8,
        60,
        [A_WORKER_OF_OURS, (f'{XID}{{instance="node",gpu="0",namespace="gpu",pod="dcgm-1",exported_namespace="inference",exported_pod="phi-0"}}', "0+0x5 79+0x20")],
        True,
    ),
    ("PhiGpuXidErrors", "of somebody else's pod"): (8, 60, [A_WORKER_OF_OURS, (f'{XID}{{instance="node",gpu="0",namespace="games",pod="doom-0"}}', "0+0x5 79+0x20")], False),
    ("PhiTargetDown", "no target at all"): (10, 60, [up("another")], True),
    ("PhiTargetDown", "somebody else's"): (10, 60, [up("delphi-worker", 0), up("phi-worker")], False),
}

# What the one who is woken reads: the alert's labels and its description in full.
RENDERED = {
    ("PhiErrorBudgetBurnFast", None): ({"job": "phi-router"}, "10% of the Generate calls of phi-router fail by the service's fault."),
    ("PhiRouterAbsent", None): ({"release": "phi"}, "No router of phi answers Prometheus: callers reach nothing."),
    ("PhiRouterAbsent", "of one release of two"): ({"release": "phi-serve/b/x"}, "No router of phi-serve/b/x answers Prometheus: callers reach nothing."),
    ("PhiWorkerAbsent", "nothing at all"): ({}, "No worker answers Prometheus: no call can be answered."),
    ("PhiReplicasMissing", None): ({"job": "phi-router", "instance": "router-0"}, "router-0 has 1 ready replicas, fewer than it asks for."),
    ("PhiReplicasMissing", "one blind router of two"): ({"job": "phi-router", "instance": "router-1"}, "router-1 has 0 ready replicas, fewer than it asks for."),
    ("PhiReplicasMissing", "a pod that stays pending"): (
        {"namespace": "inference", "deployment": "phi-phi-serve-worker"},
        "Deployment phi-phi-serve-worker has 1 ready replicas, fewer than it asks for.",
    ),
    ("PhiReplicaNotReady", None): ({"job": "phi-worker", "instance": "worker-0"}, "worker-0 has not been ready for longer than a start may take."),
    ("PhiGpuXidErrors", "of a worker's pod"): ({"instance": "node", "gpu": "0", "namespace": "inference", "pod": "phi-0"}, "GPU 0 of node, which phi-0 uses, reported an XID error."),
    ("PhiMemoryGrowth", "a container's"): (
        {"namespace": "inference", "pod": "phi-0", "container": "worker"},
        "phi-0 grew by more than a tenth and 32 MiB in the last six hours, and as much in the six before.",
    ),
    ("PhiVersionSkew", None): (
        {"job": "phi-serve/a/phi-serve-router", "program": "phi-router"},
        "2 versions of phi-router (phi-serve/a/phi-serve-router) have run together for longer than a rollout takes.",
    ),
    ("PhiCertificateExpiry", None): ({"job": "phi-router", "instance": "router-0"}, "The certificate of router-0 ends in 9d 22h 30m 0s."),
    ("PhiCertificateExpiry", "expired"): ({"job": "phi-router", "instance": "router-0"}, "The certificate of router-0 has expired."),
}


def test_the_committed_rules_are_the_generated_ones():
    assert rules.OUTPUT.read_text(encoding="utf-8") == rules.to_yaml(rules.rules())


def test_promtool_accepts_the_rules():
    checked = promtool("check", "rules", str(rules.OUTPUT))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_has_a_case_and_a_runbook():
    names = {alert.name for alert in rules.alerts(rules.Times())}
    assert names == set(CASES)
    assert names == {path.stem for path in RUNBOOKS}


def check_fires(tmp_path, alert: str, minutes: int, seconds: int, series: list[tuple[str, str]], fires: bool) -> None:
    firing = {
        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
        "eval_time": f"{minutes}m",
        "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
    }
    run_case(tmp_path, seconds, series, {"promql_expr_test": [firing]})


def step(minutes: int) -> int:
    """Seconds between two samples; days in steps of a minute take promtool long."""
    return 300 if minutes > 2000 else 60


@pytest.mark.parametrize("alert", sorted(CASES))
@pytest.mark.parametrize("fires", [True, False], ids=["fires", "silent"])
def test_alert(alert, fires, tmp_path):
    minutes, firing, silent = CASES[alert]
    check_fires(tmp_path, alert, minutes, step(minutes), firing if fires else silent, fires)


@pytest.mark.parametrize(("alert", "tried"), MORE)
def test_alert_also(alert, tried, tmp_path):
    check_fires(tmp_path, alert, *MORE[alert, tried])


@pytest.mark.parametrize("later", [0, 18], ids=["one step", "two within two hours"])
def test_a_step_of_memory_is_no_growth(later, tmp_path):
    """At no time of the day: from 100 MB to 600 MB after four hours, and to 1100 MB a little later."""
    values = f"{100 * MEGABYTE}+0x47 {600 * MEGABYTE}+0x{later} {1100 * MEGABYTE}+0x300" if later else f"{100 * MEGABYTE}+0x47 {600 * MEGABYTE}+0x300"
    never = {"expr": 'max_over_time(ALERTS{alertname="PhiMemoryGrowth",alertstate="firing"}[1d])', "eval_time": "1440m", "exp_samples": []}
    run_case(tmp_path, 300, [(RSS, values)], {"promql_expr_test": [never]})


@pytest.mark.parametrize(("alert", "tried"), RENDERED)
def test_what_a_firing_alert_says(alert, tried, tmp_path):
    labels, description = RENDERED[alert, tried]
    if tried is None:
        minutes, series, _ = CASES[alert]
        seconds = step(minutes)
    else:
        minutes, seconds, series, _ = MORE[alert, tried]
    source = next(each for each in rules.alerts(rules.Times()) if each.name == alert)
    annotations = {"summary": source.summary, "description": description, "runbook_url": f"docs/runbooks/{alert}.md"}
    expected = {"exp_labels": {**labels, "severity": source.severity}, "exp_annotations": annotations}
    run_case(tmp_path, seconds, series, {"alert_rule_test": [{"eval_time": f"{minutes}m", "alertname": alert, "exp_alerts": [expected]}]})


def test_every_alert_says_how_bad_and_what():
    for group in rules.rules()["groups"]:
        for rule in (rule for rule in group["rules"] if "alert" in rule):
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert set(rule["annotations"]) == {"summary", "description", "runbook_url"} and all(rule["annotations"].values())
            assert (ROOT / rule["annotations"]["runbook_url"]).is_file()


def test_the_runbooks_expressions_are_promql(tmp_path):
    lines = [line for path in RUNBOOKS for line in path.read_text(encoding="utf-8").splitlines() if "# in Prometheus" in line]
    assert len(lines) > 20
    parse(tmp_path, [line.split("#")[0].strip() for line in lines])


def test_logs_by_label_are_whole():
    """kubectl gives ten lines of each pod where it is not told otherwise."""
    texts = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *(ROOT / "deploy" / "helm").rglob("*.txt"), *(ROOT / "deploy" / "helm").rglob("*.md")]
    commands = [line for path in texts for line in path.read_text(encoding="utf-8").splitlines() if re.search(r"kubectl.* logs .*(-l|--selector)[ =]", line)]
    assert len(commands) > 3
    assert [command for command in commands if "--tail=" not in command] == []


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_has_its_four_parts_and_three_commands(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {path.stem}\n")
    parts = ["**Symptom.**", "**Meaning.**", "**First three commands**", "**What ends it.**"]
    assert [text.count(part) for part in parts] == [1, 1, 1, 1]
    assert sorted(parts, key=text.index) == parts
    assert len(text.split("```")[1].strip().splitlines()) == 3


def test_time_scale_shortens_every_window():
    scaled = yaml.safe_dump(rules.rules(0.01))
    for window in ("[5m]", "[1h]", "[3d]", "[15m]"):
        assert window not in scaled
