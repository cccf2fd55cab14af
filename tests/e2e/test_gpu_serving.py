"""Router and worker around GPUs, as tools/gpu_check.sh starts it: a process a GPU, the search for GPUs, capacity by what is free,
NCCL's id over the socket pairs, and the CPU's tokens.

PHI_GPU_WORKER names the worker: phi-worker, whose ranks are processes of phi-worker-cuda, or phi-worker-host, which executes one rank
on the host.
"""

import concurrent.futures
import contextlib
import itertools
import json
import os
import signal
import subprocess

import pytest
from phi_programs import BIN, PATIENCE, Replica, wait_until
from random_models import make_checkpoint

WORKER = os.environ.get("PHI_GPU_WORKER", "phi-worker")
ON_HOST = WORKER == "phi-worker-host"
# Drivers wake up and libraries load within seconds each; kernels as fibers take a thousand times a GPU's time.
START = 6 * PATIENCE
SMALL = ("--max_sequences=4", "--max_step_tokens=32", "--stall_limit=60s")
# As many heads as ranks may be.
SHAPE = {"preset": "tiny", "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 16}
PROMPTS = ("def count(n):\n", "for i in range(10):\n    print(i)\n")
NEW_TOKENS = 12


def gpus():
    """How many ranks may have one, by the process that the worker looks with."""
    if ON_HOST:
        return 1  # the stand-in of NCCL joins threads, not processes
    probe = subprocess.run([BIN / "phi-worker-cuda", "--phi-device-probe"], capture_output=True, text=True, timeout=90, check=True)
    answer = json.loads(probe.stdout)
    if "error" in answer:
        pytest.skip(f"no GPU: {answer['error']}", allow_module_level=True)
    return len(list(itertools.takewhile(lambda device: not device["problem"], answer["devices"])))


MOST = min(gpus(), SHAPE["num_attention_heads"])
WORLD_SIZES = sorted({size for size in (1, 2, 4, 8) if size <= MOST} | {MOST})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("gpu") / "model", SHAPE)


@contextlib.contextmanager
def serving(model, world_size, *flags, **options):
    replica = Replica(model, world_size, *SMALL, *flags, **options)
    try:
        replica.worker.wait_ready(START)
        replica.router.wait_ready(START)
        yield replica
    finally:
        replica.__exit__()


def on_gpus(model, world_size, *flags, **options):
    return serving(model, world_size, "--device=cuda", *flags, program=WORKER, **options)


def answers(client):
    """Greedy and drawn tokens with log-probabilities of the prompts, one call after the other."""
    found = []
    for prompt in PROMPTS:
        for parameters in ({}, {"temperature": 1.0, "seed": 7, "top_k": 20}):
            answer = client.generate(prompt, timeout=START, max_new_tokens=NEW_TOKENS, ignore_eos=True, logprobs=2, **parameters)
            found.append(answer.completions[0])
    return found


def assert_equal(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        assert list(mine.token_ids) == list(theirs.token_ids)
        assert [each.logprob for each in mine.logprobs] == pytest.approx([each.logprob for each in theirs.logprobs], abs=1e-3)


@pytest.fixture(scope="module")
def cpu_answers(model):
    with serving(model, 1, "--device=cpu") as replica:
        return answers(replica.client)


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_the_tokens_are_the_cpus(model, cpu_answers, world_size):
    with on_gpus(model, world_size) as replica:
        assert_equal(answers(replica.client), cpu_answers)
        (info,) = replica.client.model_info().replicas
        assert info.isa.startswith("sm_")
        page = replica.worker.http("/metrics")[1]
        assert f'device="cuda",isa="{info.isa}"' in page
        for rank in range(world_size):
            for kind in ("weights", "kv_cache", "free"):
                assert replica.worker.metric(f'phi_device_memory_bytes{{rank="{rank}",kind="{kind}"}}') > 0, (rank, kind)
        assert replica.worker.stop() == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_serves(model, dtype):
    with on_gpus(model, MOST, dtype=dtype) as replica:
        answer = replica.client.generate(PROMPTS[0], timeout=START, max_new_tokens=NEW_TOKENS, ignore_eos=True)
        assert len(answer.completions[0].token_ids) == NEW_TOKENS
        assert replica.client.model_info().dtype == dtype


def test_batch_invariant_answers_are_the_same_in_company(model):
    """I1, through steps that mix prompts and decodes."""
    with on_gpus(model, MOST, "--batch_invariant=true", dtype="bfloat16") as replica:
        alone = answers(replica.client)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for together in pool.map(answers, [replica.client] * 2):
                for mine, theirs in zip(together, alone, strict=True):
                    assert mine == theirs


def test_a_lost_rank_is_replaced(model, cpu_answers):
    """The next epoch's ranks find each other by an id of its own."""
    with on_gpus(model, MOST, "--max_restarts=100") as replica:
        os.kill(replica.worker.rank_pids()[MOST - 1], signal.SIGKILL)
        again = lambda: replica.worker.epoch() == 2 and replica.worker.ready() and replica.router.ready()  # noqa: E731
        wait_until(again, "serving again", START)
        assert_equal(answers(replica.client), cpu_answers)


def test_phictl_shows_the_same_text(model, cpu_answers):
    with on_gpus(model, 1) as replica:
        command = [BIN / "phictl", "generate", "--address", replica.router.address, "--max-new-tokens", str(NEW_TOKENS), "--ignore-eos",
                   PROMPTS[0]]  # fmt: skip
        shown = subprocess.run(command, capture_output=True, timeout=START, check=True).stdout
        assert shown.rstrip(b"\n").endswith(cpu_answers[0].text.encode().rstrip(b"\n")), shown
