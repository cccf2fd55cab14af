"""The Prometheus rules by promtool: every alert has a case in which it fires and one in which it is silent."""

import subprocess

import pytest
import yaml

from sources import ROOT, rules

RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
ROUTER = 'job="phi-router",instance="router-0"'
WORKER = 'job="phi-worker",instance="worker-0"'
OK_CALLS = f'phi_router_requests_total{{{ROUTER},method="Generate",code="OK",reason="none"}}'
LOST_CALLS = f'phi_router_requests_total{{{ROUTER},method="Generate",code="UNAVAILABLE",reason="REPLICA_LOST"}}'
BAD_CALLS = f'phi_router_requests_total{{{ROUTER},method="Generate",code="INVALID_ARGUMENT",reason="EMPTY_PROMPT"}}'
FIRST_TOKEN = "phi_router_time_to_first_token_seconds"
LONG = "x1200"  # steps: more than any case looks at


def first_tokens(quick: int, all_of_them: int) -> list[tuple[str, str]]:
    return [
        (f'{FIRST_TOKEN}_bucket{{{ROUTER},method="Generate",le="0.5"}}', f"0+{quick}{LONG}"),
        (f'{FIRST_TOKEN}_count{{{ROUTER},method="Generate"}}', f"0+{all_of_them}{LONG}"),
    ]


def ready(count: int, series: str = "x60") -> list[tuple[str, str]]:
    return [(f'phi_router_replica_state{{{ROUTER},replica="r{i}",state="ready"}}', f"1+0{series}") for i in range(count)]


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
    "PhiNoReadyReplica": (
        10,
        [(f'phi_router_replica_state{{{ROUTER},replica="a",state="ready"}}', "0+0x20")],
        ready(1),
    ),
    "PhiReplicasMissing": (
        20,
        ready(1) + [(f"phi_router_replicas_expected{{{ROUTER}}}", "2+0x60")],
        ready(2) + [(f"phi_router_replicas_expected{{{ROUTER}}}", "2+0x60")],
    ),
    "PhiRankDown": (
        5,
        [(f'phi_rank_up{{{WORKER},rank="0"}}', "1+0x10"), (f'phi_rank_up{{{WORKER},rank="1"}}', "0+0x10")],
        [(f'phi_rank_up{{{WORKER},rank="0"}}', "1+0x10"), (f'phi_rank_up{{{WORKER},rank="1"}}', "1+0x10")],
    ),
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
        600,
        [(f"process_resident_memory_bytes{{{ROUTER}}}", "1000000+10000x800")],
        [(f"process_resident_memory_bytes{{{ROUTER}}}", "1000000+10x800")],
    ),
    "PhiLogLinesDropped": (
        8,
        [(f"phi_log_dropped_total{{{ROUTER}}}", "0+0x5 7+0x20")],
        [(f"phi_log_dropped_total{{{ROUTER}}}", "7+0x20")],
    ),
    "PhiTargetDown": (10, [(f"up{{{WORKER}}}", "0+0x20")], [(f"up{{{WORKER}}}", "1+0x20")]),
    "PhiVersionSkew": (
        40,
        [('phi_build_info{program="phi-router",version="1.0.0"}', "1+0x60"), ('phi_build_info{program="phi-router",version="1.1.0"}', "1+0x60")],
        [('phi_build_info{program="phi-router",version="1.0.0"}', "1+0x60"), ('phi_build_info{program="phi-worker",version="1.0.0"}', "1+0x60")],
    ),
    "PhiCertificateExpiry": (
        90,
        [(f"phi_tls_certificate_expiry_timestamp_seconds{{{ROUTER}}}", "864000+0x120")],
        [(f"phi_tls_certificate_expiry_timestamp_seconds{{{ROUTER}}}", "8640000+0x120")],
    ),
}


def promtool(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, timeout=300, check=False)


def test_the_committed_rules_are_the_generated_ones():
    assert rules.OUTPUT.read_text(encoding="utf-8") == rules.to_yaml(rules.rules())


def test_promtool_accepts_the_rules():
    checked = promtool("check", "rules", str(rules.OUTPUT))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_has_a_case_and_a_runbook():
    names = {alert.name for alert in rules.alerts(rules.Times())}
    assert names == set(CASES)
    assert names == {path.stem for path in RUNBOOKS}


def step(minutes: int) -> str:
    """Between two samples; days in steps of a minute take promtool long."""
    return "5m" if minutes > 2000 else "1m"


def promtool_case(alert: str, minutes: int, series: list[tuple[str, str]], fires: bool) -> dict:
    return {
        "interval": step(minutes),
        "input_series": [{"series": name, "values": values} for name, values in series],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
        ],
    }


@pytest.mark.parametrize("alert", sorted(CASES))
@pytest.mark.parametrize("fires", [True, False], ids=["fires", "silent"])
def test_alert(alert, fires, tmp_path):
    minutes, firing, silent = CASES[alert]
    case = promtool_case(alert, minutes, firing if fires else silent, fires)
    content = {"rule_files": [str(rules.OUTPUT)], "evaluation_interval": step(minutes), "tests": [case]}
    file = tmp_path / "case.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    tested = promtool("test", "rules", str(file))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_no_target_at_all_is_a_target_down(tmp_path):
    case = promtool_case("PhiTargetDown", 10, [('up{job="another",instance="x"}', "1+0x20")], True)
    file = tmp_path / "case.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rules.OUTPUT)], "evaluation_interval": "1m", "tests": [case]}), encoding="utf-8")
    tested = promtool("test", "rules", str(file))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_runbooks_expressions_are_promql(tmp_path):
    lines = [line for path in RUNBOOKS for line in path.read_text(encoding="utf-8").splitlines() if "# in Prometheus" in line]
    assert len(lines) > 20
    recorded = [{"record": f"runbooks:{number}", "expr": line.split("#")[0].strip()} for number, line in enumerate(lines)]
    file = tmp_path / "runbooks.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": recorded}]}), encoding="utf-8")
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr


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
