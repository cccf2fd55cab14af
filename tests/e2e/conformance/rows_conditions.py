"""Stop conditions against a reference that looks at the whole text: where each of them would cut what comes without them."""

from contract import PROMPT, Answer, Answered, CallRow, Row
from phi_client import enum_value

# Long enough for several lines of code.
LONG = {"max_new_tokens": 48, "ignore_eos": True}
BLANKS = " \t\r\v\f"
BODY = "class Tree:\n    def grow(self):\n        "
PROMPTS = (PROMPT, "def f(x):\n", BODY, BODY + "x = 1\n", "if a:\n\tif b:\n\t\tx = 1\n", "def f(")


def condition(name):
    return enum_value("phi.v1.StopCondition", f"STOP_CONDITION_{name}")


def columns(line):
    """How far a line is indented: a tab goes to the next multiple of 8."""
    blank = line[: len(line) - len(line.lstrip(BLANKS))]
    return len("".join(c for c in blank if c in " \t").expandtabs(8))


def compared_with(lines, at):
    """The line that a dedented one is compared with: the prompt's last non-blank one or, where that ends in a colon, the next one."""
    last = max((i for i, (begin, line) in enumerate(lines) if line[: max(0, at - begin)].strip(BLANKS)), default=None)
    if last is None or not lines[last][1].rstrip(BLANKS).endswith(":"):
        return last
    return next((i for i in range(last + 1, len(lines)) if lines[i][1].strip(BLANKS)), None)


def cuts(prompt, text, name):
    """Where a condition would end the text, as (characters that it takes to know it, characters that are kept)."""
    lines, begin, at = [], 0, len(prompt)
    for line in (prompt + text).split("\n"):
        lines.append((begin, line))
        begin += len(line) + 1
    reference = compared_with(lines, at)
    for i, (begin, line) in enumerate(lines):
        kept, end, is_blank = max(begin, at) - at, begin + len(line), not line.strip(BLANKS)
        is_whole = end >= at and i + 1 < len(lines)  # its line feed is generated
        first = begin + len(line) - len(line.lstrip(BLANKS))  # its first character that is not blank
        begins_here = not is_blank and first >= at
        if name == "LINE_END" and is_whole:
            yield end + 1 - at, end - at
        elif name == "BLANK_LINE" and is_whole and is_blank:
            yield end + 1 - at, kept
        elif name == "TOP_LEVEL" and begins_here and columns(line) == 0:
            yield first + 1 - at, kept
        elif name == "DEDENT" and begins_here and reference is not None and i > reference and columns(line) < columns(lines[reference][1]):
            yield first + 1 - at, kept


def assert_cut(server, name, prompt, sample, asked):
    """Whether the sample was cut; it has to be just where the reference says, or not at all."""
    free = server.first(prompt=prompt, **asked).text
    found = min(cuts(prompt, free, name), default=None)
    if found is None:
        assert sample.text == free and sample.reason != "STOP_CONDITION", (name, prompt, free)
        return False
    assert sample.text == free[: found[1]], (name, prompt, free)
    assert (sample.reason, sample.finish.condition) == ("STOP_CONDITION", condition(name)), (name, prompt, free)
    return True


def conditions_cut_where_a_look_at_the_whole_says(server):
    """Drawn texts of many lines, behind prompts that end in a colon, within a body, within a line."""
    newline, space = server.token_of("\n"), server.token_of(" ")
    for name in ("LINE_END", "BLANK_LINE", "DEDENT", "TOP_LEVEL"):
        found = 0
        for seed, prompt in enumerate(PROMPTS):
            asked = {**LONG, "temperature": 1.2, "seed": seed, "logit_bias": {newline: 4.0, space: 3.0}}
            ask = {"prompt": prompt, "stop_conditions": [condition(name)], **asked}
            answer = server.generate(ask) if seed % 2 == 0 else server.stream(ask)
            assert isinstance(answer, Answer), answer
            found += assert_cut(server, name, prompt, answer.first, asked)
        assert found > 0, f"none of the texts has a {name}"


def of_a_text(name, sentence):
    """The greedy text behind the contract's prompt, cut or not, by both methods."""

    def check(server, answer):
        assert_cut(server, name, PROMPT, answer.first, LONG)
        return True

    return Row(f"stop_conditions-{name}-of-a-text", sentence, {**LONG, "stop_conditions": [condition(name)]}, Answered(check))


def forced(name, suffix, sentence, prompt, text, outcome):
    """Every token is the same one, so that the text is known."""
    return Row(f"stop_conditions-{name}{suffix}", sentence,
        lambda server: {**LONG, "prompt": prompt, "logit_bias": {server.token_of(text): 100.0}, "stop_conditions": [condition(name)]},
        Answered(lambda server, answer: (answer.first.reason, answer.first.text, answer.first.finish.generated_tokens) == outcome
                 and (outcome[0] != "STOP_CONDITION" or answer.first.finish.condition == condition(name))))  # fmt: skip


LINE_END = "`LINE_END`: the first line is whole."
BLANK_LINE = "`BLANK_LINE`."
DEDENT = "`DEDENT`: a non-blank line indented less than the prompt's last non-blank line"
TOP_LEVEL = "`TOP_LEVEL`: a non-blank line at column 0."
AT_ONCE, NEVER = ("STOP_CONDITION", "", 1), ("MAX_NEW_TOKENS", "+" * LONG["max_new_tokens"], LONG["max_new_tokens"])

ROWS = (
    forced("LINE_END", "", LINE_END, PROMPT, "\n", AT_ONCE),
    forced("BLANK_LINE", "", BLANK_LINE, PROMPT, "\n", AT_ONCE),
    forced("BLANK_LINE", "-behind-a-line", BLANK_LINE, "x = 1", "\n", ("STOP_CONDITION", "\n", 2)),
    forced("DEDENT", "-at-once", DEDENT, "def f():\n    x = 1\n", "+", AT_ONCE),
    forced("DEDENT", "-not-when-level", DEDENT, "x = 1\n", "+", NEVER),
    forced("DEDENT", "-not-behind-a-colon", DEDENT, "    def f():\n", "+", NEVER),
    of_a_text("LINE_END", LINE_END),
    of_a_text("BLANK_LINE", BLANK_LINE),
    of_a_text("DEDENT", DEDENT),
    of_a_text("TOP_LEVEL", TOP_LEVEL),
)
CALLS = (CallRow("stop_conditions-of-drawn-texts", "Ends for code.", conditions_cut_where_a_look_at_the_whole_says),)
