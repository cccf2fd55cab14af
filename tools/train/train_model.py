"""Trains phi-nano: resumable, on a wall-clock (or step) budget, warm-up-stable-decay.

Muon for the matrices of the layers, AdamW for the rest; bf16 autocast over fp32 weights; the
exported weights are an exponential moving average, which the decay at the end makes a tail average.
Under torchrun the batch is split over the processes, and Muon's work over the layers' matrices.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import os
import pathlib
import time

import numpy
import torch
from tokenizers import Tokenizer
from torch.nn import functional

import packing
from data_parallel import Group
from export import save_model
from phi_model import PhiNano, PhiNanoConfig

WARM_UP = 0.02  # shares of the budget
DECAY = 0.30
MIXED_ROWS = 0.5  # share of the rows in which a document sees those before it
SAVE_SECONDS = 180
LOG_SECONDS = 60


@dataclasses.dataclass
class Progress:
    step: int = 0
    seconds: float = 0.0  # spent in all runs together
    tokens: int = 0
    curve: list[tuple[int, float, float]] = dataclasses.field(default_factory=list)  # step, loss, held-out loss


class Batches:
    """Batch `step` of an endless sequence of epochs; the same for the same seed and step."""

    def __init__(self, documents: list[numpy.ndarray], length: int, batch_rows: int, seed: int, group: Group):
        self._documents, self._length, self._batch_rows, self._seed = documents, length, batch_rows, seed
        self._group = group
        self._epoch, self._first_step, self._rows = -1, 0, None

    def get(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        while self._rows is None or step >= self._first_step + len(self._rows) // self._batch_rows:
            if self._rows is not None:
                self._first_step += len(self._rows) // self._batch_rows
            self._epoch += 1
            rng = numpy.random.default_rng((self._seed, self._epoch))
            self._rows = packing.pack(self._documents, self._length, rng)
        rows = self._batch_rows // self._group.size
        at = (step - self._first_step) * self._batch_rows + self._group.rank * rows
        return self._tensors(slice(at, at + rows), numpy.random.default_rng((self._seed, 1, step)))

    def _tensors(self, part: slice, rng: numpy.random.Generator):
        rows = self._rows
        document_ids = rows.document_ids[part].copy()
        mixed = rng.random(len(document_ids)) < MIXED_ROWS
        document_ids[mixed] = numpy.minimum(document_ids[mixed], 0)
        return tuple(map(torch.from_numpy, (rows.inputs[part], rows.targets[part], document_ids)))


def loss_of(model: PhiNano, inputs: torch.Tensor, targets: torch.Tensor, document_ids: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(inputs, document_ids)
    return functional.cross_entropy(
        logits.float().view(-1, logits.shape[-1]), targets.view(-1), ignore_index=packing.NO_TARGET
    )


@torch.no_grad()
def held_out_loss(model: PhiNano, rows: packing.Rows) -> float:
    total, count = 0.0, 0
    for at in range(0, len(rows), 16):
        part = slice(at, at + 16)
        targets = torch.from_numpy(rows.targets[part])
        tokens = int((targets != packing.NO_TARGET).sum())
        inputs, document_ids = (torch.from_numpy(x[part]) for x in (rows.inputs, rows.document_ids))
        total += loss_of(model, inputs, targets, document_ids).item() * tokens
        count += tokens
    return total / count


def split_matrices(model: PhiNano, size: int) -> list[list[torch.nn.Parameter]]:
    """The matrices of the layers, in `size` parts of about equal work."""
    parts: list[list[torch.nn.Parameter]] = [[] for _ in range(size)]
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    for matrix in sorted(matrices, key=torch.numel, reverse=True):
        min(parts, key=lambda part: sum(map(torch.numel, part))).append(matrix)
    return parts


def make_optimizers(
    model: PhiNano, own_matrices: list[torch.nn.Parameter], muon_rate: float, adam_rate: float
) -> list[torch.optim.Optimizer]:
    matrices = {id(p) for p in model.model.layers.parameters() if p.ndim == 2}
    others = [p for p in model.parameters() if id(p) not in matrices]
    optimizers = [
        torch.optim.Muon(own_matrices, lr=muon_rate, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def rate_factor(done: float) -> float:
    """Share of the peak learning rate when `done` of the budget (0..1) is spent."""
    if done < WARM_UP:
        return max(done, 1e-3) / WARM_UP
    return min(1.0, max(0.0, (1.0 - done) / DECAY))


class Trainer:
    def __init__(self, options: argparse.Namespace, group: Group):
        self.options, self.group = options, group
        torch.manual_seed(options.seed)
        torch.set_num_threads(options.threads)
        tokenizer = Tokenizer.from_file(str(options.tokenizer))
        self.end_of_text = tokenizer.token_to_id("<|endoftext|>")
        self.config = PhiNanoConfig()
        documents = packing.tokenize(options.data / "train.jsonl", tokenizer, self.end_of_text)
        held_out = packing.tokenize(options.data / "held_out.jsonl", tokenizer, self.end_of_text)
        length = self.config.max_position_embeddings
        print(f"{len(documents)} texts, {sum(map(len, documents)) / 1e6:.1f} M tokens", flush=True)
        self.batches = Batches(documents, length, options.batch_rows, options.seed, group)
        self.held_out = packing.pack(held_out, length, numpy.random.default_rng(options.seed))
        self.model = PhiNano(self.config)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.parts = split_matrices(self.model, group.size)
        self.optimizers = make_optimizers(
            self.model, self.parts[group.rank], options.muon_rate, options.adam_rate
        )
        self.progress = Progress()
        self._load()

    @property
    def _checkpoint(self) -> pathlib.Path:
        return self.options.checkpoints / f"checkpoint{self.group.rank}of{self.group.size}.pt"

    def _load(self) -> None:
        if not self._checkpoint.exists():
            return
        state = torch.load(self._checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.progress = Progress(**state["progress"])
        if self.progress.step != self.group.from_leader(self.progress.step):
            raise SystemExit(f"{self._checkpoint} is of another step than rank 0's: remove both")
        print(f"resumed at step {self.progress.step}", flush=True)

    def save(self) -> None:
        """A checkpoint of each rank, and a loadable export of the average; replaced in one rename."""
        temporary = self._checkpoint.with_suffix(".new")
        torch.save({
            "model": self.model.state_dict(), "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "progress": dataclasses.asdict(self.progress),
        }, temporary)
        os.replace(temporary, self._checkpoint)
        if not self.group.leads:
            return
        save_model(self.average, self.config, self.end_of_text, self.options.tokenizer, self.options.checkpoints / "model")
        curve = json.dumps(dataclasses.asdict(self.progress))
        (self.options.checkpoints / "progress.json").write_text(curve + "\n", encoding="utf-8")

    def done(self) -> float:
        if self.options.steps:
            return self.progress.step / self.options.steps
        return self.progress.seconds / (60.0 * self.options.minutes)

    def step(self) -> float:
        factor = rate_factor(self.done())
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        batch = self.batches.get(self.progress.step)
        loss = loss_of(self.model, *batch)
        loss.backward()
        mean_loss = self.group.mean_gradients(list(self.model.parameters()), loss.item())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.model.zero_grad(set_to_none=True)
        self.group.share(self.parts)
        keep = min(self.options.average_keep, (self.progress.step + 1) / (self.progress.step + 10))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.model.parameters()):
                mean.lerp_(value, 1.0 - keep)
        self.progress.step += 1
        self.progress.tokens += self.group.size * int((batch[1] != packing.NO_TARGET).sum())
        return mean_loss

    def run(self) -> None:
        losses: list[float] = []
        started = last_save = last_log = self.group.from_leader(time.monotonic())
        before, tokens_then = self.progress.seconds, self.progress.tokens
        while self.done() < 1.0:
            losses.append(self.step())
            now = self.group.from_leader(time.monotonic())
            self.progress.seconds = before + now - started
            if now - last_log >= LOG_SECONDS:
                self._log(losses, (self.progress.tokens - tokens_then) / (now - last_log))
                losses, last_log, tokens_then = [], now, self.progress.tokens
            if now - last_save >= SAVE_SECONDS:
                self.save()
                last_save = now
        self._log(losses or [float("nan")], 0.0)
        self.save()

    def _log(self, losses: list[float], rate: float) -> None:
        if not self.group.leads:
            return
        loss, held_out = sum(losses) / len(losses), held_out_loss(self.average, self.held_out)
        self.progress.curve.append((self.progress.step, loss, held_out))
        left = self.progress.seconds * (1.0 / max(self.done(), 1e-6) - 1.0)
        print(f"step {self.progress.step}  loss {loss:.4f}  held-out {held_out:.4f}  {rate:.0f} tokens/s  "
              f"{self.progress.tokens / 1e6:.2f} M tokens  {self.progress.seconds / 60:.1f} min  "
              f"left {left / 60:.1f} min", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder of generate.py")
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--checkpoints", type=pathlib.Path, required=True, help="resumed where it has one")
    parser.add_argument("--minutes", type=float, default=75.0, help="wall-clock budget, all runs together")
    parser.add_argument("--steps", type=int, default=0, help="budget in steps instead of minutes")
    parser.add_argument("--batch_rows", type=int, default=16)
    parser.add_argument("--muon_rate", type=float, default=0.02)
    parser.add_argument("--adam_rate", type=float, default=4e-3)
    parser.add_argument("--average_keep", type=float, default=0.99)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    options.checkpoints.mkdir(parents=True, exist_ok=True)
    group = Group()
    Trainer(options, group).run()
    group.close()


if __name__ == "__main__":
    main()
