"""Both sides of every bound of a parameter. The numbers come from GetModelInfo, so that the rows hold for any model."""

import struct

from contract import Answered, Refused, Row

OUT_OF_RANGE = "FIELD_OUT_OF_RANGE"


def float32_next(value, up):
    """The float32 next to `value`, in the direction asked."""
    if value == 0:
        return (1 if up else -1) * struct.unpack("<f", struct.pack("<I", 1))[0]
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    return struct.unpack("<f", struct.pack("<I", bits + (1 if up == (value > 0) else -1)))[0]


def refused(reason, field, **more):
    return Refused("INVALID_ARGUMENT", reason, f"parameters.{field}", **more)


def bound(field, sentence, side, pick, expected, **rest):
    """One row: `field` has the value that `pick` makes of its FieldLimit."""
    return Row(f"{field}-{side}", sentence, lambda server: {field: pick(server.limits[f"parameters.{field}"]), **rest}, expected)


def whole_numbers(field, sentence, least, **rest):
    """Bounds of a uint32. `least`: the published minimum, known here since nothing lies below 0."""
    rows = [
        bound(field, sentence, "at-min", lambda limit: int(limit.min), Answered(), **rest),
        bound(field, sentence, "at-max", lambda limit: int(limit.max), Answered(), **rest),
        bound(field, sentence, "above-max", lambda limit: int(limit.max) + 1, refused(OUT_OF_RANGE, field), **rest),
        bound(field, sentence, "far-above-max", lambda _: 2**32 - 1, refused(OUT_OF_RANGE, field), **rest),
    ]
    if least:
        rows.append(bound(field, sentence, "below-min", lambda limit: int(limit.min) - 1, refused(OUT_OF_RANGE, field), **rest))
    return rows


def floats(field, sentence, **rest):
    """Bounds of a float, one float32 beyond each, and what is no number."""

    def at_min(limit):
        return float32_next(limit.min, up=True) if limit.min_exclusive else limit.min

    rows = [
        bound(field, sentence, "at-min", at_min, Answered(), **rest),
        bound(field, sentence, "at-max", lambda limit: limit.max, Answered(), **rest),
        bound(field, sentence, "below-min", lambda limit: float32_next(at_min(limit), up=False), refused(OUT_OF_RANGE, field), **rest),
        bound(field, sentence, "above-max", lambda limit: float32_next(limit.max, up=True), refused(OUT_OF_RANGE, field), **rest),
    ]
    for name, value in (("nan", float("nan")), ("infinite", float("inf")), ("minus-infinite", float("-inf"))):
        rows.append(Row(f"{field}-{name}", "Floats must be finite.", {field: value, **rest}, refused(OUT_OF_RANGE, field)))
    return rows


def items(field, sentence, make, reason, **rest):
    """As many entries as may be, and one more. `make(server, n)` gives n of them."""

    def ask(extra):
        return lambda server: {field: make(server, server.limits[f"parameters.{field}"].max_items + extra), **rest}

    return [
        Row(f"{field}-max-items", sentence, ask(0), Answered()),
        Row(f"{field}-too-many-items", sentence, ask(1), refused(reason, field)),
    ]


SHORT = {"max_new_tokens": 2}
SAMPLED = {"max_new_tokens": 2, "temperature": 1.0, "seed": 1}
FITS = "Set, prompt and this number have to fit the context together, else `CONTEXT_EXCEEDED` with both counts."

