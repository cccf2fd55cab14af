"""What a request may hold beside its parameters, and bytes that are no request."""

import re

from contract import PROMPT, SECRET, Answered, Refused, Row
from phi_client import Client

SHORT = {"max_new_tokens": 2}
PROMPT_ENDS = "A prompt is not empty, and shorter than the context."
IDS = "Token ids lie below the tokenizer's vocabulary."
REQUEST_ID = "`request_id` is at most 128 printable bytes and made up where it is empty"
MODEL = "`model` may be empty, which means the one that is served; another is NOT_FOUND."
BYTES = "Bytes that are not the message, or a text that is not UTF-8, are INVALID_ARGUMENT `MALFORMED_REQUEST`."
UNKNOWN = "An enum value or a field inside `parameters` that is not known is refused with `UNSUPPORTED_FIELD`"
MALFORMED = Refused("INVALID_ARGUMENT", "MALFORMED_REQUEST")
EMPTY = Refused("INVALID_ARGUMENT", "EMPTY_PROMPT")


def field(number, kind, body=b""):
    """A field on the wire: kind 0 with the varint `body`, kind 2 with its length before `body`; all below 128."""
    key = number << 3 | kind
    head = bytes([key]) if key < 128 else bytes([key & 0x7F | 0x80, key >> 7])
    return head + (bytes([len(body)]) if kind == 2 else b"") + body


def request_with(extra, parameters=b""):
    """A good request, with `parameters` added to its parameters on the wire, and `extra` behind it."""
    request = Client.request(PROMPT)
    inner = Client.request("x", **SHORT).parameters.SerializeToString() + parameters
    return request.SerializeToString() + field(3, 2, inner) + extra


def has_id(pattern):
    return Answered(lambda server, answer: re.fullmatch(pattern, answer.header.request_id))


def prompt_tokens(count):
    """Of as many prompt tokens as `count(server)`."""
    return Answered(lambda server, answer: answer.summary.usage.prompt_tokens == count(server))


FIELDS = "Every error that phi-serve makes carries `google.rpc.ErrorInfo` with domain `phi-serve`"
FIXED_TEXT = "The message comes from a fixed list and never holds a prompt, a path or an address."

