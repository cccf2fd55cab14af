"""Asks every row of the table, by both methods, and holds the answer to what docs/api.md says of every call."""

import pytest
from contract import BOTH, SECRET, Answer, Refused
from phi_client import Refusal
from table import CALLS, ROWS


@pytest.mark.parametrize("row", [row for row in ROWS if isinstance(row.expected, Refused)], ids=lambda row: row.name)
def test_refused(server, row):
    asked = server.resolve(row.ask)
    for method in row.methods:
        refusal = server.ask(method, asked)
        assert isinstance(refusal, Refusal), f"{method} answered: {refusal.samples}"
        assert (refusal.code.name, refusal.reason) == (row.expected.code, row.expected.reason), (method, refusal)
        assert refusal.domain == "phi-serve" and refusal.message
        if row.expected.field:
            assert refusal.fields == [row.expected.field], (method, refusal)
        for word in row.expected.says(server) if row.expected.says else ():
            assert word in refusal.message, (method, refusal)
        assert SECRET not in refusal.message
        assert_request_id(refusal.initial_metadata, asked)


@pytest.mark.parametrize("row", [row for row in ROWS if not isinstance(row.expected, Refused)], ids=lambda row: row.name)
def test_answered(server, row):
    asked = server.resolve(row.ask)
    answers = []
    for method in row.methods:
        answer = server.ask(method, asked)
        assert isinstance(answer, Answer), f"{method}: {answer}"
        assert_well_formed(answer, asked)
        assert row.expected.check is None or row.expected.check(server, answer), (method, answer)
        answers.append(answer)
        if "seed" not in asked:
            asked = {**asked, "seed": answer.header.seed}  # the other method is to draw the same
    if row.methods == BOTH and row.expected.repeatable:
        assert answers[0].samples == answers[1].samples, "the joined stream is not the answer"


@pytest.mark.parametrize("row", CALLS, ids=lambda row: row.name)
def test_call(server, row):
    row.run(server)


def test_every_published_limit_has_rows_on_both_sides(server):
    names = {row.name for row in ROWS}
    for limit in server.info.limits:
        field = limit.field.removeprefix("parameters.")
        if field == "stop_conditions":
            assert {f"stop_conditions-{value}" for value in range(int(limit.min) - 1, int(limit.max) + 2)} <= names
        else:
            assert {f"{field}-at-max", f"{field}-above-max", f"{field}-at-min"} <= names, field
        if limit.max_items:
            assert {f"{field}-max-items", f"{field}-too-many-items"} <= names, field


def assert_request_id(metadata, asked):
    """Every call has its id, failed ones too: the asked one where that is allowed."""
    name = metadata.get("phi-request-id")
    assert name and len(name) <= 128 and name.isprintable()
    wanted = "" if isinstance(asked, bytes) else asked.get("request_id", "")
    if wanted and len(wanted) <= 128 and all(" " <= character <= "~" for character in wanted):
        assert name == wanted


def assert_well_formed(answer, asked):
    """What holds for every answer."""
    assert_request_id(answer.metadata, asked)
    assert answer.header.request_id == answer.metadata["phi-request-id"]
    assert len(answer.samples) == asked.get("n", 1)
    for sample in answer.samples:
        assert sample.reason != "UNSPECIFIED" and sample.finish.generated_tokens == len(sample.ids)
        assert len(sample.logprobs) == (len(sample.ids) if "logprobs" in asked else 0)
        assert len(sample.ids) <= asked.get("max_new_tokens", 1 << 32)
    assert answer.summary.usage.generated_tokens == sum(len(sample.ids) for sample in answer.samples)