SCALARS = (
    *whole_numbers("top_k", "Only the so many most likely tokens may be drawn; 0: all.", 0, **SAMPLED),
    *whole_numbers("n", "Samples that share one prefill; sample i draws with (seed, i).", 1, **SAMPLED),
    *whole_numbers("logprobs", "0: of the chosen token only.", 0, **SHORT),
    *whole_numbers("truncate_prompt", "Keep only that many tokens from the prompt's end.", 1, **SHORT),
    *floats("temperature", "0 is greedy: the highest logit, and on a tie the lowest id.", max_new_tokens=2, seed=1),
    *floats("top_p", "Only the smallest set of most likely tokens may be drawn whose probabilities sum up to it.", **SAMPLED),
    *floats("min_p", "Only tokens at least so likely, relative to the most likely one, may be drawn.", **SAMPLED),
    *floats("repetition_penalty", "Logits of tokens in prompt or output are divided by it where positive", **SHORT),
    *floats("frequency_penalty", "Taken off a token's logit for each time it stands in the output.", **SHORT),
    *floats("presence_penalty", "Taken off a token's logit once it stands in the output.", **SHORT),
)

LENGTHS = (
    bound("max_new_tokens", FITS, "at-min", lambda limit: int(limit.min), Answered()),
    bound("max_new_tokens", FITS, "below-min", lambda limit: int(limit.min) - 1, refused(OUT_OF_RANGE, "max_new_tokens")),
    bound("max_new_tokens", FITS, "above-max", lambda limit: int(limit.max) + 1, refused(OUT_OF_RANGE, "max_new_tokens")),
    bound("max_new_tokens", FITS, "far-above-max", lambda _: 2**32 - 1, refused(OUT_OF_RANGE, "max_new_tokens")),
    Row(
        "max_new_tokens-at-max",
        FITS,
        lambda server: {"prompt": [5], "max_new_tokens": server.context - 1, "logit_bias": {7: 100.0}, "stop_token_ids": [7]},
        Answered(lambda server, answer: answer.first.reason == "STOP_TOKEN"),
    ),
    Row(
        "max_new_tokens-over-the-context",
        FITS,
        lambda server: {"prompt": [5] * 3, "max_new_tokens": server.context - 2},
        refused("CONTEXT_EXCEEDED", "max_new_tokens", says=lambda server: ("prompt of 3 ", f"max_new_tokens of {server.context - 2} ")),
    ),
    Row("min_new_tokens-at-min", "Not above `max_new_tokens`.", {"min_new_tokens": 0, **SHORT}, Answered()),
    Row("min_new_tokens-at-max_new_tokens", "Not above `max_new_tokens`.", {"min_new_tokens": 2, **SHORT}, Answered()),
    Row("min_new_tokens-above", "Not above `max_new_tokens`.", {"min_new_tokens": 3, **SHORT}, refused(OUT_OF_RANGE, "min_new_tokens")),
    bound("min_new_tokens", "Not above `max_new_tokens`.", "above-max", lambda m: int(m.max) + 1, refused(OUT_OF_RANGE, "min_new_tokens")),
    Row(
        "min_new_tokens-at-max",
        "Not above `max_new_tokens`.",
        lambda server: {"prompt": [5], "min_new_tokens": server.context - 1, "max_new_tokens": server.context - 1},
        Answered(lambda server, answer: len(answer.first.ids) == server.context - 1),
    ),
)

BIAS = "Added to the logits of these token ids."
STOPS = "Looked for in generated text only."
STOP_IDS = "A token that ends the text; it stays in the token ids."
CONDITIONS = "Ends for code."


def bias_bound(side, pick, expected):
    return Row(f"logit_bias-{side}", BIAS, lambda server: {"logit_bias": {3: pick(server.limits["parameters.logit_bias"])}, **SHORT}, expected)


def stop_bound(side, pick, expected):
    return Row(f"stop-{side}", STOPS, lambda server: {"stop": ["#" * pick(server.limits["parameters.stop"])], **SHORT}, expected)


def stop_id_bound(side, pick, expected):
    field = "parameters.stop_token_ids"
    return Row(f"stop_token_ids-{side}", STOP_IDS, lambda server: {"stop_token_ids": [pick(server.limits[field])], **SHORT}, expected)


def condition(value, expected):
    return Row(f"stop_conditions-{value}", CONDITIONS, {"stop_conditions": [value], **SHORT}, expected)


