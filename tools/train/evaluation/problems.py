"""Problems in HumanEval's jsonl form, and what counts as their answer."""

from __future__ import annotations

import ast
import dataclasses
import gzip
import json
import pathlib

# Where a caller who wants one function stops reading.
STOPS = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\n#", "\n@", "\nassert ", "\n\n\n")


@dataclasses.dataclass(frozen=True)
class Problem:
    """`test` defines check(candidate), which raises where the candidate is wrong."""

    task_id: str
    prompt: str
    entry_point: str
    test: str


def read_problems(path: pathlib.Path) -> list[Problem]:
    """Reads a .jsonl or .jsonl.gz file; other fields of a problem are not used."""
    opener = gzip.open if path.suffix == ".gz" else open
    names = [field.name for field in dataclasses.fields(Problem)]
    problems = []
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            record = json.loads(line)
            missing = [name for name in names if not isinstance(record.get(name), str)]
            if missing:
                raise ValueError(f"{path}:{number}: no text for {', '.join(missing)}")
            problems.append(Problem(**{name: record[name] for name in names}))
    if not problems:
        raise ValueError(f"{path}: no problems")
    return problems


def parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
