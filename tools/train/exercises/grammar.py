"""Small phrase grammar: `[a|b]` picks one, `<name>` is a macro; and the split into seen and held out.

Phrases and function names are written once as templates. Which *expanded* strings are held out is
decided by their hash, so the split does not depend on seeds, on the order of generation or on how
many samples are drawn.
"""

from __future__ import annotations

import hashlib
import random
import re

MACROS = {
    "g": "[get_|compute_|calculate_|find_||||]",
    "is": "[is_|is_|is_a_|check_|check_if_|test_]",
    "of": "[|||_in_list|_of_list|_in_array]",
    "ret": "[Return|Returns|Compute|Calculate|Find|Get|Compute and return|Calculate and return]",
    "give": "[Return|Returns|Get|Give back|Build and return|Create]",
    "check": "[Check whether|Check if|Return True if|Determine whether|Determine if|Test whether"
    "|Tell whether|Returns True if]",
    "count": "[Count|Return|Return the number of|Find the number of|Count the number of]",
    "nums": "[numbers|values|elements|integers|items]",
    "list": "[list|array|sequence|list of numbers|list of integers]",
    "given": "[given |input ||]",
    "string": "[string|text]",
    "all": "[all |all the |the ||every one of the ]",
    "inlist": "[in the <given>list|in $0|of $0|in the list $0|of the <given>list|in a list"
    "|of a list of numbers|in the <given>array|of an array]",
    "instr": "[in the <given><string>|in $0|in a string|of $0|in the string $0]",
    "thestr": "[the <given>string|a string|$0|the string $0|the <given>text]",
    "thelist": "[the <given>list|a list|$0|the list $0|the <given>array]",
}

_MACRO = re.compile(r"<([a-z]+)>")
_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")


def _substitute_macros(template: str) -> str:
    while (match := _MACRO.search(template)) is not None:
        template = template[: match.start()] + MACROS[match.group(1)] + template[match.end() :]
    return template


def expand(template: str, rng: random.Random) -> str:
    """One random expansion; innermost choices first, spaces tidied."""
    text = _substitute_macros(template)
    while (match := _CHOICE.search(text)) is not None:
        text = text[: match.start()] + rng.choice(match.group(1).split("|")) + text[match.end() :]
    return re.sub(r" +", " ", text).strip()


def is_held_out(text: str, one_in: int) -> bool:
    """True for one in `one_in` strings, by SHA-256 of the expanded, unfilled string."""
    return hashlib.sha256(text.encode()).digest()[0] % one_in == 0


def expand_split(template: str, rng: random.Random, held_out: bool, one_in: int) -> str | None:
    """An expansion from the wanted side of the split, or None where none was found."""
    for _ in range(40):
        text = expand(template, rng)
        if is_held_out(text, one_in) == held_out:
            return text
    return None
