#!/usr/bin/python3
"""What the router costs with many streams at once, on replicas without a model (paced_replica).

    ninja -C build/release && tools/load/router_streams.py

The same load of phictl bench goes to the replicas themselves and through a router, in turns. Processor time and memory are the router
process's own, from /proc; latencies are the caller's, so they hold what the client and the replicas spend on the same cores as well.
"""

import argparse
import os
import statistics
import subprocess
import threading

from serving import BIN, ROOT, Footprint, bench, megabytes

from phi_programs import Router  # noqa: I001

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """(user, system) time that a process has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


def all_tokens(report):
    return sum(interval["tokens"] for interval in report["timeline"]["intervals"])


class PeakMemory(threading.Thread):
    """The most memory that a process has while this runs."""

    def __init__(self, pid):
        super().__init__()
        self.pid, self.bytes, self.over = pid, 0, threading.Event()
        self.start()

    def run(self):
        while not self.over.wait(0.2):
            self.bytes = max(self.bytes, Footprint({"": self.pid}).resident_bytes[""])

    def end(self):
        self.over.set()
        self.join()
        return self.bytes


def run(arguments, router, first_port):
    direct, routed, user, system, resident = [], [], [], [], []
    # Starts spread evenly: from one stream's length on, there are as many at a time as wanted.
    length = arguments.tokens * arguments.pace_ms / 1000
    load = ("--rate", arguments.streams / length, "--arrivals=uniform", "--warm-up", f"{length}s", "--duration", f"{length}s")
    load += ("--prompt=16", "--output", arguments.tokens, "--max-inflight", 2 * arguments.streams)
    at_rest = Footprint({"router": router.pid}).resident_bytes["router"]
    for _ in range(arguments.rounds):
        direct.append(bench(f"127.0.0.1:{first_port}", *load))
        before, peak = cpu_seconds(router.pid), PeakMemory(router.pid)
        routed.append(bench(router.address, *load))
        after = cpu_seconds(router.pid)
        resident.append(peak.end())
        user.append(1e6 * (after[0] - before[0]) / all_tokens(routed[-1]))
        system.append(1e6 * (after[1] - before[1]) / all_tokens(routed[-1]))
    for report in routed:
        assert report["requests"]["failed"] == 0, report["failures"]
    print(
        f"{max(report['peak_inflight'] for report in routed)} streams at a time, of {arguments.tokens} tokens, one every {arguments.pace_ms} ms, on {arguments.replicas} replicas; "
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}; medians of {arguments.rounds} rounds in turns"
    )
    for name in ("first_token", "inter_token", "total"):
        for percentile in ("p50_ms", "p99_ms"):
            there = statistics.median(report[name][percentile] for report in direct)
            through = statistics.median(report[name][percentile] for report in routed)
            print(f"{name:<12} {percentile[:3]}  direct {there:9.2f} ms   by the router {through:9.2f} ms   added {through - there:+8.2f} ms")
    tokens = statistics.median(report["tokens_per_second"] for report in routed)
    print(
        f"router: {statistics.median(map(sum, zip(user, system))):.1f} us of processor time a streamed token "
        f"({statistics.median(system):.1f} of it in the kernel) at {tokens:.0f} tokens/s"
    )
    print(
        f"router: {megabytes(at_rest)} resident at rest, {megabytes(max(resident))} at most: "
        f"{(max(resident) - at_rest) / arguments.streams / 1e3:.1f} kB a stream"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=64, help="of a stream")
    parser.add_argument("--pace-ms", type=float, default=200, help="from token to token of a stream")
    parser.add_argument("--replicas", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    first_port = 20_000 + os.getpid() % 10_000
    command = [BIN / "paced_replica", "--ports", arguments.replicas, "--first-port", first_port, "--pace-us", int(1000 * arguments.pace_ms)]
    replicas = subprocess.Popen([str(word) for word in command])
    router = Router(
        [f"127.0.0.1:{first_port + i}" for i in range(arguments.replicas)],
        f"--max_inflight_requests={2 * arguments.streams}",
        model=ROOT / "deploy/models/phi-nano",
    )
    try:
        router.wait_ready()
        run(arguments, router, first_port)
    finally:
        router.stop()
        replicas.terminate()
        replicas.wait()


if __name__ == "__main__":
    main()
