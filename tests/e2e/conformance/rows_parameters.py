"""What each parameter does, by properties that hold for any model. A check is true, or asserts what it is about."""

import itertools
import math
from collections import Counter

from contract import PATIENCE, PROMPT, Answered, CallRow, Row

# Long enough that a model repeats itself; stops end most of them earlier.
LONG = {"max_new_tokens": 24, "ignore_eos": True}
DRAWN = {**LONG, "temperature": 1.0, "seed": 7}
GREEDY = "0 is greedy: the highest logit, and on a tie the lowest id."
SEED = "The same seed draws the same tokens, whatever else runs."
SAMPLES = "Samples that share one prefill; sample i draws with (seed, i)."
STOP = "The earliest match ends the text, before the match."
LOGPROBS = "Log-probabilities of the chosen token and of that many most likely real tokens"
ORDER = "log-softmax over all rows of the head, before penalties, bias and temperature"
MIN_NEW = "cannot be drawn and no stop ends the text."
ULP = 1e-4  # of float32 log-probabilities around -10, with room


def is_greedy(server, answer):
    """The tokens of the same request without sampling."""
    return answer.first.ids == server.first(**LONG).ids


def all_ids_are(token):
    return Answered(lambda server, answer: set(answer.first.ids) == {token(server)})


def ordered_logprobs(server, answer):
    """20 a token, sorted, of real tokens, together at most 1; the chosen one among them or below all of them."""
    for token_id, entry in zip(answer.first.ids, answer.first.logprobs, strict=True):
        values = [top.logprob for top in entry.top]
        assert entry.token_id == token_id
        assert len(values) == 20 and values == sorted(values, reverse=True) and values[0] <= 0
        assert len({top.token_id for top in entry.top}) == 20 and max(top.token_id for top in entry.top) < server.vocabulary
        assert sum(map(math.exp, values)) <= 1 + ULP
        chosen = dict((top.token_id, top.logprob) for top in entry.top).get(token_id)
        assert entry.logprob == chosen if chosen is not None else entry.logprob <= values[-1]
    return True


def pieces_are_the_text(server, answer):
    """The bytes of the tokens are the text, where it is whole characters."""
    joined = b"".join(entry.piece for entry in answer.first.logprobs)
    return joined.decode(errors="replace") == answer.first.text


def logprobs_travel_with_the_last_byte(server):
    """After each message of a stream: those tokens have been told whose last byte is in the text so far, and no other."""
    free = server.first(**LONG).text
    for stops in ([], [free[8:20] + "\u2603"], [free[:30] + "\u2603", free[-3:] + "\u2603"]):
        messages = list(server.client.stream(PROMPT, timeout=PATIENCE, logprobs=0, stop=stops, **LONG))
        pieces = [entry.piece for message in messages for entry in message.logprobs]
        text = "".join(message.text for message in messages)
        assert b"".join(pieces).decode() == text == free
        ends = list(itertools.accumulate(map(len, pieces)))
        size = told = 0
        for message in messages:
            assert [entry.token_id for entry in message.logprobs] == list(message.token_ids)
            size += len(message.text.encode())
            told += len(message.token_ids)
            assert told == sum(end <= size for end in ends), (told, size, ends)
        assert told == LONG["max_new_tokens"]


