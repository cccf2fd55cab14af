"""docs/reliability.md and the tests it names: each is there, and no test of a row is missing from it."""

import functools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
ROWS = {int(line.split("|")[1]): line for line in TEXT.splitlines() if re.match(r"\| \d+ \|", line)}
NAMED = re.compile(r"`(tests/[\w/.]+\.(?:py|cc))(?:::([\w*]+))?`")
PYTHON_TEST = re.compile(r"^\s*def (test_\w+)", re.M)
CPP_TEST = re.compile(r"^TEST(?:_F|_P)?\(\w+,\s*(\w+)\)", re.M)


@functools.lru_cache(maxsize=None)
def names_in(path):
    text = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""
    return (PYTHON_TEST if path.endswith(".py") else CPP_TEST).findall(text)


def matches(pattern, name):
    return re.fullmatch(pattern.replace("*", r"\w*"), name)


def row_tests():
    """(row, file, name) of each test whose name has a row."""
    for path in sorted(file for pattern in ("*.py", "*.cc") for file in (ROOT / "tests").rglob(pattern)):
        file = str(path.relative_to(ROOT))
        for name in names_in(file):
            for row in re.findall(r"_row(\d+)(?=_)" if file.endswith(".py") else r"Row(\d+)", name):
                yield int(row), file, name


def test_every_row_is_there_once():
    assert sorted(ROWS) == list(range(1, 86))


@pytest.mark.parametrize("row", sorted(ROWS))
def test_what_a_row_names_is_there(row):
    named = NAMED.findall(ROWS[row])
    assert named or re.search(r"not shown|needs|by hand|nothing more is shown", ROWS[row]), "neither a test nor a reason"
    for file, pattern in named:
        assert (ROOT / file).is_file(), file
        assert not pattern or any(matches(pattern, name) for name in names_in(file)), f"{file}::{pattern}"


def test_every_test_of_a_row_is_named_by_it():
    found = list(row_tests())
    assert len(found) > 30
    missing = [
        f"row {row}: {file}::{name}"
        for row, file, name in found
        if not any(file == named and matches(pattern or "*", name) for named, pattern in NAMED.findall(ROWS[row]))
    ]
    assert not missing, missing
