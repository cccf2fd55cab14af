"""A rank that dies or hangs: callers are told in time, the replica serves again by itself, and nothing is left behind."""

import os
import signal
import time

import grpc
import pytest
from phi_client import Refusal, join
from phi_programs import SANITIZED, Background, Replica, alive, wait_until
from random_models import make_checkpoint

PROMPT = "def count(n):\n"
STALL_LIMIT = 2.0
# How long callers may wait for the bad news: the promises, and what a sanitized build on a shared machine may add.
SLACK = 3.0 if SANITIZED else 0.0
KILLED_LIMIT = 2.0 + SLACK
HUNG_LIMIT = STALL_LIMIT + 1.0 + SLACK
FLAGS = (f"--stall_limit={STALL_LIMIT:g}s", "--max_restarts=100")
WORLD_SIZE = 2


# Small, with a context so long that no answer is over before its rank is lost.
SHAPE = {"preset": "tiny", "hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 64,
         "intermediate_size": 1024, "num_hidden_layers": 6, "max_position_embeddings": 8192}  # fmt: skip
MANY_TOKENS = 8000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("lost") / "model", SHAPE)


@pytest.fixture
def replica(model):
    # A new one for each case: restarts in a row wait longer and longer, as they should.
    with Replica(model, WORLD_SIZE, *FLAGS) as started:
        yield started


class Watch(Background):
    """Asks the metrics port all the while and keeps what it said, and the longest time in which it could not ask."""

    def __init__(self, worker):
        super().__init__()
        self.worker = worker
        self.answers = {"/livez": set(), "/readyz": set(), "/metrics": set()}
        self._last, self._longest = time.monotonic(), 0

    def look(self):
        for path, statuses in self.answers.items():
            statuses.add(self.worker.http(path)[0])
        self._longest, self._last = self.gap(), time.monotonic()

    def gap(self):
        return max(self._longest, time.monotonic() - self._last)

    def stall_allowance(self):
        """What a machine that stood still adds to STALL_LIMIT: a supervisor that did not run for a second begins to count anew."""
        return self.gap() + STALL_LIMIT if self.gap() >= 1 else 0


def refusal_of(stream):
    """The refusal that ends a stream, after the tokens that came before it."""
    with pytest.raises(grpc.RpcError) as error:
        for _ in stream:
            pass
    return Refusal(error.value)


@pytest.mark.parametrize("where", ["idle", "mid-stream"])
@pytest.mark.parametrize("rank", range(WORLD_SIZE))
@pytest.mark.parametrize(("number", "limit"), [(signal.SIGKILL, KILLED_LIMIT), (signal.SIGSTOP, HUNG_LIMIT)], ids=["SIGKILL", "SIGSTOP"])
def test_a_lost_rank(replica, figure, number, limit, rank, where):
    worker, client = replica.worker, replica.client
    before = client.generate(PROMPT, max_new_tokens=8, ignore_eos=True).completions
    epoch, pids = worker.epoch(), worker.rank_pids()
    tokens = worker.metric("phi_generated_tokens_total")
    assert len(pids) == WORLD_SIZE and all(alive(pid) for pid in pids.values())

    with Watch(worker) as watch:
        stream = None
        if where == "mid-stream":
            stream = client.stream(PROMPT, timeout=60, max_new_tokens=MANY_TOKENS, ignore_eos=True)
            next(stream)
        start = time.monotonic()
        os.kill(pids[rank], number)
        if stream is not None:
            refusal = refusal_of(stream)
            told = time.monotonic() - start
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "REPLICA_LOST"), refusal
        else:
            # The replica may be back before anyone has seen it gone.
            told = wait_until(lambda: not worker.ready() or worker.epoch() > epoch, "readiness gone")
        assert told <= limit + (watch.stall_allowance() if number == signal.SIGSTOP else 0)
        wait_until(lambda: worker.epoch() == epoch + 1 and worker.ready() and replica.router.ready(), "serving again")
        again = time.monotonic() - start

    assert watch.answers["/livez"] == {200} and watch.answers["/metrics"] == {200}
    assert 503 in watch.answers["/readyz"]
    wait_until(lambda: not any(alive(pid) for pid in pids.values()), "the old group gone", 5)
    assert worker.rank_pids() != pids and [worker.metric(f'phi_rank_up{{rank="{i}"}}') for i in range(WORLD_SIZE)] == [1, 1]
    assert client.generate(PROMPT, max_new_tokens=8, ignore_eos=True).completions == before
    assert worker.metric("phi_generated_tokens_total") > tokens, "a counter went back"
    assert_no_block_leaked(worker)
    figure(f"{signal.Signals(number).name} rank {rank} {where}: known after {told:.2f} s, serving again after {again:.2f} s")


def assert_no_block_leaked(worker):
    wait_until(lambda: worker.metric("phi_requests_running") == 0, "nothing running", 5)
    assert (worker.metric('phi_kv_blocks{state="owned"}') or 0) == 0


def test_a_stall_is_named_in_log_and_metrics(replica):
    worker = replica.worker
    os.kill(worker.rank_pids()[1], signal.SIGSTOP)
    wait_until(lambda: worker.metric('phi_replica_restarts_total{cause="stall"}') == 1, "counted")
    entries = [entry for entry in worker.log_entries() if "stands still" in entry["message"]]
    assert len(entries) == 1 and entries[0]["level"] == "error" and entries[0]["rank"] == 1, entries


def test_many_losses_in_a_row_leave_a_replica_that_serves(replica):
    worker = replica.worker
    for count in range(1, 4):
        epoch = worker.epoch()
        os.kill(worker.rank_pids()[count % WORLD_SIZE], signal.SIGKILL)
        wait_until(lambda epoch=epoch: worker.epoch() == epoch + 1 and worker.ready(), "serving again")
    assert worker.metric('phi_replica_restarts_total{cause="rank_signal"}') == 3
    wait_until(replica.router.ready, "the router knows")
    assert join(replica.client.stream(PROMPT, max_new_tokens=2, ignore_eos=True))[1]


def test_while_nothing_serves_calls_are_refused_at_once(replica):
    worker, client = replica.worker, replica.client
    epoch = worker.epoch()
    os.kill(worker.rank_pids()[0], signal.SIGKILL)
    wait_until(lambda: not replica.router.ready() or worker.epoch() > epoch, "the router knows")
    start = time.monotonic()
    try:
        client.generate(PROMPT, max_new_tokens=1)
    except grpc.RpcError as error:
        refusal = Refusal(error)
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_READY_REPLICA"), refusal
        assert time.monotonic() - start < 1.0 + SLACK
    # or the replica was back in time to answer, which is as good
    wait_until(replica.router.ready, "serving again")
    assert join(client.stream(PROMPT, max_new_tokens=2))[1]
