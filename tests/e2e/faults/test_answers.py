"""Answers that a fault could spoil: stops at any place, half characters, names and neighbours that are up to no good."""

import random
import time

import pytest
from phi_client import Client, Refusal, finish_name, join
from phi_programs import SANITIZED

REPLICA = {"tensor_parallel": 2}
PROMPT = 'def largest(numbers):\n    """Return the largest of the numbers."""\n'
LONG = {"max_new_tokens": 48, "ignore_eos": True}
INTERLEAVINGS = 2_000 if SANITIZED else 10_000
SECRET = "hunter2 correct horse battery staple"


@pytest.fixture(scope="module")
def free(replica):
    """The text that stops are looked for in."""
    return replica.client.generate(PROMPT, **LONG).completions[0].text


def naive_cut(text, stops, include):
    """The text up to the stop that is complete first, or of those the longest; None where there is none."""
    ends = [(text.index(stop) + len(stop), -len(stop), stop) for stop in stops if stop in text]
    if not ends:
        return text, None
    end, _, stop = min(ends)
    return text[: end if include else end - len(stop)], stop


@pytest.mark.parametrize("seed", range(3))
def test_row55_random_stops(served, free, seed):
    """Any set of stops, from the text and not: what is before the first one comes out, by both calls alike."""
    chance = random.Random(seed)
    for _ in range(12):
        stops = []
        for _ in range(chance.randint(1, 5)):
            start = chance.randrange(len(free))
            stop = free[start : start + chance.randint(1, 12)]
            stops.append(stop if chance.random() < 0.7 else stop[:-1] + chance.choice("\u2603é\0"))
        include = chance.random() < 0.5
        text, stop = naive_cut(free, stops, include)
        whole = served.client.generate(PROMPT, stop=stops, include_stop=include, **LONG).completions[0]
        joined, _, _, last, _ = join(served.client.stream(PROMPT, stop=stops, include_stop=include, **LONG))
        assert whole.text == joined == text, stops
        assert (finish_name(whole.finish) == "STOP_STRING") == (stop is not None) and last.finish == whole.finish
        if stop is not None:
            assert whole.finish.stop == stop


def test_row55_bounds_of_stops(served):
    client = served.client
    for stops, reason in (([""], "EMPTY_STOP"), (["x"] * 17, "TOO_MANY_STOPS"), (["x" * 257], "FIELD_OUT_OF_RANGE"), (["é" * 129], "FIELD_OUT_OF_RANGE")):
        refusal = client.refusal(PROMPT, stop=stops)
        assert (refusal.reason, refusal.fields) == (reason, ["parameters.stop"]), refusal
    assert client.refusal(PROMPT, stop=["x" * 2**20]).code.name == "RESOURCE_EXHAUSTED"  # the whole message is too large
    answer = client.generate(PROMPT, stop=[chr(0x2603 + i) * 85 for i in range(16)], **LONG).completions[0]
    assert finish_name(answer.finish) == "MAX_NEW_TOKENS"


def test_row55_held_back_text_comes_out_at_the_end(served, free):
    stops = [free[-k:] + "\u2603" for k in (1, 5, 20)]
    assert join(served.client.stream(PROMPT, stop=stops, **LONG))[0] == free


def test_row55_a_stop_that_is_the_first_token(served, free):
    answer = served.client.generate(PROMPT, stop=[free[0]], **LONG).completions[0]
    assert (answer.text, finish_name(answer.finish), answer.finish.generated_tokens) == ("", "STOP_STRING", 1)


def test_row58_the_same_request_id_twice_at_once(served):
    """Ids name calls in logs and headers; nothing is looked up by them."""
    prompts = [f"def f{i}(x):\n    return x + {i}\n" for i in range(6)]
    alone = [served.client.generate(prompt, **LONG).completions[0].text for prompt in prompts]
    streams = [served.client.stream(prompt, request_id="the-same", **LONG) for prompt in prompts]
    assert [join(stream)[0] for stream in streams] == alone


@pytest.mark.parametrize(
    "name", ["a\nb", "a\r\nSet-Cookie: x", "\x1b[31mred", "r" * 129, '{"level":"error"}\n', "é", "\x7f"], ids=lambda name: ascii(name)[:20]
)
def test_row58_bad_request_ids(served, name):
    refusal = served.client.refusal(PROMPT, request_id=name)
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST_ID"), refusal
    assert not any(name in str(value) for entry in served.router.log_entries() for value in entry.values())


