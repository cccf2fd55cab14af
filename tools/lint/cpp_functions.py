"""Finds the functions of a C++ file and how long they are, by braces."""

import re

_SCOPE = re.compile(r"^\s*(?:template\s*<.*>\s*)?(?:inline\s+)?(?:namespace|class|struct|union|enum|extern\s*\")\b", re.S)
_FUNCTION_END = re.compile(r"\)\s*(?:const|noexcept|override|final|mutable|&|->[^;]*|requires[^;]*|\s)*$", re.S)


def blank_literals(text):
    """The text with comments, strings and characters blanked, line for line."""
    pattern = re.compile(
        r'R"(?P<delim>[^(\s]*)\(.*?\)(?P=delim)"'
        r"|//[^\n]*|/\*.*?\*/"
        r'|"(?:\\.|[^"\\\n])*"'
        r"|(?<![0-9a-fA-FxX])'(?:\\.|[^'\\\n])*'",
        re.S,
    )
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def functions(text):
    """Yields (first line, last line) of every function that is not inside another one."""
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: "\n" * m.group(0).count("\n"), blank_literals(text), flags=re.M)
    stack = []  # "scope", "other" or the line where a function starts
    head_start = 0
    line = 1
    for position, char in enumerate(text):
        if char == "\n":
            line += 1
        elif char in ";}" or char == "{":
            head = text[head_start:position]
            if char == "{":
                stack.append(_kind(head, line, stack))
            elif char == "}" and stack:
                opened = stack.pop()
                if isinstance(opened, int):
                    yield opened, line
            head_start = position + 1


def _kind(head, line, stack):
    if any(entry != "scope" for entry in stack):
        return "other"  # inside a function or an initialiser
    if _SCOPE.match(head) and not _FUNCTION_END.search(head):
        return "scope"
    if "(" in head and not head.rstrip().endswith("="):
        return line - head[head.index("(") :].count("\n")  # from the line of its parameters on
    return "other"
