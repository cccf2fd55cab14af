"""What a family of exercises is, and the registry that the families_*.py files fill."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable
from typing import Any

WORDS = (
    "apple banana cherry date fig grape kiwi lemon mango olive peach plum level radar noon hello "
    "world python code data tree river stone cloud moon star light green blue red cat dog bird "
    "fish horse mouse lion tiger a bc aab zebra abba hat sun book table chair"
).split()


def _ints(rng: random.Random, low: int = 0) -> list[int]:
    return [rng.randint(-20, 30) for _ in range(rng.randint(low, 7))]


def _text(rng: random.Random) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.randint(1, 4))]
    words = [rng.choice((w, w, w.capitalize(), w.upper(), w + str(rng.randint(0, 9)))) for w in words]
    return " ".join(words)


def _matrix(rng: random.Random, square: bool) -> list[list[int]]:
    rows = rng.randint(1, 3)
    columns = rows if square else rng.randint(1, 3)
    return [[rng.randint(-5, 9) for _ in range(columns)] for _ in range(rows)]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of argument: its names, its type hint, and how a random value is made."""

    names: tuple[str, ...]
    hint: str
    make: Callable[[random.Random], Any]


_LIST_NAMES = tuple("nums numbers values lst arr data items xs array integers elements seq".split())
_TEXT_NAMES = tuple("s text string word sentence txt st phrase message input_string".split())
_INT_NAMES = tuple("n num number x k value m".split())
_WORDS_NAMES = tuple("words strings items names texts lst tokens values strs".split())
_DICT_NAMES = tuple("d mapping data dictionary dct table counts scores".split())
_MATRIX_NAMES = tuple("matrix grid mat rows table m".split())

KINDS = {
    "ints": Kind(_LIST_NAMES, "List[int]", _ints),
    "ints1": Kind(_LIST_NAMES, "List[int]", lambda r: _ints(r, 1)),
    "ints2": Kind(_LIST_NAMES, "List[int]", lambda r: r.sample(range(-20, 40), r.randint(2, 7))),
    "digits": Kind(
        _LIST_NAMES, "List[int]", lambda r: [r.randint(0, 4) for _ in range(r.randint(1, 8))]
    ),
    "sorted": Kind(_LIST_NAMES, "List[int]", lambda r: sorted(r.sample(range(-9, 40), 6))),
    "positives": Kind(
        _LIST_NAMES, "List[int]", lambda r: [r.randint(1, 20) for _ in range(r.randint(1, 6))]
    ),
    "strs": Kind(
        _WORDS_NAMES, "List[str]", lambda r: [r.choice(WORDS) for _ in range(r.randint(0, 6))]
    ),
    "strs1": Kind(
        _WORDS_NAMES, "List[str]", lambda r: [r.choice(WORDS) for _ in range(r.randint(1, 6))]
    ),
    "str": Kind(_TEXT_NAMES, "str", _text),
    "word": Kind(_TEXT_NAMES, "str", lambda r: r.choice(WORDS)),
    "char": Kind(tuple("ch char letter c".split()), "str", lambda r: r.choice("aeioulnt")),
    "int": Kind(_INT_NAMES, "int", lambda r: r.randint(0, 15)),
    "pos": Kind(_INT_NAMES, "int", lambda r: r.randint(1, 30)),
    "big": Kind(_INT_NAMES, "int", lambda r: r.choice((r.randint(0, 99), r.randint(100, 99999)))),
    "small": Kind(_INT_NAMES, "int", lambda r: r.randint(0, 8)),
    "any": Kind(_INT_NAMES, "int", lambda r: r.randint(-30, 60)),
    "dict": Kind(
        _DICT_NAMES,
        "Dict[str, int]",
        lambda r: {r.choice(WORDS): r.randint(0, 20) for _ in range(r.randint(1, 5))},
    ),
    "matrix": Kind(_MATRIX_NAMES, "List[List[int]]", lambda r: _matrix(r, square=False)),
    "square": Kind(_MATRIX_NAMES, "List[List[int]]", lambda r: _matrix(r, square=True)),
}


@dataclasses.dataclass(frozen=True)
class Family:
    """One exercise in all its disguises.

    names, says: grammar templates (grammar.py). In `says` and `bodies`, $0, $1 are the arguments,
    $f is the function's name, $K the constant. `args` is one word per argument: a kind, or
    `kind:name,name` to give its own names. `ref` computes the expected answer without the body.
    The last of five or more phrase templates is never trained on.
    """

    key: str
    names: tuple[str, ...]
    args: tuple[str, ...]
    says: tuple[str, ...]
    bodies: tuple[str, ...]
    ref: Callable[..., Any]
    make: Callable[[random.Random], tuple] | None = None
    constants: tuple[Any, ...] = ()
    prints: bool = False
    held_out: bool = False

    def reserved_names(self) -> set[str]:
        """Identifiers that the bodies use themselves, so that no argument takes them."""
        return set(re.findall(r"(?<!\$)\b[a-z_]\w*", "\n".join(self.bodies)))

    def seen_templates(self) -> tuple[str, ...]:
        return self.says[:-1] if len(self.says) >= 5 else self.says

    def unseen_templates(self) -> tuple[str, ...]:
        return self.says[-1:] if len(self.says) >= 5 else ()

    def make_arguments(self, rng: random.Random) -> tuple:
        if self.make is not None:
            return self.make(rng)
        return tuple(KINDS[arg.split(":")[0]].make(rng) for arg in self.args)

    def expected(self, arguments: tuple, constant: Any) -> Any:
        if self.constants:
            return self.ref(*arguments, constant)
        return self.ref(*arguments)


REGISTRY: list[Family] = []


def _clean(body: str) -> str:
    lines = body.strip("\n").split("\n")
    margin = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[margin:] for line in lines).rstrip()


def family(
    key: str, names: str, args: str, says: list[str], body: str | tuple[str, ...], ref: Any, **more: Any
) -> None:
    """Adds a family; `body` is one canonical body or a few, indented as one likes."""
    bodies = (body,) if isinstance(body, str) else body
    if any(other.key == key for other in REGISTRY):
        raise ValueError(f"family {key} is registered twice")
    REGISTRY.append(
        Family(
            key=key,
            names=tuple(names.split()),
            args=tuple(args.split()),
            says=tuple(says),
            bodies=tuple(_clean(b) for b in bodies),
            ref=ref,
            **more,
        )
    )
