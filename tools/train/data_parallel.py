"""Data parallelism over the processes of torchrun.

One process per core with one thread each meets its peers once a step; threads inside one process
would meet at every operator, which on a busy machine waits for the scheduler each time.
"""

from __future__ import annotations

import os

import torch
from torch import distributed


class Group:
    """The processes of this training; alone, every collective does nothing."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.size > 1:
            distributed.init_process_group("gloo")

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def close(self) -> None:
        if self.size > 1:
            distributed.destroy_process_group()

    def mean_gradients(self, parameters: list[torch.nn.Parameter], loss: float) -> float:
        """Replaces every gradient, and returns the loss, by the mean over the group."""
        if self.size == 1:
            return loss
        flat = torch.cat([p.grad.reshape(-1) for p in parameters] + [torch.tensor([loss])])
        distributed.all_reduce(flat)
        flat /= self.size
        at = 0
        for p in parameters:
            p.grad.copy_(flat[at : at + p.numel()].view_as(p))
            at += p.numel()
        return flat[-1].item()

    def from_leader(self, value: float) -> float:
        if self.size == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.float64)
        distributed.broadcast(tensor, 0)
        return tensor.item()

    def share(self, parts: list[list[torch.nn.Parameter]]) -> None:
        """parts[r] are the parameters that rank r has updated; all ranks get them."""
        for owner, parameters in enumerate(parts if self.size > 1 else []):
            flat = torch.cat([p.data.reshape(-1) for p in parameters])
            distributed.broadcast(flat, owner)
            at = 0
            for p in parameters:
                p.data.copy_(flat[at : at + p.numel()].view_as(p))
                at += p.numel()
