"""Families made of two halves: a condition on an element, and what is done with the elements it picks.

A few cells of these grids are held out as families: their halves are known from other cells, the
combination is not.
"""

from __future__ import annotations

import math

from exercises.family import family

_N = "[numbers|values|elements|integers]"

_NUMBER_CONDITIONS = {
    "even": ("even", "num % 2 == 0", lambda i, k: i % 2 == 0, ()),
    "odd": ("odd", "num % 2 == 1", lambda i, k: i % 2 == 1, ()),
    "positive": ("positive", "num > 0", lambda i, k: i > 0, ()),
    "negative": ("negative", "num < 0", lambda i, k: i < 0, ()),
    "divisible": ("divisible_by_$K", "num % $K == 0", lambda i, k: i % k == 0, (3, 4, 5, 6, 7, 10)),
    "above": ("[above|over|greater_than]_$K", "num > $K", lambda i, k: i > k, (5, 10, 20, 100)),
}
_AFTER = {  # how a condition reads after "numbers"
    "divisible": "[divisible by $K|that are divisible by $K|that are multiples of $K]",
    "above": "[greater than $K|that are greater than $K|larger than $K|above $K]",
}

# action: function name, phrase before "numbers", body, reference on the picked list (and the whole).
_NUMBER_ACTIONS = {
    "sum": ("[sum|total|add]", ("<ret> the [sum|total] of", "[Sum|Add|Add up]"),
            "total = 0\nfor num in $0:\n    if {}:\n        total += num\nreturn total", lambda picked, v: sum(picked)),
    "product": ("[product|multiply|prod]", ("<ret> the product of", "Multiply [together |]"),
                "product = 1\nfor num in $0:\n    if {}:\n        product *= num\nreturn product", lambda picked, v: math.prod(picked)),
    "count": ("[count|number_of|num|how_many]", ("[Count|Return the number of|Find the number of]", "[Count the number of|Return the count of]"),
              "count = 0\nfor num in $0:\n    if {}:\n        count += 1\nreturn count", lambda picked, v: len(picked)),
    "filter": ("[filter|keep|select|only|list]", ("<give> a [new |]list [of|with]", "[Keep only|Select|Filter]"),
               "return [num for num in $0 if {}]", lambda picked, v: picked),
    "remove": ("[remove|drop|delete|without]", ("[Remove|Delete|Drop]", "<give> a [copy of the list|new list] without"),
               "return [num for num in $0 if not ({})]", lambda picked, v: [i for i in v if i not in picked]),
    "max": ("[max|largest|biggest]", ("<ret> the [largest|biggest|maximum] of", "Find the [largest|biggest] of"),
            "return max(num for num in $0 if {})", lambda picked, v: max(picked)),
}
_QUANTIFIERS = {
    "any": ("[any|has|contains|some]", "<check> [any|some] [number|value|element] <inlist> is", "<check> [any|some] of the numbers <inlist> is",
            "return any({} for num in $0)", lambda picked, v: bool(picked)),
    "all": ("[all|all_are|every|only_has]", "<check> [each|every] [number|value|element] <inlist> is", "<check> [all|all the] [numbers|values|elements] <inlist> are",
            "return all({} for num in $0)", lambda picked, v: len(picked) == len(v)),
}
HELD_OUT_CELLS = {"product_odd", "count_negative", "any_divisible", "text_remove_digits", "text_count_uppercase"}


def _reference(action, test, constants):
    if constants:
        return lambda v, k: action([i for i in v if test(i, k)], v)
    return lambda v: action([i for i in v if test(i, None)], v)


