"""Faults within a step that nothing outside can make: by failpoints of the worker (kernels/base/failpoint.h)."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from phi_client import Refusal
from phi_programs import Replica, wait_until
from quiet import under_way

PROMPTS = ("def add(a, b):\n", "def first(xs):\n", "import os\n", "for i in range(3):\n")


def test_row15_an_error_on_one_rank_only():
    # A group's start takes a few steps; this one fails in the first answer, and the next group in none.
    with Replica(tensor_parallel=2, env={"PHI_FAILPOINTS": "rank1.before_step=error@40"}) as replica:
        worker = replica.worker
        epoch = worker.epoch()
        with pytest.raises(grpc.RpcError) as error:
            list(replica.client.stream(PROMPTS[0], max_new_tokens=100, ignore_eos=True, timeout=120))
        refusal = Refusal(error.value)
        assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "REPLICA_LOST")
        wait_until(lambda: worker.epoch() == epoch + 1 and worker.ready() and replica.router.ready(), "the next group")
        answer = replica.client.generate(PROMPTS[0], max_new_tokens=8, ignore_eos=True, timeout=120)
        assert len(answer.completions[0].token_ids) == 8
        assert worker.epoch() == epoch + 1
        assert "failpoint rank1.before_step" in worker.log()


def test_row18_logits_of_one_sequence_are_not_finite():
    """One of four requests is hurt; the others get what they get without a fault, to the bit."""
    with Replica(tensor_parallel=2, env={"PHI_FAILPOINTS": "rank.logits=nan@40"}) as replica:
        epoch = replica.worker.epoch()

        def ask(index):
            parameters = {"max_new_tokens": 24, "ignore_eos": True, "logprobs": 2, "temperature": 0.8, "seed": index}
            try:
                return replica.client.generate(PROMPTS[index], timeout=120, **parameters).completions[0]
            except grpc.RpcError as error:
                return Refusal(error)

        with ThreadPoolExecutor(len(PROMPTS)) as pool:
            answers = list(pool.map(ask, range(len(PROMPTS))))
        refusals = [answer for answer in answers if isinstance(answer, Refusal)]
        assert [(refusal.code.name, refusal.reason) for refusal in refusals] == [("INTERNAL", "NONFINITE_LOGITS")]
        for index, answer in enumerate(answers):
            again = ask(index)
            assert not isinstance(again, Refusal)
            assert isinstance(answer, Refusal) or answer == again, f"request {index}"
        wait_until(lambda: not any(under_way(replica).values()), "nothing under way")
        assert replica.worker.epoch() == epoch
