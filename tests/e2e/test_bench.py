"""phictl bench against the real programs: what it counts is what happened."""

import json
import os
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree

import pytest
from phi_programs import BIN, NANO, PATIENCE, Replica, free_port, spawn, wait_until


def start_bench(address, *flags):
    command = [BIN / "phictl", "bench", "--address", address, "--timeout", f"{PATIENCE}s", *flags]
    return spawn(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def bench(address, *flags):
    """The JSON report of a load that has to end well."""
    program = start_bench(address, "--json", "-", *flags)
    out, err = program.communicate(timeout=2 * PATIENCE)
    assert program.returncode == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def replica():
    with Replica(NANO, 2, "--stall_limit=60s") as started:  # a rank that a test freezes is no lost one
        yield started


def stream_calls(replica, code="OK", reason="none"):
    series = f'phi_router_requests_total{{method="GenerateStream",code="{code}",reason="{reason}"}}'
    return replica.router.metric(series) or 0


def test_its_counts_are_the_servers(replica, tmp_path):
    calls, tokens = stream_calls(replica), replica.worker.metric("phi_generated_tokens_total") or 0
    prompts = replica.worker.metric("phi_prompt_tokens_total") or 0
    flags = ("--concurrency=4", "--requests=30", "--prompt=uniform:5-20", "--shared-prefix=16", "--output=uniform:3-9")
    report = bench(replica.router.address, *flags, "--plot", tmp_path / "plot.svg")
    assert report["requests"] == {"all": 30, "answered": 30, "failed": 0, "cancelled": 0, "client_saturated": 0}
    assert report["peak_inflight"] <= 4 and report["failures"] == []
    assert stream_calls(replica) == calls + 30
    assert replica.worker.metric("phi_generated_tokens_total") == tokens + report["tokens"]
    assert 30 * 21 <= replica.worker.metric("phi_prompt_tokens_total") - prompts <= 30 * 36
    assert report["first_token"]["count"] == report["total"]["count"] == 30
    assert 0 < report["first_token"]["p50_ms"] <= report["first_token"]["p99_ms"] <= report["total"]["max_ms"]
    picture = ElementTree.parse(tmp_path / "plot.svg").getroot()
    assert picture.tag.endswith("svg") and len(picture.findall(".//{*}path[@class='line']")) >= 6


def test_failures_are_counted_by_code_and_reason():
    with Replica(NANO, 1, router_flags=("--max_inflight_requests=1",)) as replica:
        load = ("--rate=200", "--arrivals=uniform", "--requests=60", "--output=20", "--prompt=10")
        report = bench(replica.router.address, *load)
        failed = {(f["code"], f["reason"]): f["count"] for f in report["failures"]}
        assert set(failed) == {("RESOURCE_EXHAUSTED", "QUEUE_FULL")}
        assert failed["RESOURCE_EXHAUSTED", "QUEUE_FULL"] == report["requests"]["failed"] > 0
        assert report["requests"]["answered"] == 60 - report["requests"]["failed"] > 0
        assert stream_calls(replica, "RESOURCE_EXHAUSTED", "QUEUE_FULL") == report["requests"]["failed"]
        assert stream_calls(replica) == report["requests"]["answered"]


def test_cancelled_requests_are_no_failures(replica):
    report = bench(replica.router.address, "--concurrency=4", "--requests=30", "--prompt=5", "--output=60", "--cancel-share=0.5")
    requests = report["requests"]
    assert requests["cancelled"] > 0 and requests["failed"] == 0 and requests["cancelled"] + requests["answered"] == 30
    wait_until(lambda: replica.worker.metric('phi_kv_blocks{state="owned"}') == 0, "the blocks of the cancelled are free")


def test_a_stalled_rank_shows_in_the_percentiles(replica):
    """No coordinated omission: requests due while nothing is answered are sent, and their wait counts from when they were due."""
    calls = stream_calls(replica)
    program = start_bench(replica.router.address, "--rate=20", "--arrivals=uniform", "--duration=4s", "--prompt=4", "--output=2", "--json=-")
    wait_until(lambda: stream_calls(replica) >= calls + 5, "the load runs")
    rank = replica.worker.rank_pids()[1]
    os.kill(rank, signal.SIGSTOP)
    time.sleep(1)
    os.kill(rank, signal.SIGCONT)
    out, err = program.communicate(timeout=2 * PATIENCE)
    assert program.returncode == 0, err
    report = json.loads(out)
    # As many as planned, although a quarter of them fell into the stall; the luckiest three fifths of those waited 0.4 s.
    assert report["requests"]["all"] == report["requests"]["answered"] == 79
    assert report["first_token"]["p90_ms"] >= 350 and report["first_token"]["max_ms"] >= 900


def test_a_client_at_its_limit_says_so_and_does_not_wait(replica):
    rank = replica.worker.rank_pids()[1]
    os.kill(rank, signal.SIGSTOP)
    try:
        program = start_bench(replica.router.address, "--rate=50", "--arrivals=uniform", "--duration=1s", "--max-inflight=10", "--output=1", "--json=-")
        wait_until(lambda: (replica.router.metric("phi_router_inflight_requests") or 0) >= 10, "ten under way")
        time.sleep(4)  # past the load's end: all of it was due while nothing was answered
    finally:
        os.kill(rank, signal.SIGCONT)
    out, err = program.communicate(timeout=2 * PATIENCE)
    assert program.returncode == 0, err
    report = json.loads(out)
    assert report["requests"]["answered"] == 10 and report["requests"]["client_saturated"] == 39
    assert report["peak_inflight"] == 10


def test_a_trace_is_followed_and_a_wrong_one_named(replica, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("seconds,prompt,output\n0,5,3\n0.1,6,4\n0.5,7,5\n")
    report = bench(replica.router.address, "--trace", trace, "--slo=ttft=60s")
    assert report["requests"]["answered"] == 3 and report["tokens"] == 12 and report["goodput"]["requests"] == 3
    trace.write_text("0,5,3\n1,2\n")
    done = start_bench(replica.router.address, "--trace", trace)
    _, err = done.communicate(timeout=PATIENCE)
    assert done.returncode == 64 and "trace.csv: line 2" in err


def test_an_interrupt_ends_the_load_with_a_report(replica):
    calls = stream_calls(replica)
    program = start_bench(replica.router.address, "--concurrency=2", "--duration=1h", "--output=4")
    wait_until(lambda: stream_calls(replica) >= calls + 3, "the load runs")
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0 and "answered/s" in out and "inter-token" in out, err


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ((), "--rate"),
        (("--rate=5", "--concurrency=2", "--duration=1s"), "--rate"),
        (("--rate=5",), "--duration"),
        (("--rate=5", "--duration=soon"), "--duration"),
        (("--rate=5", "--duration=1s", "--slo=fast"), "ttft="),
        (("--rate=5", "--duration=1s", "--prompt=many"), "length"),
    ],
    ids=str,
)
def test_wrong_flags_end_with_64(flags, word):
    program = start_bench(f"127.0.0.1:{free_port()}", *flags)
    _, err = program.communicate(timeout=PATIENCE)
    assert program.returncode == 64 and word in err and len(err.splitlines()) == 1
