#!/usr/bin/env python3
"""Writes which tokens Hugging Face's logits processors leave of seeded logits, and how likely each is.

    tools/golden/sampler_vectors.py --out tests/golden/sampler_vectors.json

Needs torch and transformers; the versions that were used are in the file. The processors run in the order of
docs/api.md: RepetitionPenalty, SequenceBias (one token each: a logit bias), MinNewTokensLength (EOS), SuppressTokens
(padding rows), Temperature, TopK, TopP, MinP. Hugging Face has none for frequency and presence penalties, so they are
not in here.

No case is a matter of ties or of rounding: logits that decide differ by 1e-3, and masses keep 1e-4 from top_p and
min_p. Temperature 0 is Hugging Face's greedy search: the highest score after the processors before Temperature.
"""

import argparse
import json
import pathlib
import platform

import torch
import transformers
from transformers import generation

VOCAB_SIZE = 40
NUM_REAL = 37
EOS = 5
NUM_CASES = 40
PROMPT_TOKENS = 6
OUTPUT_TOKENS = 5


def pick(random, *values):
    return values[int(torch.randint(len(values), (), generator=random))]


def as_float32(value):
    return float(torch.tensor(value, dtype=torch.float32))


def make_case(random):
    # A shuffled ladder with steps of at least 0.02: random, and without ties.
    steps = 0.02 + torch.rand(VOCAB_SIZE, generator=random) * 0.2
    logits = (steps.cumsum(0) - 3)[torch.randperm(VOCAB_SIZE, generator=random)]
    ids = torch.randint(NUM_REAL, (PROMPT_TOKENS + OUTPUT_TOKENS,), generator=random).tolist()
    biased = torch.randperm(NUM_REAL, generator=random)[:pick(random, 0, 0, 3)].tolist()
    return dict(
        logits=[round(logit, 6) for logit in logits.tolist()], history=ids, num_prompt_tokens=PROMPT_TOKENS,
        mask_eos=pick(random, False, True),
        temperature=as_float32(pick(random, 0.0, 0.5, 0.7, 0.8, 1.0, 1.3, 2.0)),
        top_k=pick(random, 0, 0, 1, 4, 20, 30),
        top_p=as_float32(pick(random, 1.0, 1.0, 0.6, 0.9, 0.97)),
        min_p=as_float32(pick(random, 0.0, 0.0, 0.02, 0.1)),
        repetition_penalty=as_float32(pick(random, 1.0, 0.8, 1.2, 1.9)),
        logit_bias=[[i, as_float32(pick(random, -100.0, -1.5, 0.75, 3.0))] for i in biased])


def processors(case):
    """Those that change scores, and those that cut the distribution."""
    sequence = len(case["history"])
    adjust = [generation.RepetitionPenaltyLogitsProcessor(case["repetition_penalty"])]
    if case["logit_bias"]:
        adjust.append(generation.SequenceBiasLogitsProcessor([[[i], bias] for i, bias in case["logit_bias"]]))
    # The output is too short by one token where EOS is masked, and long enough where it is not.
    least = sequence - case["num_prompt_tokens"] + (1 if case["mask_eos"] else 0)
    adjust.append(generation.MinNewTokensLengthLogitsProcessor(case["num_prompt_tokens"], least, EOS))
    adjust.append(generation.SuppressTokensLogitsProcessor(list(range(NUM_REAL, VOCAB_SIZE))))
    if case["temperature"] == 0:
        return adjust, []
    cut = [generation.TemperatureLogitsWarper(case["temperature"])]
    if case["top_k"] > 0:
        cut.append(generation.TopKLogitsWarper(case["top_k"]))
    if case["top_p"] < 1:
        cut.append(generation.TopPLogitsWarper(case["top_p"]))
    if case["min_p"] > 0:
        cut.append(generation.MinPLogitsWarper(case["min_p"]))
    return adjust, cut


def is_clear(case, scores, cut):
    """Whether rounding decides nothing."""
    finite = scores[0][torch.isfinite(scores[0])].double().sort(descending=True).values
    if bool((finite[:-1] - finite[1:] < 1e-3).any()):
        return False
    if not cut:
        return True
    shares = (finite / case["temperature"])[:case["top_k"] or None].softmax(0)
    at_top_p = (shares.cumsum(0) - case["top_p"]).abs().min() if case["top_p"] < 1 else 1
    return at_top_p > 1e-4 and (shares / shares[0] - case["min_p"]).abs().min() > 1e-4


def answer(case):
    """[[id, probability], ...], the most likely first; None where the case is not clear."""
    ids = torch.tensor([case["history"]])
    scores = torch.tensor([case["logits"]], dtype=torch.float32)
    adjust, cut = processors(case)
    for processor in adjust:
        scores = processor(ids, scores)
    if not is_clear(case, scores, cut):
        return None
    if not cut:
        return [[int(scores[0].argmax()), 1.0]]
    for processor in cut:
        scores = processor(ids, scores)
    shares = scores[0].double().softmax(0)
    kept = [i for i in shares.argsort(descending=True).tolist() if torch.isfinite(scores[0][i])]
    return [[i, round(shares[i].item(), 9)] for i in kept]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    random = torch.Generator().manual_seed(5)
    cases = []
    while len(cases) < NUM_CASES:
        case = make_case(random)
        case["kept"] = answer(case)
        if case["kept"]:
            cases.append(case)
    head = dict(command=f"tools/golden/sampler_vectors.py --out {args.out}",
                versions=dict(python=platform.python_version(), torch=torch.__version__,
                              transformers=transformers.__version__),
                vocab_size=VOCAB_SIZE, num_real_tokens=NUM_REAL, eos_token_id=EOS)
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    args.out.write_text(json.dumps(head, separators=(",", ":"))[:-1] + ',"cases":[\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
