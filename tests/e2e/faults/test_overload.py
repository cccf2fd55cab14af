"""More work than can be done, for seconds; tools/load/capacity.py measures the same for longer."""

import concurrent.futures
import json
import subprocess
import time

from phi_client import Refusal
from phi_programs import BIN, NANO, PATIENCE, Replica
from quiet import Quiet

QUEUE = 8
LOAD = ("--prompt=uniform:5-40", "--output=8", f"--timeout={PATIENCE}s")


def start_bench(replica, *flags):
    command = [BIN / "phictl", "bench", "--address", replica.router.address, "--json=-", *LOAD, *flags]
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def report_of(program):
    out, _ = program.communicate(timeout=3 * PATIENCE)
    assert program.returncode == 0
    return json.loads(out)


def test_row64_three_times_the_capacity_is_refused_early_and_the_rest_served(figure):
    flags = (f"--max_queued_requests={QUEUE}", "--max_sequences=4")
    with Replica(NANO, 2, *flags) as replica:
        quiet = Quiet(replica)
        most = report_of(start_bench(replica, "--concurrency=6", "--duration=4s", "--warm-up=1s"))
        assert most["requests"]["failed"] == 0
        rate = 3 * most["answered_per_second"]
        load = start_bench(replica, "--rate", rate, "--duration=6s", "--warm-up=1s")
        refusal = None
        waiting = []
        with concurrent.futures.ThreadPoolExecutor(2 * QUEUE) as callers:
            while load.poll() is None:
                waiting.append(replica.worker.metric("phi_requests_waiting"))
                # All at once, because a caller of its own finds room where others leave none.
                refusal = refusal or next(filter(None, callers.map(refusal_now, [replica] * 2 * QUEUE)), None)
                time.sleep(0.25)  # a loop of scrapes would take the cores that the replica is to answer with
        overload = report_of(load)
        refused = {(f["code"], f["reason"]): f for f in overload["failures"]}
        assert set(refused) == {("RESOURCE_EXHAUSTED", "QUEUE_FULL")}, refused
        assert overload["requests"]["answered"] >= 0.5 * most["answered_per_second"] * overload["window_seconds"]
        assert max(waiting) <= QUEUE
        assert refusal is not None and refusal.reason == "QUEUE_FULL" and int(refusal.metadata["grpc-retry-pushback-ms"]) > 0
        quiet.check()
        took = refused["RESOURCE_EXHAUSTED", "QUEUE_FULL"]["time"]
        figure(
            f"row 64: {overload['answered_per_second']:.1f} answers/s at 3 x capacity, {most['answered_per_second']:.1f}/s at most without; "
            f"{took['count']} refused in {took['p50_ms']:.1f} ms (p99 {took['p99_ms']:.1f} ms)"
        )


def refusal_now(replica):
    try:
        replica.client.generate([5] * 5, max_new_tokens=1)
    except Exception as error:  # noqa: BLE001  whatever it is, the test looks at it
        return Refusal(error)
    return None
