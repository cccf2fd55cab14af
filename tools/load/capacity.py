#!/usr/bin/python3
"""How much a replica serves within an SLO, and what is left of that when three times as much is asked of it.

    ninja -C build/release && tools/load/capacity.py

1. Closed loop: as many answers a second as there can be, whatever their latency (saturation).
2. Open loop at shares of it: the peak of goodput, that is of answers within the SLO.
3. Open loop at `--overload` times saturation: goodput against the peak, how soon what cannot be served is refused, and memory.
   The last two are repeated in turns, and medians compared, because other work on the machine changes its speed.
"""

import argparse
import statistics

from serving import Footprint, add_arguments, bench, megabytes, processes, start

SHARES = (0.6, 0.75, 0.9, 1.0)
REFUSALS = ("RESOURCE_EXHAUSTED", "UNAVAILABLE")


def refusal_times(report):
    """(count, median, p99 in ms) over the reasons of refusal; the slowest reason's percentiles."""
    refused = [failure for failure in report["failures"] if failure["code"] in REFUSALS]
    if not refused:
        return 0, 0.0, 0.0
    slowest = max(refused, key=lambda failure: failure["count"])
    return sum(f["count"] for f in refused), slowest["time"]["p50_ms"], slowest["time"]["p99_ms"]


def show(what, report):
    count, median, p99 = refusal_times(report)
    others = [f"{f['count']} {f['code']} {f['reason']}" for f in report["failures"] if f["code"] not in REFUSALS]
    print(
        f"{what:<22} {report['answered_per_second']:7.1f} answered/s  {report['goodput']['per_second']:7.1f} good/s  "
        f"{report['tokens_per_second']:8.0f} tokens/s  ttft p50 {report['first_token']['p50_ms']:7.1f} p99 {report['first_token']['p99_ms']:8.1f} ms"
        + (f"  {count} refused in p50 {median:.2f} p99 {p99:.2f} ms" if count else "")
        + (f"  sent late p99 {report['send_delay']['p99_ms']:.1f} ms" if report["send_delay"]["p99_ms"] >= 1 else "")
        + (f"  others: {', '.join(others)}" if others else "")
        + (f"  CLIENT SATURATED {report['requests']['client_saturated']}" if report["requests"]["client_saturated"] else ""),
        flush=True,
    )


def run(arguments, replica):
    load = ("--prompt", arguments.prompt, "--output", arguments.output, "--slo", arguments.slo, "--timeout", arguments.timeout)
    timed = (*load, "--duration", f"{arguments.seconds}s", "--warm-up", "3s", "--max-inflight", 2000)
    address = replica.router.address
    saturated = bench(address, *load, "--concurrency", 2 * arguments.sequences, "--duration", f"{arguments.seconds}s", "--warm-up", "2s")
    show("saturation", saturated)
    capacity = saturated["answered_per_second"]
    goodput = {}
    for share in SHARES:
        report = bench(address, *timed, "--rate", share * capacity)
        show(f"{share:.2f} x = {share * capacity:.1f}/s", report)
        goodput[share] = report["goodput"]["per_second"]
    best = max(goodput, key=goodput.get)
    before = Footprint(processes(replica))
    peaks, overloads, refused = [], [], []
    for seed in range(2, 2 + arguments.rounds):
        report = bench(address, *timed, "--rate", best * capacity, "--seed", seed)
        show(f"{best:.2f} x again", report)
        peaks.append(report["goodput"]["per_second"])
        report = bench(address, *timed, "--rate", arguments.overload * capacity, "--seed", seed)
        show(f"{arguments.overload:.2f} x", report)
        overloads.append(report["goodput"]["per_second"])
        refused.append(refusal_times(report))
    after = Footprint(processes(replica))
    peak, overload = statistics.median(peaks), statistics.median(overloads)
    print(f"goodput at {arguments.overload:g} x saturation: {overload:.1f}/s of {peak:.1f}/s at its peak: {100 * overload / peak:.0f}% (wanted: 90%)")
    print(
        f"refusals: median {statistics.median(r[1] for r in refused):.2f} ms (wanted: 5 ms), p99 {statistics.median(r[2] for r in refused):.2f} ms, "
        f"{sum(r[0] for r in refused)} of them"
    )
    for name, resident in after.resident_bytes.items():
        print(f"resident memory of {name}: {megabytes(before.resident_bytes.get(name, 0))} before, {megabytes(resident)} after")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--slo", default="ttft=2s,itl=200ms")
    parser.add_argument("--timeout", default="30s", help="each caller's deadline")
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--sequences", type=int, default=16, help="the worker's --max_sequences")
    parser.add_argument("--overload", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="of peak and overload in turns")
    arguments = parser.parse_args()
    arguments.worker_flags += f" --max_sequences={arguments.sequences}"
    with start(arguments) as replica:
        run(arguments, replica)


if __name__ == "__main__":
    main()
