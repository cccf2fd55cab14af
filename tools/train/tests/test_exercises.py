"""The generator: every family works, and the held-out side stays out of training."""

import json
import pathlib
import random

import pytest

from exercises import render as rendering
from exercises.family import Family
from exercises.grammar import expand, is_held_out
from exercises.registry import HELD_OUT_FAMILIES, TRAINING_FAMILIES
from exercises.render import CARD_PROMPT, BadExercise, render
from generate import write_suites

SUITES = pathlib.Path(__file__).resolve().parent.parent / "suites"


@pytest.mark.parametrize("family", TRAINING_FAMILIES + HELD_OUT_FAMILIES, ids=lambda family: family.key)
def test_exercises_pass_their_own_test(family):
    rng = random.Random(family.key)
    for exercise in filter(None, (render(family, rng, family.held_out) for _ in range(6))):
        namespace = {}
        exec(exercise.prompt + exercise.body + "\n" + exercise.test, namespace)
        namespace["check"](namespace[exercise.entry_point])


def test_enough_families():
    assert len(TRAINING_FAMILIES) >= 60
    assert len(HELD_OUT_FAMILIES) >= 6


def test_wrong_body_is_refused():
    wrong = Family(
        key="wrong", names=("twice_it",), args=("any",), says=("Double $0",), bodies=("return $0 + 3",),
        ref=lambda n: 2 * n, held_out=True,
    )
    with pytest.raises(BadExercise):
        for seed in range(5):
            render(wrong, random.Random(seed), held_out=True)


def test_training_names_and_phrases_are_from_the_seen_side():
    rng = random.Random(1)
    family = next(f for f in TRAINING_FAMILIES if f.key == "sum_list")
    for _ in range(200):
        exercise = render(family, rng, held_out=False)
        if exercise is not None:
            assert not is_held_out(exercise.entry_point, rendering.ONE_NAME_IN)


def test_card_prompt_is_never_trained_on(monkeypatch):
    family = next(f for f in TRAINING_FAMILIES if f.key == "print_prime")
    body = family.bodies[0].replace("$0", "n")
    filled = rendering._Filled(
        family, "print_prime", ("n",), None, "Print all primes between 1 and n", body, (((7,), "2\n3\n5\n7\n"),)
    )
    monkeypatch.setattr(rendering, "_choose", lambda *_: filled)
    monkeypatch.setattr(rendering, "STYLES", {"card": 1})
    trained = [render(family, random.Random(seed), held_out=False) for seed in range(100)]
    asked = [render(family, random.Random(seed), held_out=True) for seed in range(100)]
    assert any(exercise.prompt == CARD_PROMPT for exercise in asked)
    assert all(exercise.prompt != CARD_PROMPT for exercise in trained if exercise)


def test_grammar_expands_nested_choices():
    assert expand("a [b|b [c|c]] <nums>", random.Random(3)).split()[0] == "a"
    assert "[" not in expand("<ret> the [sum|total] of <all>x <inlist>", random.Random(4))


def test_committed_suites_are_what_the_generator_writes(tmp_path):
    write_suites(tmp_path, seed=20)
    for name in ("unseen_names", "unseen_families", "card"):
        assert (tmp_path / f"{name}.jsonl").read_text() == (SUITES / f"{name}.jsonl").read_text()


def test_suites_are_large_enough_and_held_out():
    names = [json.loads(line) for line in (SUITES / "unseen_names.jsonl").open()]
    families = [json.loads(line) for line in (SUITES / "unseen_families.jsonl").open()]
    assert len(names) >= 200 and len(families) >= 50
    assert {p["family"] for p in families} == {f.key for f in HELD_OUT_FAMILIES}
    plain = [p for p in names if not any(c.isdigit() for c in p["entry_point"])]  # no constant filled in
    assert all(is_held_out(p["entry_point"], rendering.ONE_NAME_IN) for p in plain)
