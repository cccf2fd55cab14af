"""--device: what a machine without a GPU says, and ranks that do not find each other."""

import os
import pathlib
import subprocess

import pytest
from phi_programs import BIN, NANO, PATIENCE, Worker

USAGE, RENDEZVOUS_FAILED = 64, 75
LOCAL = ("--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0")

without_gpu = pytest.mark.skipif(pathlib.Path("/dev/nvidiactl").exists(), reason="there is a GPU")
with_failpoints = pytest.mark.skipif(os.environ.get("PHI_BUILD_FAILPOINTS") != "ON", reason="no failpoints in this build")


def ended(*flags, program="phi-worker", **environment):
    """The exit code and the lines of a worker that does not start."""
    command = [str(BIN / program), f"--model={NANO}", *LOCAL, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env={**os.environ, **environment})
    return done.returncode, done.stderr.splitlines()


@without_gpu
def test_auto_takes_the_cpu_and_says_why(started):
    worker = started(Worker(NANO, 1, "--device=auto"))
    worker.wait_ready()
    notes = [entry["message"] for entry in worker.log_entries() if "--device=auto takes the CPU" in entry["message"]]
    assert len(notes) == 1 and ("no CUDA backend" in notes[0] or "no NVIDIA driver" in notes[0]), notes
    plan = next(entry for entry in worker.log_entries() if entry["message"] == "plan")
    assert plan["device"] == "cpu"
    assert 'device="cpu"' in worker.http("/metrics")[1]


@without_gpu
def test_cuda_without_a_gpu_is_one_clear_line():
    code, lines = ended("--device=cuda")
    assert code == USAGE and len(lines) == 1, lines
    assert "--device=cuda: " in lines[0] and ("no CUDA backend" in lines[0] or "no NVIDIA driver" in lines[0]), lines


@pytest.mark.parametrize("flags", [("--device=cpu", "--dtype=float16")])
def test_what_a_device_does_not_compute_is_refused(flags):
    code, lines = ended(*flags)
    assert code == USAGE and len(lines) == 1 and "--dtype=float16" in lines[0], lines


@with_failpoints
def test_ranks_that_do_not_find_each_other_are_named():
    # Rank 1 comes long after the limit, 12 times the stall limit; rank 0 waits for it.
    flags = ("--tensor_parallel=2", "--stall_limit=1s", "--max_restarts=0", "--device=cpu")
    code, lines = ended(*flags, PHI_FAILPOINTS="rank1.before_connect=sleep:600000")
    assert code == RENDEZVOUS_FAILED, lines
    assert any("did not find each other" in line and "never came: 1" in line for line in lines), lines