SETS = (
    bias_bound("at-min", lambda limit: limit.min, Answered()),
    bias_bound("at-max", lambda limit: limit.max, Answered()),
    bias_bound("below-min", lambda limit: float32_next(limit.min, up=False), refused(OUT_OF_RANGE, "logit_bias")),
    bias_bound("above-max", lambda limit: float32_next(limit.max, up=True), refused(OUT_OF_RANGE, "logit_bias")),
    bias_bound("nan", lambda _: float("nan"), refused(OUT_OF_RANGE, "logit_bias")),
    bias_bound("infinite", lambda _: float("-inf"), refused(OUT_OF_RANGE, "logit_bias")),
    Row("logit_bias-last-id", BIAS, lambda server: {"logit_bias": {server.vocabulary - 1: 1.0}, **SHORT}, Answered()),
    Row(
        "logit_bias-id-out-of-range",
        "Token ids lie below the tokenizer's vocabulary.",
        lambda server: {"logit_bias": {server.vocabulary: 1.0}, **SHORT},
        refused("TOKEN_ID_OUT_OF_RANGE", "logit_bias"),
    ),
    *items("logit_bias", BIAS, lambda server, n: {i: -1.0 for i in range(n)}, OUT_OF_RANGE, **SHORT),
    stop_bound("at-min", lambda limit: int(limit.min), Answered()),
    stop_bound("at-max", lambda limit: int(limit.max), Answered()),
    stop_bound("empty", lambda _: 0, refused("EMPTY_STOP", "stop")),
    stop_bound("above-max", lambda limit: int(limit.max) + 1, refused(OUT_OF_RANGE, "stop")),
    Row(
        "stop-bytes-not-characters",
        STOPS,
        lambda server: {"stop": ["é" * (int(server.limits["parameters.stop"].max) // 2 + 1)], **SHORT},
        refused(OUT_OF_RANGE, "stop"),
    ),
    *items("stop", STOPS, lambda server, n: [f"#{i}#" for i in range(n)], "TOO_MANY_STOPS", **SHORT),
    stop_id_bound("at-min", lambda limit: int(limit.min), Answered()),
    stop_id_bound("at-max", lambda limit: int(limit.max), Answered()),
    stop_id_bound("above-max", lambda limit: int(limit.max) + 1, refused("TOKEN_ID_OUT_OF_RANGE", "stop_token_ids")),
    stop_id_bound("far-above-max", lambda _: 2**32 - 1, refused("TOKEN_ID_OUT_OF_RANGE", "stop_token_ids")),
    *items("stop_token_ids", STOP_IDS, lambda server, n: list(range(n)), "TOO_MANY_STOPS", **SHORT),
    *(condition(value, Answered()) for value in (1, 2, 3, 4)),
    *(condition(value, refused("UNSUPPORTED_FIELD", "stop_conditions")) for value in (0, 5, 2**31 - 1)),
    *items("stop_conditions", CONDITIONS, lambda server, n: [1 + i % 4 for i in range(n)], "TOO_MANY_STOPS", **SHORT),
)

LIMIT = "Counted from the call's arrival."
TIMES = (
    bound("time_limit", LIMIT, "at-max", lambda limit: limit.max, Answered(), **SHORT),
    bound("time_limit", LIMIT, "above-max", lambda limit: limit.max + 0.001, refused(OUT_OF_RANGE, "time_limit"), **SHORT),
    bound("time_limit", LIMIT, "below-min", lambda limit: limit.min, refused(OUT_OF_RANGE, "time_limit"), **SHORT),
    bound("time_limit", LIMIT, "negative", lambda limit: limit.min - 1, refused(OUT_OF_RANGE, "time_limit"), **SHORT),
    Row("time_limit-at-min", LIMIT, {"time_limit": 1e-9}, Refused("DEADLINE_EXCEEDED", "DEADLINE_IN_QUEUE")),
)

ROWS = (*SCALARS, *LENGTHS, *SETS, *TIMES)