PROMPTS = (
    # What these three say holds for every row: the tests that ask the rows look at it each time.
    Row("every-error-has-its-reason", FIELDS, {"top_p": 7.0}, Refused("INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE", "parameters.top_p")),
    Row("no-error-repeats-a-prompt", FIXED_TEXT, {"prompt": SECRET, "top_p": 7.0}, Refused("INVALID_ARGUMENT", "FIELD_OUT_OF_RANGE")),
    Row("joined-stream-is-the-answer", "Joined deltas of a stream equal the text of `Generate`, byte for byte.", {}, Answered()),
    Row("prompt-text", "The prompt is `text` or `token_ids`.", SHORT, prompt_tokens(lambda server: len(server.prompt_ids))),
    Row(
        "prompt-token_ids",
        "The prompt is `text` or `token_ids`.",
        lambda server: {"prompt": server.prompt_ids, **SHORT},
        Answered(lambda server, answer: answer.samples == server.answer(**SHORT).samples),
    ),
    Row("prompt-empty-text", PROMPT_ENDS, {"prompt": "", **SHORT}, EMPTY),
    Row("prompt-empty-ids", PROMPT_ENDS, {"prompt": [], **SHORT}, EMPTY),
    Row("prompt-unset", PROMPT_ENDS, {"prompt": None, **SHORT}, EMPTY),
    Row(
        "prompt-fills-all-but-one",
        PROMPT_ENDS,
        lambda server: {"prompt": [5] * (server.context - 1)},
        Answered(lambda server, answer: answer.first.finish.generated_tokens == 1),
    ),
    Row(
        "prompt-fills-the-context",
        PROMPT_ENDS,
        lambda server: {"prompt": [5] * server.context},
        Refused("INVALID_ARGUMENT", "PROMPT_TOO_LONG", "token_ids", says=lambda server: (f" {server.context} tokens ", f"of {server.context}")),
    ),
    Row(
        "prompt-longer-than-the-context",
        PROMPT_ENDS,
        lambda server: {"prompt": [5] * (server.context + 1)},
        Refused("INVALID_ARGUMENT", "PROMPT_TOO_LONG", "token_ids", says=lambda server: (f" {server.context + 1} tokens ", f"of {server.context}")),
    ),
    Row(
        "prompt-text-too-long",
        PROMPT_ENDS,
        lambda server: {"prompt": SECRET * (2 * server.context // 3)},
        Refused("INVALID_ARGUMENT", "PROMPT_TOO_LONG", "text"),
    ),
    Row("prompt-first-id", IDS, {"prompt": [0], **SHORT}, Answered()),
    Row("prompt-last-id", IDS, lambda server: {"prompt": [server.vocabulary - 1], **SHORT}, Answered()),
    Row(
        "prompt-id-out-of-range",
        IDS,
        lambda server: {"prompt": [5, server.vocabulary], **SHORT},
        Refused("INVALID_ARGUMENT", "TOKEN_ID_OUT_OF_RANGE", "token_ids"),
    ),
    Row(
        "prompt-id-far-out-of-range",
        IDS,
        {"prompt": [2**32 - 1], **SHORT},
        Refused("INVALID_ARGUMENT", "TOKEN_ID_OUT_OF_RANGE", "token_ids"),
    ),
    Row(
        "prompt-end-of-text",
        "`<|endoftext|>` in a prompt is ordinary text.",
        {"prompt": "a<|endoftext|>b", "ignore_eos": True, **SHORT},
        Answered(
            lambda server, answer: answer.summary.usage.prompt_tokens > 3
            and server.end_of_text not in server.client.tokenize("a<|endoftext|>b").token_ids
        ),
    ),
)

NAMES = (
    Row("request_id-made-up", REQUEST_ID, SHORT, has_id(r"[!-~]{8,128}")),
    Row("request_id-asked", REQUEST_ID, {"request_id": "order 66~!", **SHORT}, has_id("order 66~!")),
    Row("request_id-128-bytes", REQUEST_ID, {"request_id": "r" * 128, **SHORT}, has_id("r{128}")),
    *(
        Row(f"request_id-{name}", REQUEST_ID, {"request_id": bad, **SHORT}, Refused("INVALID_ARGUMENT", "INVALID_REQUEST_ID", "request_id"))
        for name, bad in (("129-bytes", "r" * 129), ("newline", "a\nb"), ("nul", "a\0b"), ("not-ascii", "é"), ("delete", "a\x7f"))
    ),
    Row("model-empty", MODEL, {"model": "", **SHORT}, Answered()),
    Row("model-served", MODEL, lambda server: {"model": server.info.model_name, **SHORT}, Answered()),
    Row("model-other", MODEL, {"model": "no-such-model", **SHORT}, Refused("NOT_FOUND", "MODEL_NOT_FOUND", "model")),
)

WIRE = (
    *(
        Row(f"bytes-{name}", BYTES, payload, MALFORMED)
        for name, payload in (
            ("no-message", b"\xff"),
            ("cut-short", b"\x0a\x05abc"),
            ("wrong-wire-type", field(3, 0, b"\x05") + b"\x0b"),
            ("length-beyond-the-end", b"\x1a\x7f\x08"),
            ("groups", b"\x0b" * 200),
            ("text-not-utf8", b"\x0a\x02\xc3\x28"),
            ("stop-not-utf8", request_with(b"", field(13, 2, b"\xff"))),
            ("model-not-utf8", request_with(field(5, 2, b"\xc0\xaf"))),
            ("request_id-not-utf8", request_with(field(4, 2, b"\x80"))),
        )
    ),
    Row("bytes-empty", BYTES, b"", EMPTY),
    Row(
        "bytes-unknown-parameter",
        UNKNOWN,
        request_with(b"", field(25, 0, b"\x05")),
        Refused("INVALID_ARGUMENT", "UNSUPPORTED_FIELD", "parameters"),
    ),
    Row(
        "bytes-unknown-field-of-time_limit",
        UNKNOWN,
        request_with(b"", field(20, 2, field(1, 0, b"\x05") + field(9, 0, b"\x01"))),
        Refused("INVALID_ARGUMENT", "UNSUPPORTED_FIELD", "parameters.time_limit"),
    ),
)

ROWS = (*PROMPTS, *NAMES, *WIRE)
