"""Writes the training text, the held-out text and the evaluation suites; seeded."""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import multiprocessing
import pathlib
import random
import sysconfig
import textwrap

from exercises.family import Family
from exercises.registry import HELD_OUT_FAMILIES, TRAINING_FAMILIES
from exercises.render import CARD_PROMPT, Exercise, render

SUITE_PROMPTS = 260
HELD_OUT_FAMILY_PROMPTS = 5  # of each held-out family
WEIGHTS = {"print_prime": 5.0}  # the card's own prompt is a requirement, so its family is drawn more


def _draw(family: Family, rng: random.Random, held_out: bool) -> Exercise | None:
    for _ in range(20):
        exercise = render(family, rng, held_out)
        if exercise is not None:
            return exercise
    return None


def _training_texts(job: tuple[int, int]) -> list[str]:
    """`count` samples from the seen side of the split."""
    seed, count = job
    rng = random.Random(seed)
    weights = [WEIGHTS.get(family.key, 1.0) for family in TRAINING_FAMILIES]
    texts = []
    for family in rng.choices(TRAINING_FAMILIES, weights, k=count):
        exercise = _draw(family, rng, held_out=False)
        if exercise is not None:
            texts.append(exercise.prompt + exercise.body)
    return texts


def _library_texts(limit: int, rng: random.Random) -> list[str]:
    """Short documented functions of the standard library of this Python."""
    texts = []
    root = pathlib.Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.glob("*.py")) + sorted(root.glob("[a-z]*/*.py")):
        if "test" in path.parts or "site-packages" in path.parts:
            continue
        try:
            source = path.read_text(encoding="utf-8")
            tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
                text = ast.get_source_segment(source, node, padded=True) or ""
                if 150 <= len(text) <= 1300:
                    texts.append(inspect.cleandoc("\n" + textwrap.dedent(text)) + "\n")
    texts = sorted(set(texts))
    rng.shuffle(texts)
    return texts[:limit]


def _suite(families: tuple[Family, ...], per_family: int, limit: int, name: str, seed: int) -> list[dict]:
    """Prompts in HumanEval's form, with the family beside them."""
    rng = random.Random(seed)
    problems, prompts = [], set()
    for _ in range(per_family):
        for family in rng.sample(families, len(families)):
            exercise = _draw(family, rng, held_out=True)
            if exercise is None or exercise.prompt in prompts or len(problems) == limit:
                continue
            prompts.add(exercise.prompt)
            problems.append({
                "task_id": f"{name}/{len(problems)}", "family": exercise.family, "prompt": exercise.prompt,
                "entry_point": exercise.entry_point, "canonical_solution": exercise.body, "test": exercise.test,
            })
    return problems


def _card_suite() -> list[dict]:
    family = next(f for f in TRAINING_FAMILIES if f.key == "print_prime")
    exercise = next(e for e in (_draw(family, random.Random(s), True) for s in range(99)) if e)
    return [{
        "task_id": "card/0", "family": "print_prime", "prompt": CARD_PROMPT, "entry_point": "print_prime",
        "canonical_solution": exercise.body, "test": exercise.test,
    }]


def write_suites(folder: pathlib.Path, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    suites = {
        "unseen_names": _suite(TRAINING_FAMILIES, 1, SUITE_PROMPTS, "unseen_names", seed + 1),
        "unseen_families": _suite(HELD_OUT_FAMILIES, HELD_OUT_FAMILY_PROMPTS, 1000, "unseen_families", seed + 2),
        "card": _card_suite(),
    }
    for name, problems in suites.items():
        lines = "".join(json.dumps(problem) + "\n" for problem in problems)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        print(f"{name}: {len(problems)} prompts of {len({p['family'] for p in problems})} families")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the texts")
    parser.add_argument("--suites", type=pathlib.Path, required=True, help="folder for the evaluation suites")
    parser.add_argument("--samples", type=int, default=240_000)
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    jobs = [(options.seed * 1000 + i, 2000) for i in range(options.samples // 2000)]
    with multiprocessing.Pool(2) as pool:
        texts = [text for part in pool.map(_training_texts, jobs) for text in part]
    library = _library_texts(6000, rng)
    held_out = [p["prompt"] + p["canonical_solution"]
                for p in _suite(TRAINING_FAMILIES, 2, 500, "held_out", options.seed + 3)]
    unique = list(dict.fromkeys(texts))
    mixed = unique + library
    rng.shuffle(mixed)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", mixed), ("held_out", held_out)):
        lines = "".join(json.dumps(text) + "\n" for text in part)
        (options.out / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    characters = sum(map(len, mixed))
    print(f"{len(TRAINING_FAMILIES)} training families, {len(HELD_OUT_FAMILIES)} held out")
    print(f"{len(unique)} exercises ({len(texts)} drawn), {len(library)} library functions, {characters} characters")
    write_suites(options.suites, options.seed)


if __name__ == "__main__":
    main()
