"""Cancelled where nothing outside can hit for sure: failpoints of the test builds hold the request there (kernels/base/failpoint.h)."""

import pytest
from phi_programs import NANO, Router, Worker, wait_until
from quiet import under_way

PROMPT = "def count(n):\n"


def failing(points):
    return {"PHI_FAILPOINTS": points}


class Pair:
    """A worker and a router, each with its failpoints; quiet.under_way looks at it."""

    def __init__(self, started, worker_points, router_points):
        self.worker = started(Worker(NANO, 1, env=failing(worker_points)))
        self.router = started(Router([self.worker.address], env=failing(router_points)))
        self.worker.wait_ready()
        self.router.wait_ready()
        self.client = self.router.client()


@pytest.mark.parametrize(
    ("worker_points", "router_points"), [("", "router.tokenizing=sleep:3000"), ("worker.before_submit=sleep:3000", "")], ids=["tokenizing", "before submit"]
)
def test_row28_cancel_before_there_is_a_token(started, worker_points, router_points):
    """Cancelled while its prompt is tokenized, and between its arrival at the leader and the queue: nothing is left of it."""
    replica = Pair(started, worker_points, router_points)
    cancelled = 'phi_router_requests_total{method="GenerateStream",code="CANCELLED",reason="none"}'
    for count in range(1, 4):
        stream = replica.client.stream(PROMPT, max_new_tokens=24, ignore_eos=True)
        wait_until(lambda: replica.router.metric("phi_router_inflight_requests") == 1, "under way")
        stream.cancel()
        wait_until(lambda count=count: replica.router.metric(cancelled) == count, "counted")
        wait_until(lambda: replica.router.metric("phi_router_inflight_requests") == 0, "over")
    wait_until(lambda: not any(under_way(replica).values()), "nothing left")
    assert replica.client.generate(PROMPT, max_new_tokens=3, ignore_eos=True).completions[0].finish.generated_tokens == 3
