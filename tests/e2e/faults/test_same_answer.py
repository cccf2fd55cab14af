"""I1 over the public RPC: a request's tokens and log-probabilities do not depend on what else runs, nor on a restart."""

import concurrent.futures
import pathlib
import threading

import pytest
from phi_client import join
from phi_programs import NANO, Replica, wait_until

PROMPT = 'def largest(numbers):\n    """Return the largest of the numbers."""\n'
# Longer than a step below takes, so that it is prefilled in chunks beside the others' decoding.
LONG_PROMPT = "".join(f"def add_{i}(x):\n    return x + {i}\n\n\n" for i in range(14)) + "def add_"
REQUESTS = {
    "greedy": (PROMPT, {}),
    "sampled": (PROMPT, {"temperature": 0.9, "seed": 42, "top_p": 0.95}),
    "sampled_top_k": (PROMPT, {"temperature": 1.3, "seed": 7, "top_k": 50, "min_p": 0.01}),
    "long": (LONG_PROMPT, {"temperature": 0.8, "seed": 3}),
}
FLAGS = ("--max_sequences=16", "--max_step_tokens=48")


def answer(client, name):
    """Ids and the exact bits of the log-probabilities."""
    prompt, parameters = REQUESTS[name]
    completion = client.generate(prompt, timeout=120, max_new_tokens=24, ignore_eos=True, logprobs=0, **parameters).completions[0]
    return list(completion.token_ids), [entry.logprob.hex() for entry in completion.logprobs]


def company(client, index, messages):
    """One of the 15 others: streams something of its own length, sampled, so that they end one by one and those who wait get in."""
    prompt = f"# {index}\n" + "x = 1\n" * (index * 3 % 17)
    stream = client.stream(prompt, timeout=120, max_new_tokens=40 + 15 * index, ignore_eos=True, temperature=1.0, seed=index)
    messages[index] = join(stream)[1]


def machine_isas():
    """The instruction sets of the kernels that this machine has."""
    flags = set(pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii").split("flags", 1)[1].split("\n", 1)[0].split())
    wants = {"avx2": {"avx2", "fma"}, "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq"}, "avx512_bf16": {"avx512_bf16"}}
    return [isa for isa, needed in wants.items() if needed <= flags]


@pytest.mark.parametrize(("world_size", "isa"), [(1, "auto"), *((2, isa) for isa in machine_isas())])
def test_row57_alone_in_company_and_after_a_restart(world_size, isa):
    with Replica(NANO, world_size, f"--isa={isa}") as replica:
        alone = {name: answer(replica.client, name) for name in REQUESTS}
        assert all(len(ids) == 24 for ids, _ in alone.values())

    # Another process, smaller steps, so that prompts come in chunks, and fifteen others at any moment.
    with Replica(NANO, world_size, f"--isa={isa}", *FLAGS) as replica:
        assert {name: answer(replica.client, name) for name in REQUESTS} == alone, "after a restart, in chunks"
        others = {}
        threads = [threading.Thread(target=company, args=(replica.client, i, others)) for i in range(15)]
        for thread in threads:
            thread.start()

        def company_there():
            return replica.worker.metric("phi_requests_running") > len(REQUESTS)

        wait_until(company_there, "company")
        with concurrent.futures.ThreadPoolExecutor(len(REQUESTS)) as pool:
            asked = {name: pool.submit(answer, replica.client, name) for name in REQUESTS}
            assert company_there(), "they are alone"
            together = {name: future.result() for name, future in asked.items()}
        for thread in threads:
            thread.join()
        assert together == alone, "in company"
        assert len(others) == 15, "a companion failed"
        alone_again = {}
        company(replica.client, 3, alone_again)
        assert alone_again[3] == others[3], "a companion's own answer"
