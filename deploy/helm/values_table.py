#!/usr/bin/env python3
"""Writes the table of values into deploy/helm/phi-serve/README.md (a test compares): keys, defaults and comments of values.yaml, and the
flags that the templates make of them."""

import json
import pathlib
import re
import sys

import yaml

CHART = pathlib.Path(__file__).resolve().parent / "phi-serve"
README = CHART / "README.md"
BEGIN, END = "<!-- begin: values -->\n", "<!-- end: values -->\n"


def comment_above(lines: list[str], line: int) -> str:
    """The comment right above a line, as one line."""
    first = line
    while first > 0 and lines[first - 1].strip().startswith("#"):
        first -= 1
    return " ".join(text.strip().lstrip("# ") for text in lines[first:line])


def leaves(node: yaml.MappingNode, lines: list[str], path: tuple[str, ...] = (), said: str = ""):
    """(path, default, comment) of what is set by itself; a comment above a block goes to its first key."""
    for key, value in node.value:
        here = " ".join(filter(None, (said, comment_above(lines, key.start_mark.line))))
        said = ""
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            yield from leaves(value, lines, path + (key.value,), here)
        else:
            default = yaml.safe_load(yaml.serialize(value))
            yield path + (key.value,), default, here


def flags() -> dict[tuple[str, str], str]:
    """(component, key): the flag that the component's pod template sets from it."""
    found = {}
    for component in ("router", "worker"):
        text = (CHART / "templates" / f"{component}-deployment.yaml").read_text(encoding="utf-8")
        for flag, key in re.findall(r"- --([a-z_]+)=\{\{ \$[rw]\.(\w+)", text):
            found[(component, key)] = f"`--{flag}`"
    return found


def table() -> str:
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    of_flags = flags()
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for path, default, comment in leaves(yaml.compose(text), lines):
        meaning = ". ".join(filter(None, (of_flags.get(path), comment)))
        rows.append(f"| `{'.'.join(path)}` | `{json.dumps(default)}` | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def with_table(text: str) -> str:
    head, rest = text.split(BEGIN)
    return head + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(with_table(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
