#!/usr/bin/python3
"""A replica under load for long: does anything grow, or stay behind?

    ninja -C build/release && tools/load/soak.py --minutes 10

phictl bench loads a router and a worker at `--share` of what a short closed loop finds to be the most, a tenth of the requests cancelled
on the way, while bad requests come beside it and, with `--kill-every`, ranks are killed. Every few seconds it takes each process's
memory, file descriptors and threads from /proc, and at the end what the replica still holds for requests. The memory slope is that of
a line through the samples after the first fifth (least squares, two standard errors).
"""

import argparse
import json
import math
import os
import random
import signal
import subprocess
import threading
import time

from serving import ROOT, Footprint, add_arguments, bench, bench_command, megabytes, processes, start

import grpc  # noqa: I001  (after serving, which finds the tests' modules)
from faults.quiet import under_way
from phi_programs import wait_until

SAMPLE_SECONDS = 5
BAD_REQUESTS = (
    {"prompt": "x", "top_p": 3.0},
    {"prompt": ""},
    {"prompt": [4_000_000_000]},
    {"prompt": [5] * 5000},
    {"prompt": "x", "stop": [""]},
    {"prompt": b"\xff\xff\xff"},
    {"prompt": "x", "model": "another"},
)


def slope(times, values):
    """(slope, its standard error) of the line through three points or more."""
    count = len(times)
    mean_time, mean_value = sum(times) / count, sum(values) / count
    spread = sum((t - mean_time) ** 2 for t in times)
    result = sum((t - mean_time) * (v - mean_value) for t, v in zip(times, values)) / spread
    residual = sum((v - mean_value - result * (t - mean_time)) ** 2 for t, v in zip(times, values))
    return result, math.sqrt(residual / (count - 2) / spread)


class Beside(threading.Thread):
    """Something done again and again until the end."""

    def __init__(self, every, action):
        super().__init__()
        self.every, self.action, self.count, self.over = every, action, 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(self.every):
            self.action()
            self.count += 1

    def end(self):
        self.over.set()
        self.join()


def bad_requests(client):
    draw = random.Random(1)

    def send():
        try:
            client.generate(**draw.choice(BAD_REQUESTS), timeout=30)
            raise SystemExit("a bad request was answered")
        except grpc.RpcError as error:
            assert error.code().name in ("INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "RESOURCE_EXHAUSTED"), error

    return send


def kill_a_rank(replica):
    pids = list(replica.worker.rank_pids().values())
    os.kill(random.choice(pids), signal.SIGKILL)


def load(arguments, replica):
    """(report, samples): the load until it ends, and the footprint meanwhile."""
    flags = ["--prompt", arguments.prompt, "--output", arguments.output, "--timeout", "60s"]
    rate = arguments.rate
    if not rate:
        most = bench(replica.router.address, *flags, "--concurrency", 32, "--duration", "10s", "--warm-up", "2s")
        rate = arguments.share * most["answered_per_second"]
        print(f"a closed loop gets {most['answered_per_second']:.1f} answers/s; loading with {rate:.1f}/s", flush=True)
    flags += ["--rate", f"{rate:.2f}", "--duration", f"{60 * arguments.minutes:.0f}s", "--cancel-share", "0.1", "--max-inflight", "2000"]
    program = subprocess.Popen(bench_command(replica.router.address, *flags), stdout=subprocess.PIPE, text=True)
    beside = [Beside(2, bad_requests(replica.client))]
    if arguments.kill_every:
        beside.append(Beside(arguments.kill_every, lambda: kill_a_rank(replica)))
    samples, start_time = [], time.monotonic()
    while program.poll() is None:
        samples.append((time.monotonic() - start_time, processes(replica), Footprint(processes(replica))))
        try:
            program.wait(SAMPLE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    for activity in beside:
        activity.end()
    print(f"beside the load: {beside[0].count} bad requests" + (f", {beside[1].count} ranks killed" if arguments.kill_every else ""))
    return json.loads(program.stdout.read()), samples


def show_growth(samples, before, after):
    kept = samples[len(samples) // 5 :]
    for name, pid in kept[-1][1].items():
        same = [(at, footprint) for at, pids, footprint in kept if pids.get(name) == pid and name in footprint.resident_bytes]
        if len(same) < 3:
            print(f"{name:<11} was started anew a moment ago")
            continue
        per_second, error = slope([at for at, _ in same], [footprint.resident_bytes[name] for _, footprint in same])
        print(
            f"{name:<11} {megabytes(before.resident_bytes.get(name, 0))} at rest before, {megabytes(after.resident_bytes.get(name, 0))} after; "
            f"under load {3600 * per_second / 1e6:+.2f} +- {2 * 3600 * error / 1e6:.2f} MB/h over {len(same)} samples; "
            f"fds {before.fds.get(name)} -> {after.fds.get(name)}, threads {before.threads.get(name)} -> {after.threads.get(name)}"
        )


def run(arguments, replica):
    bench(replica.router.address, "--concurrency", 16, "--requests", 200, "--prompt", 32, "--output", 8)
    before = Footprint(processes(replica))
    report, samples = load(arguments, replica)
    wait_until(lambda: not any(under_way(replica).values()), "nothing held for requests")
    time.sleep(2)  # gRPC gives connections back a little later
    after = Footprint(processes(replica))
    requests = report["requests"]
    failures = ", ".join(f"{f['count']} {f['code']} {f['reason']}" for f in report["failures"]) or "none"
    print(f"load        {report['load']}")
    print(f"requests    {requests['all']}: {requests['answered']} answered, {requests['cancelled']} cancelled, failures: {failures}")
    print(f"first token p50 {report['first_token']['p50_ms']:.1f} ms, p99 {report['first_token']['p99_ms']:.1f} ms; {report['tokens_per_second']:.0f} tokens/s")
    show_growth(samples, before, after)
    blocks = {state: replica.worker.metric(f'phi_kv_blocks{{state="{state}"}}') for state in ("free", "cached", "owned")}
    print(f"left behind {json.dumps(under_way(replica))}; KV blocks {json.dumps(blocks)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, help="requests a second (default: found out)")
    parser.add_argument("--share", type=float, default=0.7, help="of the most that a closed loop gets")
    parser.add_argument("--kill-every", type=float, metavar="SECONDS", help="kill a rank now and then")
    arguments = parser.parse_args()
    print(f"model {os.path.relpath(arguments.model, ROOT)}, tensor parallel {arguments.tensor_parallel}, load average {os.getloadavg()[0]:.1f}", flush=True)
    with start(arguments) as replica:
        run(arguments, replica)


if __name__ == "__main__":
    main()
