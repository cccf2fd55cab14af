"""Parameters that are none: each is refused by name before a replica sees it, alone and among random others."""

import random
import struct

import grpc
import pytest
from phi_client import Client, Refusal, message_class

REPLICA = {"tensor_parallel": 2}
PROMPT = "def f():\n"
NAN, INFINITY, TINY = float("nan"), float("inf"), 1e-45
SHORT = {"max_new_tokens": 2}


def refused(client, reason, field, **parameters):
    refusal = client.refusal(PROMPT, **parameters)
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", reason), refusal
    assert refusal.fields == [f"parameters.{field}"], refusal


@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY, -TINY, -1, 2.0000002, 1e38], ids=str)
def test_row51_bad_temperature(served, value):
    refused(served.client, "FIELD_OUT_OF_RANGE", "temperature", temperature=value)


@pytest.mark.parametrize("value", [0.0, -0.0, TINY, 1e-38, 1e-3, 2.0], ids=str)
def test_row51_smallest_temperatures_are_no_fault(served, value):
    """As small as a float gets: the draw is then the most likely token, and nothing overflows on its way."""
    asked = {"max_new_tokens": 8, "ignore_eos": True, "logprobs": 1, "seed": 1}
    answer = served.client.generate(PROMPT, temperature=value, **asked).completions[0]
    assert all(-INFINITY < entry.logprob <= 0 for entry in answer.logprobs)
    if value < 1e-10:
        assert answer.token_ids == served.client.generate(PROMPT, **asked).completions[0].token_ids


@pytest.mark.parametrize("field", ["top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty"])
@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY, -2.0000002, 2.0000002], ids=str)
def test_row52_bad_floats(served, field, value):
    refused(served.client, "FIELD_OUT_OF_RANGE", field, **{field: value})


def test_row52_bad_top_p_and_top_k(served):
    client = served.client
    vocabulary = client.model_info().vocabulary_tokens
    for value in (0.0, -0.0, -TINY, 1.0000001):
        refused(client, "FIELD_OUT_OF_RANGE", "top_p", top_p=value)
    for value in (vocabulary + 1, 2**31, 2**32 - 1):
        refused(client, "FIELD_OUT_OF_RANGE", "top_k", top_k=value)
    for parameters in ({"top_p": TINY}, {"top_k": vocabulary}, {"min_p": 1.0}):
        assert client.generate(PROMPT, temperature=1.0, **parameters, **SHORT).completions[0].token_ids


def test_row53_bad_logit_bias(served):
    client = served.client
    vocabulary = client.model_info().vocabulary_tokens
    for bad in (vocabulary, 2**31, 2**32 - 1):
        refused(client, "TOKEN_ID_OUT_OF_RANGE", "logit_bias", logit_bias={5: 1.0, bad: 1.0})
    for bad in (NAN, INFINITY, -INFINITY, 100.00001, -100.00001, 3e38):
        refused(client, "FIELD_OUT_OF_RANGE", "logit_bias", logit_bias={5: bad})
    refused(client, "FIELD_OUT_OF_RANGE", "logit_bias", logit_bias={i: 0.0 for i in range(301)})


def test_row53_all_likely_tokens_banned(served):
    """As many tokens as may be named, as far down as may be: the answer goes on with others."""
    banned = {i: -100.0 for i in range(300)}
    answer = served.client.generate(PROMPT, logit_bias=banned, max_new_tokens=8, ignore_eos=True).completions[0]
    assert len(answer.token_ids) == 8 and not set(answer.token_ids) & set(banned)


@pytest.mark.parametrize("bad", [0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1], ids=str)
def test_row54_token_ids_beyond_the_vocabulary(served, bad):
    client = served.client
    info = client.model_info()
    # Rows of the head that are no token are no better than ids beyond it.
    bad += info.vocabulary_tokens if bad < 2 else 0
    refused(client, "TOKEN_ID_OUT_OF_RANGE", "stop_token_ids", stop_token_ids=[5, bad])
    refusal = client.refusal([5, bad, 6])
    assert (refusal.reason, refusal.fields) == ("TOKEN_ID_OUT_OF_RANGE", ["token_ids"]), refusal


