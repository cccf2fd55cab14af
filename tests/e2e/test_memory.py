"""Memory against the plan that the worker prints, and the time to be ready. Only as shipped: sanitizers add memory of their own."""

import contextlib
import pathlib
import re
import time

import pytest
from phi_client import join
from phi_programs import NANO, SANITIZED, Background, Replica, Worker, alive
from random_models import make_checkpoint

pytestmark = pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is no part of the plan")

# Large enough that the plan outweighs code and libraries, small enough to be made in seconds.
SHAPE = {"preset": "tiny", "vocab_size": 8192, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 10,
         "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 64, "max_position_embeddings": 1024,
         "dtype": "bfloat16"}  # fmt: skip
AT_REST, AT_PEAK = 1.15, 1.3


def pss(pids):
    """Proportional set size of the processes in bytes; what is gone counts nothing."""
    total = 0
    for pid in pids:
        try:
            total += 1024 * int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1))
        except OSError:
            continue
    return total


def planned(worker):
    return sum(entry["total_bytes"] for entry in worker.log_entries() if entry["message"] == "memory of a rank")


class Peak(Background):
    """The greatest PSS of the worker's ranks, in bytes."""

    def __init__(self, worker):
        super().__init__()
        self.worker, self.bytes = worker, 0

    def look(self):
        self.bytes = max(self.bytes, pss(pid for pid in self.worker.rank_pids().values() if alive(pid)))


@pytest.mark.parametrize("world_size", [1, 2])
def test_memory_keeps_to_the_plan(world_size, tmp_path, figure):
    model = make_checkpoint(tmp_path / "model", SHAPE, num_real_tokens=8000)
    flags = ("--kv_cache_bytes=100MiB", "--max_sequences=8")
    with contextlib.ExitStack() as running:
        replica = Replica(model, world_size, *flags, dtype="bfloat16")
        with Peak(replica.worker) as loading:
            running.enter_context(replica)
        plan = planned(replica.worker)
        assert plan > 250e6
        with Peak(replica.worker) as serving:
            streams = [replica.client.stream([5] * 200, max_new_tokens=20, ignore_eos=True, seed=i) for i in range(8)]
            for stream in streams:
                assert len(join(stream)[1]) == 20
        rest = pss(replica.worker.rank_pids().values())
        cache = replica.worker.metric('phi_device_memory_bytes{rank="0",kind="kv_cache"}')
    figure(
        f"memory at tp {world_size}: planned {plan / 1e6:.0f} MB, loading {loading.bytes / plan:.2f}, serving {serving.bytes / plan:.2f}, "
        f"at rest {rest / plan:.2f} of it"
    )
    assert cache and cache <= 100 * 2**20
    assert rest <= AT_REST * plan
    assert max(loading.bytes, serving.bytes) <= AT_PEAK * plan


def test_the_embedded_model_is_ready_within_a_second(started, figure):
    times = []
    for _ in range(3):
        start = time.monotonic()
        worker = started(Worker(NANO, 2))
        worker.wait_ready()
        times.append(time.monotonic() - start)
        worker.stop()
    figure(f"ready on the embedded model at tp 2: {', '.join(f'{t:.2f}' for t in times)} s")
    assert min(times) <= 1.0