def _register_number_grid() -> None:
    for condition, (name, expression, test, constants) in _NUMBER_CONDITIONS.items():
        for key, (verb, phrases, body, action) in _NUMBER_ACTIONS.items():
            if condition in _AFTER:
                nouns = f"[all |the |all the ||]{_N} <inlist> {_AFTER[condition]}"
            else:
                nouns = f"[all |the |all the ||]{condition} {_N} <inlist>"
            family(f"{key}_{condition}", f"{verb}_{name}[s|_numbers|_values|_elements|_integers|]", "ints",
                   [f"{phrase} {nouns}" for phrase in phrases], body.format(expression),
                   _reference(action, test, constants), constants=constants,
                   make=_made_with(test, constants) if key == "max" else None,
                   held_out=f"{key}_{condition}" in HELD_OUT_CELLS)
        for key, (verb, first, second, body, action) in _QUANTIFIERS.items():
            word = {"divisible": "divisible by $K", "above": "[greater than|larger than|above] $K"}.get(condition, condition)
            family(f"{key}_{condition}", f"{verb}_{name}[_numbers|_values|_number|_element||]", "ints",
                   [f"{first} {word}", f"{second} {word}"], body.format(expression),
                   _reference(action, test, constants), constants=constants,
                   held_out=f"{key}_{condition}" in HELD_OUT_CELLS)


def _made_with(test, constants):
    """Lists that hold at least one element that every constant accepts, so that max() is defined."""
    accepted = next(i for i in (-8, 420, 421) if all(test(i, k) for k in constants or (None,)))
    return lambda rng: ([rng.randint(-30, 200) for _ in range(rng.randint(0, 5))] + [accepted],)


_TEXT_CONDITIONS = {
    "vowels": ("vowel", "ch in 'aeiouAEIOU'", lambda c: c in "aeiouAEIOU"),
    "consonants": ("consonant", "ch.isalpha() and ch not in 'aeiouAEIOU'", lambda c: c.isalpha() and c not in "aeiouAEIOU"),
    "digits": ("digit", "ch.isdigit()", str.isdigit),
    "letters": ("letter", "ch.isalpha()", str.isalpha),
    "uppercase": ("[uppercase|upper case|capital] letter", "ch.isupper()", str.isupper),
    "lowercase": ("[lowercase|lower case|small] letter", "ch.islower()", str.islower),
}
_TEXT_ACTIONS = {
    "count": ("[count|number_of|num|how_many]", ("[Count|Count the|Return the number of|Find the number of|Count all] {}s <instr>", "Return how many {}s [there are|are] <instr>",
              "<ret> the [number|count] of {}s <instr>"),
              "count = 0\nfor ch in $0:\n    if {}:\n        count += 1\nreturn count", lambda picked, rest: len(picked)),
    "remove": ("[remove|delete|drop|strip|without]", ("Remove [all|all the|the|every one of the] {}s [from|in] <thestr>", "<give> <thestr> without [its |any |the |]{}s"),
               "return ''.join(ch for ch in $0 if not ({}))", lambda picked, rest: rest),
    "keep": ("[keep|extract|only|filter]", ("[Keep|Extract] [only the|only|just the] {}s [of|from] <thestr>", "<give> [a string with only the|only the|just the] {}s [of|from] <thestr>"),
             "return ''.join(ch for ch in $0 if {})", lambda picked, rest: picked),
    "has": ("[has|contains|any]", ("<check> <thestr> [has|contains] [a|any|at least one] {}", "<check> there is [a|at least one] {} <instr>"),
            "return any({} for ch in $0)", lambda picked, rest: bool(picked)),
    "list": ("[list|collect|<g>]", ("<give> [a list of |the list of ]the {}s <instr>", "[Collect|List] [all |all the ]{}s <instr>"),
             "return [ch for ch in $0 if {}]", lambda picked, rest: list(picked)),
}


def _register_text_grid() -> None:
    for condition, (noun, expression, test) in _TEXT_CONDITIONS.items():
        for key, (verb, phrases, body, action) in _TEXT_ACTIONS.items():
            def reference(text, test=test, action=action):
                picked = "".join(c for c in text if test(c))
                return action(picked, "".join(c for c in text if not test(c)))
            extra = "[_letters|_chars||_characters]" if condition.endswith("case") else "[_in_text|_in|_of|_in_string|_from|]"
            family(f"text_{key}_{condition}", f"{verb}_{condition}{extra}", "str",
                   [phrase.format(noun) for phrase in phrases], body.format(expression), reference,
                   held_out=f"text_{key}_{condition}" in HELD_OUT_CELLS)


_register_number_grid()
_register_text_grid()
