"""The table against docs/api.md: every row quotes it, and every sentence, parameter and reason of it has a row or a test elsewhere."""

import re

import pytest
from contract import Refused
from phi_client import ROOT, message_class
from table import CALLS, REASONS_ELSEWHERE, RESERVED_REASONS, ROWS, SENTENCES_ELSEWHERE

API = (ROOT / "docs/api.md").read_text(encoding="utf-8")


def flat(text):
    return " ".join(text.split())


def generated(name):
    """The lines of a table that the build writes."""
    return re.search(rf"<!-- begin: {name} -->(.*?)<!-- end: {name} -->", API, re.S).group(1).strip().splitlines()[2:]


def sentences():
    """The prose of the sections about calls, parameters and errors, sentence by sentence, and the rows of the table of calls."""
    text = API[API.index("## 1.") : API.index("## 4.")]
    text = re.sub(r"<!-- begin: (\w+) -->.*?<!-- end: \1 -->", "", text, flags=re.S)
    for block in re.split(r"\n\s*\n", re.sub(r"^#.*$|^\|(?:---| call \|).*$", "", text, flags=re.M)):
        pieces = block.strip().splitlines() if block.strip().startswith("|") else re.split(r"(?<=\.)\s+(?=[A-Z`*<])", flat(block))
        yield from (flat(piece) for piece in pieces if piece.strip())


def exists(test):
    """Whether `file` or `file::name` is a test of this repository."""
    file, _, name = test.partition("::")
    path = ROOT / file
    return path.is_file() and (not name or re.search(rf"\b{re.escape(name)}\b", path.read_text(encoding="utf-8")))


def test_rows_have_names_of_their_own():
    names = [row.name for row in (*ROWS, *CALLS)]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


def test_every_row_quotes_the_contract():
    strangers = [row.name for row in (*ROWS, *CALLS) if flat(row.sentence) not in flat(API)]
    strangers += [quote for quote in SENTENCES_ELSEWHERE if quote not in flat(API)]
    assert not strangers, "docs/api.md has no such words"


def test_every_sentence_is_shown():
    quotes = {flat(row.sentence) for row in (*ROWS, *CALLS)} | set(SENTENCES_ELSEWHERE)
    found = list(sentences())
    bare = [sentence for sentence in found if not any(quote in sentence or sentence in quote for quote in quotes)]
    assert len(found) > 40 and not bare, "no row shows these"


def test_what_is_shown_elsewhere_is_there():
    assert [test for test in (*REASONS_ELSEWHERE.values(), *SENTENCES_ELSEWHERE.values()) if not exists(test)] == []


@pytest.mark.parametrize("reason", [re.search(r"`(\w+)`", line).group(1) for line in generated("errors")])
def test_every_reason_is_shown_once(reason):
    rows = any(isinstance(row.expected, Refused) and row.expected.reason == reason for row in ROWS)
    assert [rows, reason in REASONS_ELSEWHERE, reason in RESERVED_REASONS].count(True) == 1


@pytest.mark.parametrize("field", [re.search(r"`(\w+)`", line).group(1) for line in generated("parameters")])
def test_every_parameter_is_shown(field):
    rows = [row for row in ROWS if row.name.startswith(field + "-")]
    assert any(not isinstance(row.expected, Refused) for row in rows), "no row is answered"
    kind = message_class("phi.v1.GenerationParameters").DESCRIPTOR.fields_by_name[field]
    if kind.cpp_type not in (kind.CPPTYPE_BOOL, kind.CPPTYPE_UINT64):  # they have no bound
        assert any(getattr(row.expected, "field", "") == f"parameters.{field}" for row in rows), "no row is refused for it"
