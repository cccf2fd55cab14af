"""Prompts at and beyond every edge: empty, too long, dangerous to look at, not text at all."""

import time

import pytest
from phi_client import message_class
from phi_programs import SANITIZED

REPLICA = {"tensor_parallel": 2}
MESSAGE_BYTES = 256 * 1024
# What one second is under a sanitizer on a busy machine.
SECOND = 20 if SANITIZED else 4


def request_bytes(text):
    """A GenerateRequest whose `text` is any bytes."""
    length, varint = len(text), bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    return b"\x0a" + bytes([*varint, length]) + text + message_class("phi.v1.GenerateRequest")().SerializeToString()


@pytest.mark.parametrize("prompt", ["", [], None], ids=["text", "ids", "unset"])
def test_row46_no_prompt_is_refused(served, prompt):
    refusal = served.client.refusal(prompt)
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "EMPTY_PROMPT"), refusal


@pytest.mark.parametrize("prompt", ["\0", "\0" * 40, " ", " " * 100, "\n"], ids=ascii)
def test_row46_nul_and_spaces_are_text(served, prompt):
    answer = served.client.generate(prompt, max_new_tokens=3, ignore_eos=True)
    assert answer.summary.usage.prompt_tokens == len(served.client.tokenize(prompt).token_ids)
    assert answer.completions[0].finish.generated_tokens == 3


def test_row47_both_sides_of_the_context(served):
    context = served.client.model_info().context_tokens
    assert served.client.generate([5] * (context - 1), max_new_tokens=1).summary.usage.prompt_tokens == context - 1
    for tokens in (context, context + 1):
        refusal = served.client.refusal([5] * tokens)
        assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "PROMPT_TOO_LONG"), refusal
        assert f" {tokens} tokens " in refusal.message and f"of {context}" in refusal.message, refusal
    for prompt, new in ((context - 8, 8), (1, context - 1)):
        answer = served.client.generate([5] * prompt, max_new_tokens=new, stop=[served.client.detokenize([5]).text])
        assert answer.completions[0].finish.generated_tokens >= 1
        over = served.client.refusal([5] * prompt, max_new_tokens=new + 1)
        assert (over.reason, over.fields) == ("CONTEXT_EXCEEDED", ["parameters.max_new_tokens"]), over
        assert str(prompt) in over.message and str(new + 1) in over.message, over


@pytest.mark.parametrize("character", ["a", " ", "🐍", "7", "\n", "{", "é", "\u202e", "ab "], ids=ascii)
def test_row48_a_long_run_is_refused_in_linear_time(served, character):
    size = MESSAGE_BYTES - 100
    text = character * (size // len(character.encode()))
    start = time.monotonic()
    tokens = served.client.tokenize(text)
    refusal = served.client.refusal(text)
    spent = time.monotonic() - start
    assert b"".join(tokens.pieces).decode() == text
    assert refusal.reason == "PROMPT_TOO_LONG", refusal
    assert spent < 5 * SECOND, f"{spent:.1f} s"


def test_row48_a_message_over_the_cap_is_refused_unread(served):
    context = served.client.model_info().context_tokens
    fits = served.client.generate(request_bytes(b"x = 1\n" * 40_000) + b"\x1a\x05" + b"\x98\x01\x08\x08\x01", timeout=60)
    assert fits.summary.usage.prompt_tokens == 8 < context
    most, one_more = (request_bytes(b"x" * (MESSAGE_BYTES - 4 + extra)) for extra in (0, 1))
    assert (len(most), len(one_more)) == (MESSAGE_BYTES, MESSAGE_BYTES + 1)
    assert served.client.refusal(most).reason == "PROMPT_TOO_LONG"
    assert served.client.refusal(one_more).code.name == "RESOURCE_EXHAUSTED"


def test_row49_end_of_text_in_a_prompt_is_text(served):
    client = served.client
    vocabulary = client.model_info().vocabulary_tokens
    ids = list(client.tokenize("a<|endoftext|>b").token_ids)
    assert len(ids) > 3 and max(ids) < vocabulary - 1, "became the special token"
    answer = client.generate("x = 1 <|endoftext|> y", max_new_tokens=5, ignore_eos=True)
    assert answer.completions[0].finish.generated_tokens == 5


def test_row50_max_new_tokens(served):
    client = served.client
    context = client.model_info().context_tokens
    for bad in (0, context + 1, 2**31 - 1, 2**32 - 1):
        refusal = client.refusal("x", max_new_tokens=bad)
        assert (refusal.reason, refusal.fields) == ("FIELD_OUT_OF_RANGE", ["parameters.max_new_tokens"]), refusal
    # A negative number is ten bytes on the wire, of which a uint32 keeps the low half: still far too many.
    refusal = client.refusal(request_bytes(b"x") + b"\x1a\x0b\x08" + b"\xff" * 9 + b"\x01")
    assert (refusal.reason, refusal.fields) == ("FIELD_OUT_OF_RANGE", ["parameters.max_new_tokens"]), refusal
    room = 7
    unset = client.generate([5] * (context - room), ignore_eos=True)
    assert unset.summary.usage.generated_tokens == room


@pytest.mark.parametrize(
    "text",
    [b"\xff", b"ab\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"x\xe2\x82", b"\xf8\x88\x80\x80\x80"],
    ids=repr,
)
def test_row60_text_that_is_not_utf8_is_malformed(served, text):
    for suffix in (b"", b" and more text"):
        refusal = served.client.refusal(request_bytes(text + suffix))
        assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST"), refusal


def test_row60_any_bytes_can_be_asked_as_tokens(served):
    """Tokens whose bytes are no UTF-8 are a prompt like any other."""
    client = served.client
    half = list(client.tokenize("é🐍").token_ids)[:-1]
    first, again = (client.generate(half, max_new_tokens=4, ignore_eos=True).completions for _ in range(2))
    assert first == again and first[0].finish.generated_tokens == 4
