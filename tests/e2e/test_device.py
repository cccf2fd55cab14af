"""--device: a worker on CUDA, executed on the host; what a machine without a GPU says; ranks that do not find each other.

phi-worker-host is phi-worker with tests/cuda_host in the place of the CUDA libraries: nothing here tells of speed or hardware.
"""

import os
import pathlib
import subprocess

import grpc
import pytest
from phi_client import Refusal, join
from phi_programs import BIN, NANO, PATIENCE, Replica, Worker, wait_until
from random_models import make_checkpoint

USAGE, OUT_OF_MEMORY, RENDEZVOUS_FAILED = 64, 71, 75
LOCAL = ("--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0")

without_gpu = pytest.mark.skipif(pathlib.Path("/dev/nvidiactl").exists(), reason="there is a GPU")
HOST = "phi-worker-host"
on_host = pytest.mark.skipif(not (BIN / HOST).exists(), reason="phi-worker-host is not built here")
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


# Kernels as fibers take a thousand times a GPU's time: a small model, small steps, and no hurry.
SMALL = ("--max_sequences=4", "--max_step_tokens=32", "--stall_limit=60s")
PROMPTS = ("def count(n):\n", "for i in range(10):\n    print(i)\n")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("device") / "model", {"preset": "tiny"})


def answers(client):
    """Greedy and drawn tokens with log-probabilities of the prompts."""
    found = []
    for prompt in PROMPTS:
        for parameters in ({}, {"temperature": 1.0, "seed": 7, "top_k": 20}):
            answer = client.generate(prompt, timeout=PATIENCE, max_new_tokens=12, ignore_eos=True, logprobs=2, **parameters)
            found.append(answer.completions[0])
    return found


@pytest.fixture(scope="module")
def cpu_answers(model):
    with Replica(model, 1, "--device=cpu", *SMALL) as replica:
        return answers(replica.client)


@on_host
@pytest.mark.parametrize("batch_invariant", ["false", "true"])
def test_a_worker_on_cuda_answers_as_on_the_cpu(model, cpu_answers, batch_invariant):
    with Replica(model, 1, "--device=auto", f"--batch_invariant={batch_invariant}", *SMALL, program=HOST) as replica:
        found = answers(replica.client)
        for mine, expected in zip(found, cpu_answers, strict=True):
            assert list(mine.token_ids) == list(expected.token_ids)
            assert [each.logprob for each in mine.logprobs] == pytest.approx([each.logprob for each in expected.logprobs], abs=1e-3)
        assert [info.isa for info in replica.client.model_info().replicas] == ["sm_90"]
        page = replica.worker.http("/metrics")[1]
        assert 'device="cuda",isa="sm_90"' in page
        assert replica.worker.metric('phi_device_memory_bytes{rank="0",kind="kv_cache"}') > 0
        assert replica.worker.metric('phi_device_memory_bytes{rank="0",kind="free"}') < 4 << 30
        worker = replica.worker
        assert worker.stop() == 0


@on_host
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_serves_on_cuda(model, dtype):
    with Replica(model, 1, "--device=cuda", *SMALL, dtype=dtype, program=HOST) as replica:
        answer = replica.client.generate(PROMPTS[0], timeout=PATIENCE, max_new_tokens=8, ignore_eos=True)
        assert len(answer.completions[0].token_ids) == 8
        assert replica.client.model_info().dtype == dtype


@on_host
def test_a_device_error_ends_the_group_and_the_next_one_serves(model):
    """What stays on a GPU after an illegal access is gone with the process (docs/reliability.md, row 16)."""
    broken = {"PHI_CUDA_HOST_FAIL": "kernel:400:700"}
    with Replica(model, 1, "--device=cuda", "--max_restarts=100", *SMALL, program=HOST, env=broken) as replica:
        stream = replica.client.stream(PROMPTS[0], timeout=PATIENCE, max_new_tokens=200, ignore_eos=True)
        with pytest.raises(grpc.RpcError) as error:
            for _ in stream:
                pass
        refusal = Refusal(error.value)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "REPLICA_LOST"), refusal
        wait_until(lambda: replica.worker.epoch() == 2 and replica.worker.ready() and replica.router.ready(), "serving again")
        assert join(replica.client.stream(PROMPTS[0], max_new_tokens=2, ignore_eos=True))[1]
        ends = [entry for entry in replica.worker.log_entries() if entry["message"] == "rank ends"]
        assert ends and "cudaErrorIllegalAddress" in ends[0]["error"], ends


@on_host
@pytest.mark.parametrize(
    ("flags", "environment", "code", "words"),
    [
        (("--device=cuda",), {"PHI_CUDA_HOST_FAIL": "cudaGetDeviceCount:1:35"}, USAGE, ("--device=cuda", "looking for GPUs")),
        (("--device=cuda",), {"PHI_CUDA_HOST_MEMORY": str(60 << 20)}, OUT_OF_MEMORY, ("needs", "MiB are free")),
        (("--device=cuda", "--isa=avx2"), {}, USAGE, ("--isa",)),
    ],
    ids=["no driver", "no memory", "isa"],
)
def test_what_a_gpu_cannot_do_is_one_clear_line(flags, environment, code, words):
    ended_with, lines = ended(*flags, program=HOST, **environment)
    assert ended_with == code and len(lines) == 1, lines
    assert all(word in lines[0] for word in words), lines