def test_row56_caps_are_checked_before_anything_is_allocated(served):
    tokens = served.worker.metric("phi_prompt_tokens_total")
    for value in (0, 17, 10**6, 2**32 - 1):
        refused(served.client, "FIELD_OUT_OF_RANGE", "n", n=value)
    for value in (21, 10**6, 2**32 - 1):
        refused(served.client, "FIELD_OUT_OF_RANGE", "logprobs", logprobs=value)
    refused(served.client, "RESPONSE_TOO_LARGE", "max_new_tokens", n=11, logprobs=8, max_new_tokens=331)  # 32769 entries
    assert served.worker.metric("phi_prompt_tokens_total") == tokens


class Chance:
    """Random parameters, each good or bad by the published limits."""

    def __init__(self, info, seed):
        self.random = random.Random(seed)
        self.limits = {limit.field.removeprefix("parameters."): limit for limit in info.limits}
        self.types = message_class("phi.v1.GenerationParameters").DESCRIPTOR.fields_by_name

    def value(self, field, good):
        """A value of a scalar field, inside its range or outside."""
        limit, kind = self.limits[field], self.types[field]
        if kind.cpp_type == kind.CPPTYPE_FLOAT:
            inside = struct.unpack("<f", struct.pack("<f", self.random.uniform(limit.min, limit.max)))[0]
            return max(inside, 1e-3) if good else self.random.choice((limit.max * 1.01, limit.min - 1, NAN, INFINITY, -INFINITY, 3e38))
        least, most = int(limit.min), int(limit.max)
        return self.random.randint(least, most) if good else self.random.choice((most + 1, 2**31, 2**32 - 1))

    def parameters(self):
        """(parameters, names of the bad ones)"""
        chosen, bad = {}, []
        for field in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty", "logprobs"):
            if self.random.random() < 0.5:
                good = self.random.random() < 0.93
                chosen[field] = self.value(field, good)
                bad += [] if good else [field]
        if self.random.random() < 0.3:
            good = self.random.random() < 0.7
            chosen["stop"] = ["".join(self.random.choices("ab é🐍\n\0", k=self.random.randint(1, 20))) for _ in range(3)] + [""] * (not good)
            bad += [] if good else ["stop"]
        chosen["seed"], chosen["n"] = self.random.getrandbits(64), self.random.randint(1, 3)
        return chosen, bad


@pytest.mark.parametrize("seed", range(3))
def test_row51_random_parameters(served, seed):
    """What is within the published limits is answered, by both calls alike; what is not is refused by one of the fields that are not."""
    client = served.client
    chance = Chance(client.model_info(), seed)
    answered = 0
    for _ in range(60):
        parameters, bad = chance.parameters()
        if bad:
            refusal = client.refusal(PROMPT, max_new_tokens=2, **parameters)
            assert refusal.code.name == "INVALID_ARGUMENT", (parameters, refusal)
            assert {field.split(".")[1].split("[")[0] for field in refusal.fields} <= set(bad), (parameters, refusal)
            continue
        answer = client.generate(PROMPT, max_new_tokens=2, **parameters)
        assert len(answer.completions) == parameters["n"], parameters
        answered += 1
    assert answered > 20


@pytest.mark.parametrize("seed", range(2))
def test_row41_random_bytes_among_the_parameters(served, seed):
    """Any bytes where parameters belong: an answer, or one of our refusals; never an error without a reason."""
    chance = random.Random(seed)
    prompt = Client.request(PROMPT).SerializeToString()
    keys = [number << 3 | kind for number in range(1, 16) for kind in (0, 2, 5)]
    refusals = 0
    for _ in range(200):
        body = b"\x08\x02" + bytes([chance.choice(keys)]) + chance.randbytes(chance.randint(0, 12))
        try:
            answer = served.client.generate(prompt + b"\x1a" + bytes([len(body)]) + body)
        except grpc.RpcError as error:
            refusal = Refusal(error)
            assert refusal.code.name == "INVALID_ARGUMENT" and refusal.domain == "phi-serve", (body, refusal)
            refusals += 1
        else:
            assert answer.completions
    assert refusals > 50
