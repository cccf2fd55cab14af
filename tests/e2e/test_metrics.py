"""/metrics of the running programs: well-formed, of the catalogue, bounded, and telling what happened."""

import re
import shutil
import subprocess

import pytest
from phi_client import ROOT, finish_name, join
from phi_programs import NANO, Replica, wait_until

PROMPT = "def secret_function_name(n):\n"
MAX_SERIES = 600


@pytest.fixture(scope="module")
def replica():
    with Replica(NANO, 2) as started:
        client = started.client
        for index in range(4):
            join(client.stream(PROMPT, request_id=f"secret-id-{index}", max_new_tokens=10, ignore_eos=True))
            client.generate(PROMPT, max_new_tokens=5)
        client.tokenize(PROMPT)
        client.refusal(PROMPT, top_p=9)
        client.refusal(b"\xff")
        yield started


@pytest.fixture(scope="module", params=["router", "worker"])
def text(request, replica):
    status, body = getattr(replica, request.param).http("/metrics")
    assert status == 200
    return body


def catalogue():
    """Names of docs/api.md's table of metrics, which the build writes from the code."""
    table = re.search(r"<!-- begin: metrics -->(.*)<!-- end: metrics -->", (ROOT / "docs/api.md").read_text(), re.S).group(1)
    return set(re.findall(r"^\| `([a-z_0-9]+)` ", table, re.M))


def test_promtool_finds_nothing(text):
    promtool = shutil.which("promtool")
    assert promtool, "tools/setup.sh installs promtool"
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr.strip(), done.stderr + done.stdout


def test_every_metric_is_in_the_catalogue(text):
    exported = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
    assert exported and exported <= catalogue(), exported - catalogue()


def test_series_are_bounded_and_hold_no_secret(text):
    series = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(series) <= MAX_SERIES
    assert "secret" not in text


def value(body, series):
    found = re.search(rf"^{re.escape(series)} (\S+)$", body, re.M)
    assert found, f"{series} is missing"
    return float(found.group(1))


def test_the_router_tells_what_happened(replica):
    body = replica.router.http("/metrics")[1]
    requests = "phi_router_requests_total"
    assert value(body, f'{requests}{{method="GenerateStream",code="OK",reason="none"}}') == 4
    assert value(body, f'{requests}{{method="Generate",code="OK",reason="none"}}') == 4
    assert value(body, f'{requests}{{method="Generate",code="INVALID_ARGUMENT",reason="FIELD_OUT_OF_RANGE"}}') == 1
    assert value(body, f'{requests}{{method="Generate",code="INVALID_ARGUMENT",reason="MALFORMED_REQUEST"}}') == 1
    assert value(body, f'{requests}{{method="Tokenize",code="OK",reason="none"}}') == 1
    assert value(body, 'phi_router_time_to_first_token_seconds_count{method="GenerateStream"}') == 4
    assert value(body, 'phi_router_overhead_seconds_count{method="GenerateStream"}') >= 4
    assert value(body, f'phi_router_replica_state{{replica="{replica.worker.address}",state="ready"}}') == 1
    assert value(body, "phi_router_replicas_expected") == 1
    wait_until(lambda: replica.router.metric("phi_router_inflight_requests") == 0, "none is under way")


def test_the_worker_tells_what_happened(replica):
    body = replica.worker.http("/metrics")[1]
    assert value(body, "phi_generated_tokens_total") >= 4 * 10 + 4
    assert value(body, "phi_prompt_tokens_total") > 0
    assert value(body, "phi_time_to_first_token_seconds_count") == 8
    assert value(body, "phi_queue_seconds_count") == 8
    assert value(body, "phi_inter_token_seconds_count") > 30
    assert value(body, 'phi_request_duration_seconds_count{finish_reason="max_new_tokens"}') >= 4
    assert value(body, 'phi_step_seconds_count{phase="decode"}') > 30
    assert value(body, 'phi_step_seconds_count{phase="prefill"}') >= 8
    for rank in (0, 1):
        assert value(body, f'phi_rank_up{{rank="{rank}"}}') == 1
        assert value(body, f'phi_collective_bytes_total{{rank="{rank}"}}') > 0
        assert value(body, f'phi_device_memory_bytes{{rank="{rank}",kind="weights"}}') > 1e6
        assert value(body, f'phi_rank_last_step_timestamp_seconds{{rank="{rank}"}}') > 1.7e9
    assert value(body, 'phi_collective_seconds_count{kind="all_reduce"}') > 0
    assert value(body, "phi_replica_ready") == 1 and value(body, "phi_replica_epoch") == 1
    assert value(body, 'phi_kv_blocks{state="free"}') > 0
    for gauge in ("phi_requests_running", "phi_requests_waiting"):
        wait_until(lambda gauge=gauge: replica.worker.metric(gauge) == 0, "none is under way")


def test_each_way_to_end_is_counted_as_what_it_is(replica):
    client = replica.client
    context = client.model_info().context_tokens
    ends = {
        "context_length": ([1] * (context - 3), {"ignore_eos": True}),
        "stop_condition": (PROMPT, {"max_new_tokens": 60, "ignore_eos": True, "stop_conditions": [1]}),
        "stop_string": (PROMPT, {"max_new_tokens": 60, "ignore_eos": True, "stop": ["\n"]}),
    }
    for reason, (prompt, parameters) in ends.items():
        series = f'phi_request_duration_seconds_count{{finish_reason="{reason}"}}'
        before = replica.worker.metric(series) or 0
        answer = client.generate(prompt, **parameters).completions[0]
        assert finish_name(answer.finish).lower() == reason
        wait_until(lambda series=series, before=before: replica.worker.metric(series) == before + 1, f"{reason} is counted")


def test_every_program_tells_of_itself(text):
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "phi_log_dropped_total"):
        value(text, name)
    assert re.search(r'^phi_build_info\{program="phi-(router|worker)",version="0\.1\.0".*\} 1$', text, re.M)


def test_one_log_line_a_call_without_its_text(replica):
    entries = [entry for entry in replica.router.log_entries() if "secret-id-2" in map(str, entry.values())]
    assert len(entries) == 1, entries
    assert entries[0]["level"] == "info"
    for server in (replica.router, replica.worker):
        assert "secret_function_name" not in server.log()
