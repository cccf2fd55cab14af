"""What every row of docs/reliability.md asserts beside its own promise: the replica is as it was before the fault."""

import pathlib
import re

from phi_programs import SANITIZED, alive, wait_until

REFERENCES = (
    ("def f():\n", {"max_new_tokens": 6, "ignore_eos": True, "logprobs": 2}),
    ("def add(a, b):\n", {"max_new_tokens": 6, "ignore_eos": True, "logprobs": 0, "temperature": 0.9, "seed": 11}),
)
# What a program may keep after faults that together moved far more: caches of the allocator, threads, gRPC's pools.
MEMORY_MAY_GROW = 64e6


def under_way(replica):
    """What the replica holds for requests, by its own metrics; all zero when none is under way."""
    worker, router = replica.worker, replica.router
    return {
        "router in flight": router.metric("phi_router_inflight_requests"),
        "running": worker.metric("phi_requests_running"),
        "waiting": worker.metric("phi_requests_waiting"),
        "waiting tokens": worker.metric("phi_waiting_tokens"),
        "owned blocks": worker.metric('phi_kv_blocks{state="owned"}'),
    }


class Quiet:
    """Remembers a replica's answers, processes and memory, and asserts that they are the same again."""

    def __init__(self, replica):
        self.replica = replica
        self.answers = self._answers()
        self.pids = [replica.router.pid, replica.worker.pid, *replica.worker.rank_pids().values()]
        wait_until(lambda: not any(under_way(replica).values()), "nothing under way")
        self.blocks = self._blocks()
        self.memory = self._memory()

    def _answers(self):
        answers = []
        for prompt, parameters in REFERENCES:
            answer = self.replica.client.generate(prompt, timeout=120, **parameters)
            answers.append((answer.completions, answer.summary.usage.prompt_tokens))
        return answers

    def _blocks(self):
        # All of one answer: between two scrapes a block may change its state.
        text = self.replica.worker.http("/metrics")[1]
        return sum(float(count) for count in re.findall(r'^phi_kv_blocks\{state="(?:free|cached|owned)"\} (\S+)$', text, re.M))

    def _memory(self):
        """Of router, supervisor and each rank; without what they share, which is files and the metrics' page."""
        status = {pid: pathlib.Path(f"/proc/{pid}/status").read_text() for pid in self.pids}
        return {pid: 1024 * int(re.search(r"^RssAnon:\s+(\d+)", text, re.M).group(1)) for pid, text in status.items()}

    def _memory_is_back(self):
        return all(now <= self.memory[pid] + MEMORY_MAY_GROW for pid, now in self._memory().items())

    def check(self):
        """No process lost, nothing held, the same answers to the bit, all blocks there, memory bounded."""
        worker = self.replica.worker
        pids = [self.replica.router.pid, worker.pid, *worker.rank_pids().values()]
        assert pids == self.pids and all(alive(pid) for pid in pids), f"processes {self.pids} became {pids}"
        assert self._answers() == self.answers, "another answer than before"
        wait_until(lambda: not any(under_way(self.replica).values()), "nothing under way")
        assert self._blocks() == self.blocks
        if not SANITIZED:
            wait_until(self._memory_is_back, f"memory is back near {self.memory}")
