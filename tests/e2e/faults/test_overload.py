"""More work than can be done, for seconds; tools/load/capacity.py measures the same for longer."""

import concurrent.futures
import contextlib
import hashlib
import json
import signal
import subprocess
import time

import grpc
from certificates import Authority, Folder
from phi_client import Refusal
from phi_programs import BIN, NANO, PATIENCE, Replica, Router, Worker, spawn, wait_until
from quiet import Quiet
from tls_calls import client, tls_flags

QUEUE = 8
POLITE_CALLS = 30
LOAD = ("--prompt=uniform:5-40", "--output=8", f"--timeout={PATIENCE}s")


def start_bench(router, *flags):
    command = [BIN / "phictl", "bench", "--address", router.address, "--json=-", *LOAD, *flags]
    return spawn(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def report_of(program):
    out, _ = program.communicate(timeout=3 * PATIENCE)
    assert program.returncode == 0
    return json.loads(out)


def capacity(router, *flags, seconds):
    """Answers a second at most."""
    report = report_of(start_bench(router, *flags, "--concurrency=6", f"--duration={seconds}s", "--warm-up=1s"))
    assert report["requests"]["failed"] == 0
    return report["answered_per_second"]


def test_row64_three_times_the_capacity_is_refused_early_and_the_rest_served(figure):
    flags = (f"--max_queued_requests={QUEUE}", "--max_sequences=4")
    with Replica(NANO, 2, *flags) as replica:
        quiet = Quiet(replica)
        most = [capacity(replica.router, seconds=4) for _ in range(2)]
        load = start_bench(replica.router, "--rate", 3 * max(most), "--duration=6s", "--warm-up=1s")
        refusal = None
        waiting = []
        with concurrent.futures.ThreadPoolExecutor(2 * QUEUE) as callers:
            while load.poll() is None:
                waiting.append(replica.worker.metric("phi_requests_waiting"))
                # All at once, because a caller of its own finds room where others leave none.
                refusal = refusal or next(filter(None, callers.map(refusal_now, [replica] * 2 * QUEUE)), None)
                time.sleep(0.25)  # a loop of scrapes would take the cores that the replica is to answer with
        overload = report_of(load)
        most.append(capacity(replica.router, seconds=4))  # what others leave of the machine changes meanwhile
        refused = {(f["code"], f["reason"]): f for f in overload["failures"]}
        assert set(refused) == {("RESOURCE_EXHAUSTED", "QUEUE_FULL")}, refused
        assert overload["requests"]["answered"] >= 0.5 * min(most) * overload["window_seconds"]
        assert max(waiting) <= QUEUE
        assert refusal is not None and refusal.reason == "QUEUE_FULL" and int(refusal.metadata["grpc-retry-pushback-ms"]) > 0
        quiet.check()
        took = refused["RESOURCE_EXHAUSTED", "QUEUE_FULL"]["time"]
        figure(
            f"row 64: {overload['answered_per_second']:.1f} answers/s at 3 x capacity, {min(most):.1f} to {max(most):.1f}/s without; "
            f"{took['count']} refused in {took['p50_ms']:.1f} ms (p99 {took['p99_ms']:.1f} ms)"
        )


def refusal_now(replica):
    try:
        replica.client.generate([5] * 5, max_new_tokens=1)
    except Exception as error:  # noqa: BLE001  whatever it is, the test looks at it
        return Refusal(error)
    return None


@contextlib.contextmanager
def two_callers(path, *worker_flags):
    """A router that knows two callers by their tokens: yields it, the PEM of its authority, and a token's file by name."""
    authority, files = Authority("ours"), {}
    certificates = Folder(path / "router").put(authority.issue("router"), authority.pem)
    lines = []
    for name in ("flood", "polite"):
        files[name] = path / name
        files[name].write_text(f"token-of-{name}")
        lines.append(f"{name}:{hashlib.sha256(files[name].read_bytes()).hexdigest()}\n")
    (path / "tokens").write_text("".join(lines))
    worker = Worker(NANO, 1, *worker_flags)
    router = Router([worker.address], *tls_flags(certificates), f"--token_file={path / 'tokens'}")
    try:
        worker.wait_ready()
        router.wait_ready()
        yield router, certificates.ca, files
    finally:
        router.stop()
        worker.stop()


def test_row65_a_flood_leaves_another_caller_its_answers(tmp_path, figure):
    with two_callers(tmp_path, "--max_sequences=4", f"--max_queued_requests={QUEUE}") as (router, ca, files):
        flags = (f"--tls-ca={ca}", f"--token-file={files['flood']}")
        most = capacity(router, *flags, seconds=3)
        load = start_bench(router, *flags, "--rate", 5 * most, "--duration=1h", "--warm-up=1s")
        wait_until(lambda: router.metric('phi_router_shed_total{reason="QUEUE_FULL"}'), "the flood is refused")
        answered, refusals = 0, []
        with client(router.address, ca.read_bytes(), token=files["polite"].read_text()) as polite:
            until = time.monotonic() + 3 * PATIENCE
            while answered + len(refusals) < POLITE_CALLS and time.monotonic() < until:
                try:
                    polite.generate([7] * 20, max_new_tokens=8, timeout=PATIENCE)
                    answered += 1
                except grpc.RpcError as error:
                    refusals.append(Refusal(error))
                time.sleep(0.1)
        load.send_signal(signal.SIGINT)
        flood = report_of(load)
        refused = flood["requests"]["failed"]
        assert refused >= flood["requests"]["answered"], "no flood"
        assert answered + len(refusals) == POLITE_CALLS and len(refusals) <= 0.1 * answered, (answered, refusals)
        figure(f"row 65: {answered} of {answered + len(refusals)} calls beside a flood answered, of the flood's {flood['requests']['answered']} of {flood['requests']['answered'] + refused}")
