"""What the load tools share: the real programs, phictl bench against them, and what /proc says of them."""

import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))

from phi_programs import BIN, Replica  # noqa: E402


def bench_command(address, *flags):
    return [str(BIN / "phictl"), "bench", "--address", address, "--json", "-", *map(str, flags)]


def bench(address, *flags):
    """The JSON report of one load; its progress goes to stderr where that is a terminal."""
    shown = None if sys.stderr.isatty() else subprocess.DEVNULL
    done = subprocess.run(bench_command(address, *flags), stdout=subprocess.PIPE, stderr=shown, text=True, check=False)
    if not done.stdout:
        raise SystemExit(f"phictl bench ended with {done.returncode} and without a report")
    return json.loads(done.stdout)


def start(arguments):
    """A router and a worker, ready, as the command line says; `with start(...) as replica`."""
    return Replica(
        arguments.model,
        arguments.tensor_parallel,
        *arguments.worker_flags.split(),
        dtype=arguments.dtype,
        router_flags=arguments.router_flags.split(),
    )


def add_arguments(parser):
    parser.add_argument("--model", default=ROOT / "deploy/models/phi-nano", help="model directory (default: the embedded one)")
    parser.add_argument("--tensor-parallel", type=int, default=2, help="ranks (default: 2)")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--prompt", default="lognormal:110,0.6", help="tokens of a prompt, as phictl bench takes them")
    parser.add_argument("--output", default="lognormal:50,0.5", help="tokens of an answer")
    parser.add_argument("--worker-flags", default="", help="more flags of phi-worker, in one argument")
    parser.add_argument("--router-flags", default="", help="more flags of phi-router, in one argument")


class Footprint:
    """Memory, file descriptors and threads of processes, by name."""

    def __init__(self, processes):
        self.resident_bytes, self.fds, self.threads = {}, {}, {}
        for name, pid in processes.items():
            try:
                folder = pathlib.Path(f"/proc/{pid}")
                status = (folder / "status").read_text()
                self.fds[name] = len(os.listdir(folder / "fd"))
            except OSError:
                continue  # gone, or started anew meanwhile
            self.resident_bytes[name] = 1024 * int(re.search(r"^VmRSS:\s+(\d+)", status, re.M).group(1))
            self.threads[name] = int(re.search(r"^Threads:\s+(\d+)", status, re.M).group(1))


def processes(replica):
    """Process ids by name: router, supervisor, rank 0, ..."""
    ranks = {f"rank {rank}": pid for rank, pid in sorted(replica.worker.rank_pids().items())}
    return {"router": replica.router.pid, "supervisor": replica.worker.pid, **ranks}


def megabytes(count):
    return f"{count / 1e6:.1f} MB"
