"""Writes one exercise: signature, docstring in one of many styles, body; and checks it by running."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import keyword
import random
import re
from typing import Any

from exercises.family import KINDS, Family
from exercises.grammar import expand_split

ONE_NAME_IN = 6  # one function name in six is kept for evaluation,
ONE_PHRASE_IN = 6  # and one expanded phrase in six
STYLES = {"plain": 22, "lines": 14, "card": 22, "google": 9, "sphinx": 4, "doctest": 22, "arrow": 7}
# The Phi-1 card's own prompt; kept out of training, so that passing it is not recall of the prompt.
CARD_PROMPT = 'def print_prime(n):\n   """\n   Print all primes between 1 and n\n   """\n'


class BadExercise(Exception):
    """A family is wrong: its body does not do what its reference says."""


@dataclasses.dataclass(frozen=True)
class Exercise:
    """prompt + body is a whole program; `test` is in HumanEval's form, for `entry_point`."""

    family: str
    entry_point: str
    prompt: str
    body: str
    test: str


@dataclasses.dataclass(frozen=True)
class _Filled:
    """A family with names and constant chosen, before layout."""

    family: Family
    name: str
    arguments: tuple[str, ...]
    constant: Any
    phrase: str
    body: str
    cases: tuple[tuple[tuple, Any], ...]


def run_printing(function: Any, arguments: tuple) -> tuple[Any, str]:
    """Calls on a copy of the arguments; returns the result and what was printed."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        result = function(*copy.deepcopy(arguments))
    return result, output.getvalue()


def _choose_arguments(family: Family, rng: random.Random) -> tuple[str, ...]:
    taken = family.reserved_names()
    chosen: list[str] = []
    for argument in family.args:
        kind, _, own_names = argument.partition(":")
        names = own_names.split(",") if own_names else KINDS[kind].names
        free = [name for name in names if name not in taken and name not in chosen]
        chosen.append(rng.choice(free))
    return tuple(chosen)


def _fill(template: str, name: str, arguments: tuple[str, ...], constant: Any) -> str:
    text = template.replace("$f", name).replace("$K", str(constant))
    return re.sub(r"\$(\d)", lambda match: arguments[int(match.group(1))], text)


def _choose(family: Family, rng: random.Random, held_out: bool) -> _Filled | None:
    split = held_out and not family.held_out
    name = _expand_first(family.names, rng, split, ONE_NAME_IN, family.held_out)
    unseen = family.unseen_templates() if held_out else ()
    says = family.says if family.held_out else unseen or family.seen_templates()
    phrase_split = split and not unseen
    phrase = _expand_first(says, rng, phrase_split, ONE_PHRASE_IN, family.held_out or bool(unseen))
    if name is None or phrase is None:
        return None
    arguments = _choose_arguments(family, rng)
    constant = rng.choice(family.constants) if family.constants else None
    name = _fill(name, "", arguments, constant)
    body = rng.choice(family.bodies)
    if re.search(rf"\b{name}\(", body) or name in arguments or keyword.iskeyword(name):
        return None
    cases = []
    for _ in range(8):
        values = family.make_arguments(rng)
        cases.append((values, family.expected(copy.deepcopy(values), constant)))
    return _Filled(
        family=family,
        name=name,
        arguments=arguments,
        constant=constant,
        phrase=_fill(_completed(phrase, rng), name, arguments, constant),
        body=_fill(body, name, arguments, constant),
        cases=tuple(cases),
    )


def _completed(phrase: str, rng: random.Random) -> str:
    """Predicates may say what the other answer is."""
    if "True if" in phrase[:16] and rng.random() < 0.4:
        return phrase + rng.choice((", False otherwise", ", otherwise False", ", and False otherwise", " and False if not"))
    return phrase


def _expand_first(
    templates: tuple[str, ...], rng: random.Random, held_out: bool, one_in: int, any_side: bool
) -> str | None:
    for template in rng.sample(templates, len(templates)):
        text = expand_split(template, rng, held_out, one_in)
        if text is None and any_side:
            text = expand_split(template, rng, not held_out, one_in)
        if text is not None:
            return text
    return None


def _type_of(value: Any, modern: bool) -> str:
    if isinstance(value, list):
        inner = _type_of(value[0], modern) if value else "int"
        return f"{'list' if modern else 'List'}[{inner}]"
    if isinstance(value, dict):
        key, item = next(iter(value.items()), ("", 0))
        return f"{'dict' if modern else 'Dict'}[{_type_of(key, modern)}, {_type_of(item, modern)}]"
    return type(value).__name__


def _signature(filled: _Filled, rng: random.Random, style: str) -> tuple[str, str]:
    """Imports (or nothing) and the def line."""
    if rng.random() > (0.6 if style == "doctest" else 0.25):
        return "", f"def {filled.name}({', '.join(filled.arguments)}):"
    modern = rng.random() < 0.5
    hints = []
    for argument, name in zip(filled.family.args, filled.arguments):
        hint = KINDS[argument.partition(":")[0]].hint
        hints.append(f"{name}: {hint.replace('List', 'list').replace('Dict', 'dict') if modern else hint}")
    result = "None" if filled.family.prints else _type_of(_longest_result(filled), modern)
    line = f"def {filled.name}({', '.join(hints)}) -> {result}:"
    needed = [word for word in ("Dict", "List") if re.search(rf"\b{word}\[", line)]
    return (f"from typing import {', '.join(needed)}\n\n\n" if needed else ""), line


def _longest_result(filled: _Filled) -> Any:
    return max((expected for _, expected in filled.cases), key=lambda value: len(repr(value)))


def _examples(filled: _Filled, rng: random.Random, count: int) -> list[tuple[str, str]]:
    """Calls and results that are short enough to show."""
    shown: dict[str, str] = {}
    for values, expected in filled.cases:
        call = f"{filled.name}({', '.join(map(repr, values))})"
        text = expected.rstrip("\n") if filled.family.prints else repr(expected)
        if len(call) + len(text) < 90 and text:
            shown[call] = text
    return rng.sample(list(shown.items()), min(count, len(shown)))


def _docstring_lines(filled: _Filled, rng: random.Random, style: str) -> list[str]:
    """The docstring without indentation; the first line holds the opening quotes."""
    quote = "'''" if rng.random() < 0.04 and "'" not in filled.phrase else '"""'
    stop = "" if rng.random() < (0.5 if style == "card" else 0.15) else "."
    phrase = filled.phrase + stop
    if style == "plain":
        return [f"{quote}{phrase}{quote}"]
    if style in ("lines", "card"):
        return [quote, phrase, quote]
    if style == "google":
        meanings = [f"    {name}: {_meaning(filled, i)}" for i, name in enumerate(filled.arguments)]
        returns = [] if filled.family.prints else ["", "Returns:", f"    {_result_words(filled)}"]
        return [f"{quote}{phrase}", "", "Args:", *meanings, *returns, quote]
    if style == "sphinx":
        meanings = [f":param {name}: {_meaning(filled, i)}" for i, name in enumerate(filled.arguments)]
        returns = [] if filled.family.prints else [f":return: {_result_words(filled)}"]
        return [f"{quote}{phrase}", "", *meanings, *returns, quote]
    examples = _examples(filled, rng, rng.choice((1, 2, 2, 3)))
    if style == "doctest":
        lines = [line for call, text in examples for line in (f">>> {call}", *text.split("\n"))]
        head = [f"{quote} {phrase}"] if rng.random() < 0.45 else [f"{quote}{phrase}"]
        head = [quote, phrase] if rng.random() < 0.25 else head
        return [*head, *([""] if rng.random() < 0.3 else []), *lines, quote]
    if filled.family.prints:
        return [f"{quote}{phrase}", quote]
    form = rng.choice(("{} -> {}", "{} == {}", "{} returns {}", "{} => {}", "{} ➞ {}"))
    title = rng.choice((["Example:"], ["For example:"], ["Examples:"], []))
    return [f"{quote}{phrase}", *title, *(form.format(*example) for example in examples), quote]


