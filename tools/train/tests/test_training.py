"""Packing, schedule, tokenizer and export; needs the packages of requirements.txt."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
numpy = pytest.importorskip("numpy")

import packing  # noqa: E402
from export import save_model  # noqa: E402
from phi_model import PhiNano, PhiNanoConfig  # noqa: E402
from train_model import Batches, rate_factor  # noqa: E402
from train_tokenizer import train  # noqa: E402

TEXTS = ["def f(x):\n    return x + 1\n", "def g(a, b):\n\t\treturn a * b  # größer\n"] * 20


class _Alone:
    size, rank = 1, 0


def _documents(count):
    rng = numpy.random.default_rng(5)
    return [rng.integers(1, 99, rng.integers(2, 40)).astype(numpy.int16) for _ in range(count)]


def test_packing_keeps_every_token_once():
    documents = _documents(300)
    rows = packing.pack(documents, 64, numpy.random.default_rng(1))
    used = rows.document_ids >= 0
    assert used.sum() == sum(map(len, documents))
    assert sorted(rows.inputs[used]) == sorted(numpy.concatenate(documents))
    assert (rows.targets != packing.NO_TARGET).sum() == sum(len(d) - 1 for d in documents)
    assert used.mean() > 0.9


def test_targets_follow_inputs_inside_a_document():
    rows = packing.pack(_documents(50), 64, numpy.random.default_rng(2))
    for inputs, targets, ids in zip(rows.inputs, rows.targets, rows.document_ids):
        for i in range(63):
            if targets[i] != packing.NO_TARGET:
                assert ids[i] == ids[i + 1] and targets[i] == inputs[i + 1]


def test_batches_are_the_same_after_a_resume():
    straight = Batches(_documents(200), 64, 4, 3, _Alone)
    expected = [straight.get(step) for step in range(60)][-1]
    resumed = Batches(_documents(200), 64, 4, 3, _Alone).get(59)
    assert all(torch.equal(a, b) for a, b in zip(expected, resumed))


def test_schedule_warms_up_stays_and_decays():
    factors = [rate_factor(done / 100) for done in range(101)]
    assert factors[0] < 0.1 and factors[50] == 1.0 and factors[-1] == 0.0
    assert factors[70:] == sorted(factors[70:], reverse=True)


def test_tokenizer_round_trip_and_added_tokens(tmp_path):
    tokenizer = train(TEXTS)
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text
    assert "    " in tokenizer.encode(TEXTS[0]).tokens and "\t\t" in tokenizer.encode(TEXTS[1]).tokens


def test_export_is_what_transformers_computes(tmp_path):
    torch.manual_seed(0)
    config = PhiNanoConfig(
        vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2, max_position_embeddings=64
    )
    model = PhiNano(config).to(torch.bfloat16).to(torch.float32)  # as it will be stored
    train(TEXTS).save(str(tmp_path / "t.json"))
    save_model(model, config, 7, tmp_path / "t.json", tmp_path / "model")
    other = transformers.PhiForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    ids = torch.randint(0, 320, (2, 40))
    with torch.no_grad():
        torch.testing.assert_close(model(ids, torch.zeros_like(ids)), other(ids).logits, rtol=1e-4, atol=1e-4)
        alone = model(ids[:, 20:], torch.zeros_like(ids[:, 20:]))
        mixed = model(ids, (torch.arange(40) >= 20).long().expand(2, 40))
        torch.testing.assert_close(mixed[:, 20:], alone, rtol=1e-4, atol=1e-4)
    assert other.config.eos_token_id == 7