def test_row58_a_huge_request_id(served):
    assert served.client.refusal(PROMPT, request_id="r" * 2**20).code.name == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("name", ["gpt", "PHI-NANO", "phi-nano ", "../phi-nano", "x" * 5000, "\0"], ids=lambda name: ascii(name)[:14])
def test_row59_another_model(served, name):
    refusal = served.client.refusal(PROMPT, model=name)
    assert (refusal.code.name, refusal.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND"), refusal


def test_row59_the_model_served(served):
    answers = [served.client.generate(PROMPT, model=name, **LONG).completions for name in ("", "phi-nano")]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("seed", range(4))
def test_row61_half_characters(served, seed):
    """Drawn at random, tokens often end within a character: a stream never shows half of one, nor a part of the prompt."""
    asked = {"max_new_tokens": 40, "ignore_eos": True, "temperature": 2.0, "seed": seed, "logprobs": 0}
    prompt = list(served.client.tokenize("é🐍").token_ids)[:-1]  # itself ends within a character
    messages = list(served.client.stream(prompt, **asked))
    text, ids, logprobs, _, _ = join(messages)
    assert text == b"".join(entry.piece for entry in logprobs).decode(errors="replace")
    assert text == served.client.detokenize(ids).text
    assert text == served.client.generate(prompt, **asked).completions[0].text
    for length in range(1, 40, 7):  # cut anywhere, the end is flushed
        assert served.client.generate(prompt, **asked | {"max_new_tokens": length}).completions[0].text == served.client.detokenize(ids[:length]).text


BAD = (
    {"top_p": 5.0},
    {"max_new_tokens": 0},
    {"stop": [""]},
    {"temperature": float("nan")},
    {"stop_token_ids": [2**32 - 1]},
    {"model": "other"},
    {"request_id": "\n"},
    {"time_limit": -1},
)


def test_row62_good_requests_among_bad_ones(served, figure):
    """Thousands of refused requests of every kind around good ones, whose answers do not change by a bit."""
    client = Client(served.router.address)
    chance = random.Random(62)
    bad = [Client.request(PROMPT, **fields).SerializeToString() for fields in BAD] + [b"\xff", b"\x0a\x02\xc3\x28", b""]
    good = Client.request(PROMPT, max_new_tokens=3, ignore_eos=True, logprobs=1, temperature=0.7, seed=5).SerializeToString()
    call = client._unary("Generate", "phi.v1.GenerateRequest", "phi.v1.GenerateResponse")
    reference, refused, under = call(good).completions, 0, []
    start = time.monotonic()
    for index in range(INTERLEAVINGS):
        is_good = index % 50 == 0
        under.append((is_good, call.future(good if is_good else chance.choice(bad), timeout=120)))
        if len(under) < 32:
            continue
        was_good, future = under.pop(0)
        if was_good:
            assert future.result().completions == reference
        else:
            assert Refusal(future.exception()).reason, future.exception()
            refused += 1
    seconds = time.monotonic() - start
    assert refused > INTERLEAVINGS * 0.9
    for was_good, future in under:
        assert future.exception() is None or not was_good
    client.close()
    figure(f"bad requests among good ones: {INTERLEAVINGS} in {seconds:.1f} s, every good answer bit-identical")


def test_row63_no_text_in_logs_errors_or_metrics(served):
    """Neither prompts nor answers, neither of good requests nor of refused ones."""
    client = served.client
    answer = client.generate(SECRET, max_new_tokens=40, ignore_eos=True, stop=[SECRET[:7]]).completions[0].text
    refusals = [
        client.refusal(SECRET, top_p=5.0),
        client.refusal(SECRET * 1000),
        client.refusal(PROMPT, model=SECRET),
        client.refusal(PROMPT, stop=[SECRET * 10]),
        client.refusal(b"\x0a" + bytes([len(SECRET) + 1]) + SECRET.encode() + b"\xff"),
        client.refusal(PROMPT, request_id=SECRET + "\n"),
    ]
    places = [str(refusal) + str(refusal.metadata) for refusal in refusals]
    for server in (served.router, served.worker):
        places += [server.log(), server.http("/metrics")[1]]
    written = "\n".join(places)
    assert "hunter2" not in written and "battery" not in written
    pieces = [piece for piece in (answer[i : i + 16] for i in range(0, len(answer) - 16, 4)) if len(piece.split()) > 2]
    assert pieces, f"nothing to look for in {answer!r}"
    assert not any(piece in written for piece in pieces)