def _meaning(filled: _Filled, index: int) -> str:
    kind = filled.family.args[index].partition(":")[0]
    return {
        "str": "a string.", "word": "a string.", "char": "a character.", "dict": "a dictionary.",
        "strs": "a list of strings.", "strs1": "a list of strings.", "matrix": "a list of lists.",
        "square": "a square matrix.", "sorted": "a sorted list of numbers.",
    }.get(kind, "a list of numbers." if KINDS[kind].hint.startswith("List") else "a number.")


def _result_words(filled: _Filled) -> str:
    words = {bool: "True or False.", int: "a number.", float: "a number.", str: "a string.",
             list: "a list.", dict: "a dictionary.", tuple: "a tuple."}
    return words[type(_longest_result(filled))]


def _indent(lines: list[str], by: str, unit: str) -> str:
    """Indents lines written with 4 spaces a level by `by`, with `unit` a level."""
    out = []
    for line in lines:
        depth = (len(line) - len(line.lstrip(" "))) // 4
        out.append(by + unit * depth + line.lstrip(" ") if line.strip() else "")
    return "\n".join(out)


def _check(filled: _Filled, source: str) -> None:
    namespace: dict[str, Any] = {}
    exec(compile(source, filled.family.key, "exec"), namespace)  # our own text, not a model's
    for values, expected in filled.cases[:4]:
        result, printed = run_printing(namespace[filled.name], values)
        if (printed if filled.family.prints else result) != expected:
            raise BadExercise(f"{filled.family.key}{values!r}: {result!r} / {printed!r} != {expected!r}\n{source}")


def _test_source(filled: _Filled) -> str:
    """HumanEval's form: check(candidate) raises where the candidate is wrong."""
    lines = []
    if filled.family.prints:
        lines += ["import contextlib", "import io", "", "", "def printed(candidate, *values):",
                  "    with contextlib.redirect_stdout(io.StringIO()) as output:",
                  "        candidate(*values)", "    return output.getvalue().split()", "", ""]
    lines.append("def check(candidate):")
    for values, expected in filled.cases:
        listed = ", ".join(map(repr, values))
        if filled.family.prints:
            lines.append(f"    assert printed(candidate, {listed}) == {expected.split()!r}")
        else:
            lines.append(f"    assert candidate({listed}) == {expected!r}")
    return "\n".join(lines) + "\n"


def render(family: Family, rng: random.Random, held_out: bool) -> Exercise | None:
    """One exercise from the wanted side of the split; None where the family has none there."""
    filled = _choose(family, rng, held_out)
    if filled is None:
        return None
    style = rng.choices(list(STYLES), list(STYLES.values()))[0]
    if style in ("google", "sphinx") and not family.args:
        style = "lines"  # they are about arguments
    unit = " " * rng.choice((3, 3, 3, 4, 4, 2) if style == "card" else (4,) * 12 + (2, 3))
    imports, signature = _signature(filled, rng, style)
    docstring = _indent(_docstring_lines(filled, rng, style), unit, unit)
    prompt = f"{imports}{signature}\n{docstring}\n"
    if prompt == CARD_PROMPT and not held_out:
        return None
    body = _indent(filled.body.split("\n"), unit, unit) + "\n"
    _check(filled, prompt + body)
    return Exercise(family.key, filled.name, prompt, body, _test_source(filled))
