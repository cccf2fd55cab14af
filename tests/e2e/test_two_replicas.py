"""Two replicas behind one router: both work, and losing or rolling one loses no call that has no token yet."""

import signal
import threading

import grpc
import pytest
from phi_client import Refusal, join
from phi_programs import NANO, Router, Worker, alive, wait_until

PROMPT = "def count(n):\n"


@pytest.fixture
def pair(started):
    workers = [started(Worker(NANO)) for _ in range(2)]
    router = started(Router([worker.address for worker in workers]))
    for worker in workers:
        worker.wait_ready()
    client = router.client()
    wait_until(lambda: [replica.state for replica in client.model_info().replicas] == ["ready", "ready"], "both ready")
    yield workers, router, client
    client.close()


class Caller(threading.Thread):
    """Calls one after another until told to stop."""

    def __init__(self, client):
        super().__init__()
        self.client, self.over = client, threading.Event()
        self.texts, self.refusals = set(), []
        self.start()

    def run(self):
        while not self.over.is_set():
            try:
                self.texts.add(self.client.generate(PROMPT, max_new_tokens=4, ignore_eos=True).completions[0].text)
            except grpc.RpcError as error:
                self.refusals.append(Refusal(error))

    def result(self):
        self.over.set()
        self.join()
        return self


def test_both_take_their_share_and_answer_alike(pair):
    workers, router, client = pair
    streams = [client.stream(PROMPT, max_new_tokens=40, ignore_eos=True) for _ in range(8)]
    assert len({join(stream)[0] for stream in streams}) == 1
    for worker in workers:
        assert worker.metric("phi_prompt_tokens_total") > 0
        assert router.metric(f'phi_router_replica_state{{replica="{worker.address}",state="ready"}}') == 1


def test_calls_after_a_loss_are_all_answered(pair):
    workers, router, client = pair
    ranks = workers[0].rank_pids().values()
    workers[0].send(signal.SIGKILL)
    # A call that has a token is not sent again, and the ranks outlive their supervisor by a moment.
    wait_until(lambda: not any(alive(pid) for pid in ranks), "its ranks gone")
    for _ in range(12):
        assert client.generate(PROMPT, max_new_tokens=2, ignore_eos=True).completions[0].finish.generated_tokens == 2
    assert router.ready()
    wait_until(lambda: "ready" not in {r.state for r in client.model_info().replicas if r.address == workers[0].address}, "known")


@pytest.mark.parametrize("which", [0, 1])
def test_rolling_one_replica_fails_no_call(pair, which):
    workers, _, client = pair
    callers = [Caller(client) for _ in range(3)]
    wait_until(lambda: all(caller.texts for caller in callers), "calls under way")
    workers[which].send(signal.SIGTERM)
    assert workers[which].wait() == 0
    results = [caller.result() for caller in callers]
    assert [caller.refusals for caller in results] == [[], [], []]
    assert len(set().union(*(caller.texts for caller in results))) == 1
