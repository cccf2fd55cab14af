"""Log-probabilities over the public RPC against Hugging Face's, on random checkpoints of awkward shapes.

tests/golden/model_answers.json names the command and the versions that made the answers.
"""

import json

import pytest
from phi_client import ROOT
from phi_programs import Replica
from random_models import make_checkpoint, weights_sha256

CASES = json.loads((ROOT / "tests/golden/model_answers.json").read_text())["cases"]
TOLERANCE = 1e-4
TOP = 5


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_twenty_steps_match(case, tmp_path):
    model = make_checkpoint(tmp_path / "model", {"preset": "tiny", **case["shape"]}, case["seed"], case["num_real_tokens"], case["config_style"])
    assert weights_sha256(model) == case["weights_sha256"], "other weights than Hugging Face saw"
    world_size = min(2, case["shape"]["num_key_value_heads"])
    steps = case["steps"]
    with Replica(model, world_size) as replica:
        answer = replica.client.generate(
            case["prompt"], max_new_tokens=len(steps), ignore_eos=True, logprobs=TOP, temperature=0
        ).completions[0]
    assert len(answer.logprobs) == len(steps) == 20
    for number, (step, entry) in enumerate(zip(steps, answer.logprobs)):
        expected = dict(map(tuple, step["top"]))
        if step["margin"] <= TOLERANCE and entry.token_id != step["id"]:
            break  # a tie that the order of summation may turn; what follows has another prompt
        assert entry.token_id == step["id"], f"step {number}"
        assert abs(entry.logprob - step["logprob"]) <= TOLERANCE, f"step {number}"
        assert len(entry.top) == TOP
        for top in entry.top:
            assert abs(top.logprob - expected[top.token_id]) <= TOLERANCE, f"step {number}, id {top.token_id}"
