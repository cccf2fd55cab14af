#!/usr/bin/env python3
"""Writes what Hugging Face's PhiForCausalLM answers in float32, for tests to compare with.

    tools/golden/model_golden.py --make_checkpoint build/release/bin/make_checkpoint \\
        --out tests/golden/model_answers.json

Needs torch, transformers and safetensors; the versions that were used are in the file. Checkpoints are
not stored: tools/make_checkpoint makes the same bytes from the same numbers on every machine, and the
SHA-256 of the weights is compared before an answer is.

For each case: a prompt, and 20 greedy steps. A step has the chosen id, its margin (its logit less the
second one), its log-probability and the 20 most likely ids with theirs. Log-probabilities are the
log-softmax over all rows of the head; padding rows (ids >= num_real_tokens) are never chosen or listed.
"""

import argparse
import hashlib
import json
import pathlib
import platform
import random
import subprocess
import tempfile

import torch
import transformers

NUM_STEPS = 20
NUM_TOP = 20

# Shapes chosen to be awkward: head sizes that no vector divides, vocabularies and MLPs that no panel divides, fewer
# key-value heads than heads, rotary dimensions from 2 to the whole head, head_dim other than hidden_size / heads.
SHAPE = dict(num_hidden_layers=2, max_position_embeddings=256, partial_rotary_factor=0.5, rope_theta=10000.0,
             layer_norm_eps=1e-5, tie_word_embeddings=False, dtype="float32")
CASES = [
    dict(name="grouped_heads_of_20", prompt_tokens=7, num_real_tokens=1000, config_style="rope_parameters",
         shape=dict(vocab_size=1009, hidden_size=60, intermediate_size=137, num_attention_heads=3,
                    num_key_value_heads=1, head_dim=20)),
    dict(name="tied_heads_of_24", prompt_tokens=16, num_real_tokens=515, config_style="top",
         shape=dict(vocab_size=515, hidden_size=96, intermediate_size=100, num_attention_heads=4,
                    num_key_value_heads=4, head_dim=24, partial_rotary_factor=0.25, tie_word_embeddings=True)),
    dict(name="heads_of_80_as_phi_2", prompt_tokens=17, num_real_tokens=1990, config_style="rope_parameters",
         shape=dict(vocab_size=2000, hidden_size=160, intermediate_size=640, num_attention_heads=2,
                    num_key_value_heads=2, head_dim=80, partial_rotary_factor=0.4)),
    dict(name="rotary_of_2", prompt_tokens=1, num_real_tokens=700, config_style="rope_parameters",
         shape=dict(vocab_size=777, hidden_size=60, intermediate_size=240, num_attention_heads=5,
                    num_key_value_heads=5, head_dim=12, partial_rotary_factor=0.17)),
    dict(name="float16_whole_heads_rotated", prompt_tokens=33, num_real_tokens=320, config_style="top",
         shape=dict(vocab_size=331, hidden_size=64, intermediate_size=144, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16, partial_rotary_factor=1.0, dtype="float16")),
    dict(name="bfloat16_wider_heads", prompt_tokens=20, num_real_tokens=1201, config_style="rope_parameters",
         shape=dict(vocab_size=1217, hidden_size=72, intermediate_size=250, num_attention_heads=6,
                    num_key_value_heads=3, head_dim=20, rope_theta=500.0, layer_norm_eps=1e-3, dtype="bfloat16")),
    dict(name="five_layers_200_positions", prompt_tokens=200, num_real_tokens=1024, config_style="rope_parameters",
         shape=dict(vocab_size=1040, hidden_size=128, intermediate_size=512, num_hidden_layers=5,
                    num_attention_heads=8, num_key_value_heads=8, head_dim=16)),
]


def make_checkpoint(program, case, directory):
    flags = [f"--seed={case['seed']}", f"--config_style={case['config_style']}", "--quiet"]
    for name, value in case["shape"].items():
        if value is True:
            flags.append(f"--{name}")
        elif value is not False:
            flags.append(f"--{name}={value}")
    subprocess.run([program, str(directory), *flags], check=True)


def step_answer(logits, num_real):
    """The greedy choice on the last row's `logits` and what surrounds it."""
    logprobs = torch.log_softmax(logits.double(), dim=-1)
    real = logits[:num_real]
    # Ties are broken by the lowest id, as the sampler does it.
    order = sorted(range(num_real), key=lambda i: (-real[i].item(), i))
    chosen, second = order[0], order[1]
    return dict(id=chosen, margin=round((real[chosen] - real[second]).item(), 7), logprob=round(logprobs[chosen].item(), 7),
                top=[[i, round(logprobs[i].item(), 7)] for i in order[:NUM_TOP]])


@torch.no_grad()
def greedy_answers(model, prompt, num_real):
    steps, deviations = [], []
    ids = list(prompt)
    for _ in range(NUM_STEPS):
        logits = model(torch.tensor([ids])).logits[0, -1]
        deviations.append(logits.double().std().item())
        steps.append(step_answer(logits, num_real))
        ids.append(steps[-1]["id"])
    return steps, sum(deviations) / len(deviations)


def answer_case(program, index, case):
    case = dict(case, seed=1000 + index, shape={**SHAPE, **case["shape"]})
    rng = random.Random(case["seed"])
    case["prompt"] = [rng.randrange(case["num_real_tokens"]) for _ in range(case.pop("prompt_tokens"))]
    with tempfile.TemporaryDirectory() as directory:
        make_checkpoint(program, case, directory)
        weights = (pathlib.Path(directory) / "model.safetensors").read_bytes()
        model = transformers.PhiForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    assert model.dtype == torch.float32
    case["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    case["steps"], deviation = greedy_answers(model.eval(), case["prompt"], case["num_real_tokens"])
    case["logit_deviation"] = round(deviation, 4)
    print(f"{case['name']}: logits of deviation {deviation:.2f}, ids {[s['id'] for s in case['steps']]}, "
          f"smallest margin {min(s['margin'] for s in case['steps'])}")
    return case


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make_checkpoint", required=True, help="the program of that name")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    answers = dict(
        command="tools/golden/model_golden.py --make_checkpoint build/release/bin/make_checkpoint"
                " --out tests/golden/model_answers.json",
        versions=dict(python=platform.python_version(), torch=torch.__version__,
                      transformers=transformers.__version__),
        cases=[answer_case(args.make_checkpoint, index, case) for index, case in enumerate(CASES)])
    # A step a line: small, and a change shows where it is.
    text = json.dumps(answers, separators=(",", ":")).replace('{"id"', '\n{"id"').replace('{"name"', '\n{"name"')
    args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