def follows_the_penalties(server, answer):
    """Each greedy token is the first of log-probability less penalties, counted over the output; prompts do not count."""
    parameters, seen, told = answer.asked, Counter(), 0
    frequency, presence = parameters.get("frequency_penalty", 0), parameters.get("presence_penalty", 0)
    for token_id, entry in zip(answer.first.ids, answer.first.logprobs, strict=True):
        adjusted = {top.token_id: top.logprob - frequency * seen[top.token_id] - presence * (seen[top.token_id] > 0) for top in entry.top}
        best = max(adjusted.values())
        bonus = max((-frequency * count - presence for seen_id, count in seen.items() if seen_id not in adjusted), default=0)
        if best > entry.top[-1].logprob + max(bonus, 0) + ULP:  # no token outside the twenty can be better
            assert adjusted.get(token_id, -math.inf) >= best - ULP, (token_id, entry)
            told += 1
        seen[token_id] += 1
    assert max(seen.values()) > 0 and (told > len(seen) // 2 or min(frequency, presence) < 0)
    return True


def repeats(server, token, bias, penalties):
    """Whether a token that the bias brings about once comes a second time."""
    ids = server.first(max_new_tokens=2, ignore_eos=True, logit_bias={token: bias}, **penalties).ids
    assert ids[0] == token, (ids, token, bias)
    return ids[1] == token


def least_bias(server, token, least, penalties):
    """The bias from which on the token is repeated; more than `least`."""
    below, above = least, 100.0
    assert repeats(server, token, above, penalties) and not repeats(server, token, below, penalties)
    while above - below > 0.002:
        middle = (below + above) / 2
        below, above = (below, middle) if repeats(server, token, middle, penalties) else (middle, above)
    return above


def penalties_in_order(server):
    """Bias is what makes up for frequency and presence, and repetition, which multiplies, has been there before them all."""
    repetition, frequency, presence = 1.5, 1.0, 0.5
    alone, together = ({"repetition_penalty": repetition, **more} for more in ({}, {"frequency_penalty": frequency, "presence_penalty": presence}))
    top = server.first(max_new_tokens=1, ignore_eos=True, logprobs=20).logprobs[0].top
    for entry in top:
        least = top[0].logprob - entry.logprob + 0.1  # with it the token comes first; those of the prompt are penalized at once
        if entry.token_id not in server.prompt_ids and not repeats(server, entry.token_id, least, alone):
            difference = least_bias(server, entry.token_id, least, together) - least_bias(server, entry.token_id, least, alone)
            assert abs(difference - (frequency + presence)) < 0.02, difference
            return
    raise AssertionError("each of twenty tokens repeats itself")


def differs_from_greedy(server, answer):
    return not is_greedy(server, answer)


def cut_at(server, answer, stops):
    """The text of the same request without stops, cut before the stop that is complete first."""
    asked = {name: value for name, value in answer.asked.items() if name not in ("stop", "prompt", "include_stop")}
    free = server.first(**asked).text
    end, begin, stop = min((free.index(stop) + len(stop), free.index(stop), stop) for stop in stops if stop in free)
    assert answer.first.text == free[: end if answer.asked.get("include_stop") else begin], (answer.first.text, free, stops)
    return (answer.first.reason, answer.first.finish.stop) == ("STOP_STRING", stop)


def middle_of_greedy(server, length, at=0.5):
    text = server.first(**LONG).text
    start = int(len(text) * at)
    return text[start : start + length]


def stops_from(*places, **more):
    """A request with stops that occur in its own text, at those places."""
    return lambda server: {**LONG, "stop": [middle_of_greedy(server, length, at) for length, at in places], **more}


def stops_early(server, answer):
    return cut_at(server, answer, answer.asked["stop"])


SAMPLING = (
    Row("temperature-0-is-greedy", GREEDY, {**LONG, "temperature": 0.0, "seed": 3}, Answered(is_greedy)),
    Row("temperature-0-has-the-highest-logit", GREEDY, {**LONG, "logprobs": 1}, Answered(lambda server, answer: all(
        entry.token_id == entry.top[0].token_id for entry in answer.first.logprobs))),
    Row("top_k-1-is-greedy", "Only the so many most likely tokens may be drawn; 0: all.", {**DRAWN, "top_k": 1}, Answered(is_greedy)),
    Row("top_k-keeps-the-likeliest", "Only the so many most likely tokens may be drawn; 0: all.",
        {**DRAWN, "temperature": 2.0, "top_k": 3, "logprobs": 3},
        Answered(lambda server, answer: all(e.token_id in [top.token_id for top in e.top] for e in answer.first.logprobs))),
    Row("top_p-near-0-is-greedy", "Only the smallest set of most likely tokens may be drawn whose probabilities sum up to it.",
        {**DRAWN, "top_p": 1e-6}, Answered(is_greedy)),
    Row("min_p-1-is-greedy", "Only tokens at least so likely, relative to the most likely one, may be drawn.",
        {**DRAWN, "min_p": 1.0}, Answered(is_greedy)),
    Row("min_p-keeps-the-likely", "Only tokens at least so likely, relative to the most likely one, may be drawn.",
        {**DRAWN, "min_p": 0.3, "logprobs": 1},
        Answered(lambda server, answer: all(e.logprob >= e.top[0].logprob + math.log(0.3) - ULP for e in answer.first.logprobs))),
    Row("seed-repeats", SEED, {**DRAWN, "temperature": 2.0},
        Answered(lambda server, answer: answer.first.ids == server.first(**DRAWN | {"temperature": 2.0}).ids)),
    Row("seed-matters", SEED, {**DRAWN, "temperature": 2.0},
        Answered(lambda server, answer: answer.first.ids != server.first(**DRAWN | {"temperature": 2.0, "seed": 8}).ids)),
    Row("seed-0", SEED, {**DRAWN, "seed": 0}, Answered(lambda server, answer: answer.header.seed == 0)),
    Row("seed-largest", SEED, {**DRAWN, "seed": 2**64 - 1}, Answered(lambda server, answer: answer.header.seed == 2**64 - 1)),
    Row("seed-told", "Unset: a random one, which the header tells.", {**LONG, "temperature": 2.0},
        Answered(lambda server, answer: answer.first.ids == server.first(**LONG, temperature=2.0, seed=answer.header.seed).ids)),
)  # fmt: skip

PENALTIES = (
    Row("penalties-neutral", "1: none.", {**LONG, "repetition_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0},
        Answered(is_greedy)),
    Row("repetition_penalty-counts-prompt-and-output", "Logits of tokens in prompt or output are divided by it where positive",
        {**LONG, "max_new_tokens": 40, "repetition_penalty": 2.0},
        Answered(lambda server, answer: answer.first.ids != server.first(**LONG | {"max_new_tokens": 40}).ids
                 and len(set(answer.first.ids)) > len(answer.first.ids) // 2)),
    Row("repetition_penalty-below-1-repeats", "Logits of tokens in prompt or output are divided by it where positive",
        {**LONG, "repetition_penalty": 0.1}, Answered(differs_from_greedy)),
    Row("frequency_penalty-counts-the-output", "Taken off a token's logit for each time it stands in the output.",
        {**LONG, "frequency_penalty": 1.5, "logprobs": 20}, Answered(follows_the_penalties)),
    Row("frequency_penalty-negative-repeats", "Taken off a token's logit for each time it stands in the output.",
        {**LONG, "frequency_penalty": -2.0, "logprobs": 20}, Answered(follows_the_penalties)),
    Row("presence_penalty-counts-once", "Taken off a token's logit once it stands in the output.",
        {**LONG, "presence_penalty": 2.0, "logprobs": 20}, Answered(follows_the_penalties)),
    Row("presence_penalty-beside-frequency_penalty", "Taken off a token's logit once it stands in the output.",
        {**LONG, "presence_penalty": 0.5, "frequency_penalty": 0.25, "logprobs": 20}, Answered(follows_the_penalties)),
    Row("logit_bias-forces", "Added to the logits of these token ids.",
        lambda server: {**LONG, "logit_bias": {server.token_of("+"): 100.0}}, all_ids_are(lambda server: server.token_of("+"))),
    Row("logit_bias-bans", "Added to the logits of these token ids.",
        lambda server: {**LONG, "logit_bias": {i: -100.0 for i in set(server.first(**LONG).ids)}},
        Answered(lambda server, answer: not set(answer.first.ids) & set(server.first(**LONG).ids))),
    Row("logprobs-before-bias", ORDER, lambda server: {**LONG, "max_new_tokens": 1, "logprobs": 20, "logit_bias": {7: 100.0}},
        Answered(lambda server, answer: answer.first.ids == [7]
                 and answer.first.logprobs[0].top == server.first(**LONG | {"max_new_tokens": 1}, logprobs=20).logprobs[0].top)),
    Row("logprobs-before-temperature", ORDER, {**DRAWN, "max_new_tokens": 1, "logprobs": 20, "temperature": 0.5},
        Answered(lambda server, answer:
                 answer.first.logprobs[0].top == server.first(**LONG | {"max_new_tokens": 1}, logprobs=20).logprobs[0].top)),
)  # fmt: skip

SEVERAL = (
    Row("n-greedy-are-equal", SAMPLES, {**LONG, "n": 3},
        Answered(lambda server, answer: len(answer.samples) == 3 and all(s.ids == answer.first.ids for s in answer.samples))),
    Row("n-first-is-the-only-one", SAMPLES, {**DRAWN, "temperature": 2.0, "n": 4},
        Answered(lambda server, answer: answer.first.ids == server.first(**DRAWN | {"temperature": 2.0}).ids
                 and len({tuple(sample.ids) for sample in answer.samples}) > 1)),
    Row("n-more-samples-keep-the-first", SAMPLES, {**DRAWN, "temperature": 2.0, "n": 5},
        Answered(lambda server, answer: [s.ids for s in answer.samples[:2]]
                 == [s.ids for s in server.answer(**DRAWN | {"temperature": 2.0}, n=2).samples])),
    Row("n-prompt-counts-once", SAMPLES, {**LONG, "n": 2},
        Answered(lambda server, answer: answer.summary.usage.prompt_tokens == len(server.prompt_ids)
                 and answer.summary.usage.generated_tokens == 2 * LONG["max_new_tokens"])),
    Row("n-each-ends-by-itself", SAMPLES, {**DRAWN, "temperature": 2.0, "n": 8, "stop": ["a", "e", " "], "logprobs": 1},
        Answered(lambda server, answer: len({sample.finish.generated_tokens for sample in answer.samples}) > 1
                 and all(not set("ae ") & set(sample.text) for sample in answer.samples))),
)  # fmt: skip

STOPS = (
    Row("stop-cuts-before", STOP, stops_from((3, 0.5)), Answered(stops_early)),
    Row("stop-of-one-character", STOP, stops_from((1, 0.7)), Answered(stops_early)),
    Row("stop-earliest-of-several", STOP, stops_from((3, 0.7), (2, 0.3), (4, 0.5)), Answered(stops_early)),
    Row("stop-overlapping", STOP, stops_from((6, 0.4), (2, 0.45), (8, 0.35)), Answered(stops_early)),
    Row("stop-across-tokens", STOP, stops_from((12, 0.3)), Answered(stops_early)),
    Row("stop-not-in-the-prompt", "Looked for in generated text only.", {**LONG, "stop": [PROMPT[:10]], "max_new_tokens": 1},
        Answered(lambda server, answer: answer.first.reason == "MAX_NEW_TOKENS")),
    Row("stop-held-back-text-comes-out", "Looked for in generated text only.",
        lambda server: {**LONG, "stop": [server.first(**LONG).text[-2:] + "\u2603"]},
        Answered(lambda server, answer: answer.first.text == server.first(**LONG).text)),
    Row("include_stop-keeps-it", "Keep the matched stop in the text.", stops_from((3, 0.5), include_stop=True), Answered(stops_early)),
    Row("stop_token_ids-end", "A token that ends the text; it stays in the token ids.",
        lambda server: {**LONG, "stop_token_ids": [server.first(**LONG).ids[9]]},
        Answered(lambda server, answer: answer.first.reason == "STOP_TOKEN" and answer.first.ids[-1] == answer.first.finish.token_id
                 and answer.first.ids == server.first(**LONG).ids[: len(answer.first.ids)] and len(answer.first.ids) <= 10)),
    Row("min_new_tokens-holds-stops", "`generated_tokens` counts the token that completed a stop.",
        lambda server: {**LONG, "logit_bias": {server.token_of("+"): 100.0}, "stop_token_ids": [server.token_of("+")], "min_new_tokens": 5},
        Answered(lambda server, answer: (answer.first.reason, answer.first.finish.generated_tokens) == ("STOP_TOKEN", 6))),
    Row("min_new_tokens-holds-stop-strings", MIN_NEW,
        lambda server: {**LONG, "logit_bias": {server.token_of("+"): 100.0}, "stop": ["+"], "min_new_tokens": 5},
        Answered(lambda server, answer: (answer.first.reason, answer.first.finish.generated_tokens) == ("STOP_STRING", 6)
                 and answer.first.text == "+" * 5)),
    Row("min_new_tokens-masks-end-of-text", MIN_NEW,
        lambda server: {"max_new_tokens": 12, "logit_bias": {server.end_of_text: 100.0}, "min_new_tokens": 4},
        Answered(lambda server, answer: (answer.first.reason, answer.first.finish.generated_tokens) == ("EOS", 5)
                 and server.end_of_text not in answer.first.ids[:4])),
    Row("ignore_eos-goes-on", "Go on after `<\\|endoftext\\|>`.", lambda server: {**LONG, "logit_bias": {server.end_of_text: 100.0}},
        Answered(lambda server, answer: answer.first.finish.generated_tokens == LONG["max_new_tokens"])),
)  # fmt: skip


OTHERS = (
    Row("logprobs-unset", "Unset: none; 0: of the chosen token only.", LONG, Answered(lambda server, answer: not answer.first.logprobs)),
    Row("logprobs-0", "Unset: none; 0: of the chosen token only.", {**LONG, "logprobs": 0},
        Answered(lambda server, answer: len(answer.first.logprobs) == 24 and not any(e.top for e in answer.first.logprobs))),
    Row("logprobs-20-of-greedy", LOGPROBS, {**LONG, "logprobs": 20}, Answered(ordered_logprobs)),
    Row("logprobs-20-of-sampled", LOGPROBS, {**DRAWN, "temperature": 2.0, "logprobs": 20}, Answered(ordered_logprobs)),
    Row("logprobs-pieces", LOGPROBS, {**LONG, "logprobs": 0}, Answered(pieces_are_the_text)),
    Row("truncate_prompt-keeps-the-end", "Keep only that many tokens from the prompt's end.", {**LONG, "truncate_prompt": 5},
        Answered(lambda server, answer: answer.summary.usage.prompt_tokens == 5
                 and answer.samples == server.answer(prompt=server.prompt_ids[-5:], **LONG).samples)),
    Row("truncate_prompt-of-a-longer-prompt", "Keep only that many tokens from the prompt's end.",
        lambda server: {"prompt": "x = 1\n" * server.context, "truncate_prompt": 9, "max_new_tokens": 2},
        Answered(lambda server, answer: answer.summary.usage.prompt_tokens == 9)),
    Row("max_new_tokens-unset-is-the-default", "Unset, it is the default or what the context leaves",
        {"ignore_eos": True}, Answered(lambda server, answer:
            answer.first.finish.generated_tokens == min(server.info.defaults.max_new_tokens, server.context - len(server.prompt_ids)))),
    Row("max_new_tokens-bounded-by-context", "and the finish reason is then `CONTEXT_LENGTH`.",
        lambda server: {"prompt": [5] * (server.context - 3), "ignore_eos": True},
        Answered(lambda server, answer: (answer.first.reason, answer.first.finish.generated_tokens) == ("CONTEXT_LENGTH", 3))),
    Row("finish-max_new_tokens", "**Finish reasons.** `EOS`, `MAX_NEW_TOKENS`", LONG,
        Answered(lambda server, answer: (answer.first.reason, len(answer.first.ids)) == ("MAX_NEW_TOKENS", 24))),
    Row("finish-eos", "**Finish reasons.** `EOS`, `MAX_NEW_TOKENS`",
        lambda server: {"logit_bias": {server.end_of_text: 100.0}},
        Answered(lambda server, answer: (answer.first.reason, answer.first.finish.generated_tokens, answer.first.text) == ("EOS", 1, ""))),
    Row("output-half-a-character", "Bytes that are not UTF-8 at the end become U+FFFD, as in Hugging Face's decode.",
        lambda server: {"max_new_tokens": 1, "logit_bias": {server.client.tokenize("\U0010abcd").token_ids[0]: 100.0}},
        Answered(lambda server, answer: answer.first.text.endswith("\ufffd"))),
)  # fmt: skip

ROWS = (*SAMPLING, *PENALTIES, *SEVERAL, *STOPS, *OTHERS)
CALLS = (
    CallRow("penalties-together", "Order on the logits: repetition, frequency and presence penalties, bias, masks", penalties_in_order),
    CallRow("logprobs-travel", "ids and log-probabilities travel with the message that carries the last byte of their token",
            logprobs_travel_with_the_last_byte),
)  # fmt: skip
