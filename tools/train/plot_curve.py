"""Draws the loss curve of a training run from its progress.json."""

from __future__ import annotations

import argparse
import json
import pathlib

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (the backend must be chosen first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--progress", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    progress = json.loads(options.progress.read_text(encoding="utf-8"))
    steps, loss, held_out = zip(*progress["curve"])
    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.plot(steps, loss, label="training")
    axes.plot(steps, held_out, label="held-out names and phrasings (averaged weights)")
    axes.set(xlabel="step", ylabel="loss (nats per token)", yscale="log",
             title=f"phi-nano: {progress['tokens'] / 1e6:.1f} M tokens in {progress['seconds'] / 60:.0f} min")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(options.out, dpi=90)


if __name__ == "__main__":
    main()
