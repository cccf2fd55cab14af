"""What a caller may not ask: one clear error each, by code, reason and field, and the next request is served as before."""

import statistics
import time

import grpc
import pytest
from phi_client import Client, Refusal, message_class
from phi_programs import SANITIZED, Replica, wait_until
from raw_http2 import GENERATE, Connection

PROMPT = "def f():\n"


@pytest.fixture(scope="module")
def replica():
    with Replica(tensor_parallel=2) as started:
        yield started


@pytest.fixture(scope="module")
def client(replica):
    return replica.client


@pytest.fixture(autouse=True)
def _serves_as_before(client):
    before = client.generate(PROMPT, max_new_tokens=4).completions
    yield
    assert client.generate(PROMPT, max_new_tokens=4).completions == before


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("parameters", "reason", "field"),
    [
        ({"max_new_tokens": 0}, "FIELD_OUT_OF_RANGE", "parameters.max_new_tokens"),
        ({"max_new_tokens": 2**32 - 1}, "FIELD_OUT_OF_RANGE", "parameters.max_new_tokens"),
        ({"temperature": NAN}, "FIELD_OUT_OF_RANGE", "parameters.temperature"),
        ({"temperature": INFINITY}, "FIELD_OUT_OF_RANGE", "parameters.temperature"),
        ({"temperature": -0.1}, "FIELD_OUT_OF_RANGE", "parameters.temperature"),
        ({"temperature": 2.1}, "FIELD_OUT_OF_RANGE", "parameters.temperature"),
        ({"top_p": 0}, "FIELD_OUT_OF_RANGE", "parameters.top_p"),
        ({"top_p": 1.01}, "FIELD_OUT_OF_RANGE", "parameters.top_p"),
        ({"top_p": NAN}, "FIELD_OUT_OF_RANGE", "parameters.top_p"),
        ({"top_k": 10**6}, "FIELD_OUT_OF_RANGE", "parameters.top_k"),
        ({"min_p": 1.5}, "FIELD_OUT_OF_RANGE", "parameters.min_p"),
        ({"repetition_penalty": 0}, "FIELD_OUT_OF_RANGE", "parameters.repetition_penalty"),
        ({"n": 17}, "FIELD_OUT_OF_RANGE", "parameters.n"),
        ({"logprobs": 21}, "FIELD_OUT_OF_RANGE", "parameters.logprobs"),
        ({"truncate_prompt": 0}, "FIELD_OUT_OF_RANGE", "parameters.truncate_prompt"),
        ({"time_limit": 0}, "FIELD_OUT_OF_RANGE", "parameters.time_limit"),
        ({"time_limit": -1}, "FIELD_OUT_OF_RANGE", "parameters.time_limit"),
        ({"min_new_tokens": 9, "max_new_tokens": 8}, "FIELD_OUT_OF_RANGE", "parameters.min_new_tokens"),
        ({"stop": [""]}, "EMPTY_STOP", "parameters.stop"),
        ({"stop": ["x"] * 17}, "TOO_MANY_STOPS", "parameters.stop"),
        ({"stop": ["x" * 257]}, "FIELD_OUT_OF_RANGE", "parameters.stop"),
        ({"stop_token_ids": [10**6]}, "TOKEN_ID_OUT_OF_RANGE", "parameters.stop_token_ids"),
        ({"stop_token_ids": [1] * 65}, "TOO_MANY_STOPS", "parameters.stop_token_ids"),
        ({"stop_conditions": [9]}, "UNSUPPORTED_FIELD", "parameters.stop_conditions"),
    ],
    ids=str,
)
def test_a_bad_parameter_is_refused_by_its_path(client, parameters, reason, field):
    refusal = client.refusal(PROMPT, **parameters)
    assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT, refusal
    assert refusal.reason == reason, refusal
    assert refusal.domain == "phi-serve"
    assert [name.split("[")[0] for name in refusal.fields] == [field], refusal


@pytest.mark.parametrize(
    ("prompt", "options", "code", "reason"),
    [
        ("", {}, "INVALID_ARGUMENT", "EMPTY_PROMPT"),
        (None, {}, "INVALID_ARGUMENT", "EMPTY_PROMPT"),
        ([], {}, "INVALID_ARGUMENT", "EMPTY_PROMPT"),
        ([10**6], {}, "INVALID_ARGUMENT", "TOKEN_ID_OUT_OF_RANGE"),
        ("x = 1\n" * 4000, {}, "INVALID_ARGUMENT", "PROMPT_TOO_LONG"),
        (PROMPT, {"request_id": "a\nb"}, "INVALID_ARGUMENT", "INVALID_REQUEST_ID"),
        (PROMPT, {"request_id": "x" * 129}, "INVALID_ARGUMENT", "INVALID_REQUEST_ID"),
        (PROMPT, {"model": "gpt"}, "NOT_FOUND", "MODEL_NOT_FOUND"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_bad_request_is_refused_by_its_reason(client, prompt, options, code, reason):
    refusal = client.refusal(prompt, **options)
    assert (refusal.code.name, refusal.reason, refusal.domain) == (code, reason, "phi-serve"), refusal


def test_the_edge_of_the_context_is_exact(client):
    context = client.model_info().context_tokens
    client.generate([1] * (context - 1), max_new_tokens=1)
    over = client.refusal([1] * (context - 1), max_new_tokens=2)
    assert over.reason == "CONTEXT_EXCEEDED"
    assert str(context - 1) in over.message and "2" in over.message
    assert client.refusal([1] * context).reason == "PROMPT_TOO_LONG"


@pytest.mark.parametrize("payload", [b"\xff", b"\x0a\x05abc", b"\x0a\x02\xc3\x28", b"\x0b" * 200, b"\x1a\x02\x18\x80"], ids=repr)
def test_bytes_that_are_no_request_are_malformed(client, payload):
    refusal = client.refusal(payload)
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST"), refusal


def test_an_unknown_field_among_the_parameters_is_not_ignored(client):
    request = Client.request(PROMPT, max_new_tokens=1)
    parameters = request.parameters.SerializeToString() + b"\xc8\x01\x05"  # field 25, of those kept for later
    raw = message_class("phi.v1.GenerateRequest")(text=PROMPT).SerializeToString() + b"\x1a" + bytes([len(parameters)]) + parameters
    refusal = client.refusal(raw)
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "UNSUPPORTED_FIELD"), refusal


def test_a_huge_message_is_refused(client):
    with pytest.raises(grpc.RpcError) as error:
        client.generate(b"\x0a" + b"\xff\xff\x7f" + b"x" * (2**21 - 1))
    assert error.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT)


def test_compressed_messages_are_not_accepted(client):
    call = client.channel.unary_unary("/phi.v1.TextGeneration/Generate")
    with pytest.raises(grpc.RpcError) as error:
        call(Client.request("a" * 5000).SerializeToString(), timeout=10, compression=grpc.Compression.Gzip)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_an_unknown_method_is_unimplemented(client):
    call = client.channel.unary_unary("/phi.v1.TextGeneration/Nothing")
    with pytest.raises(grpc.RpcError) as error:
        call(b"", timeout=10)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_deadline_ends_the_call(replica):
    request = Client.request(PROMPT, max_new_tokens=400, ignore_eos=True).SerializeToString()
    with Connection(replica.router.address) as connection:  # a gRPC client would end the call by itself
        assert connection.call(GENERATE, request, grpc_timeout="1n").get("grpc-status") == "4"


def test_a_refusal_costs_little(replica, figure):
    """The router's own time is less than a millisecond where nothing is tokenized; the caller's, with the way there and back, is short."""
    context = replica.client.model_info().context_tokens
    bad = ({"top_p": 5.0}, {"max_new_tokens": 0}, {"stop": [""]}, {"stop_token_ids": [2**32 - 1]}, {"model": "other"}, {"request_id": "\n"})
    bodies = [b"\xff", *(Client.request(PROMPT, **fields).SerializeToString() for fields in bad), Client.request([5] * context).SerializeToString()]
    call = replica.client._unary("Generate", "phi.v1.GenerateRequest", "phi.v1.GenerateResponse")

    def own_times():
        """(calls that took less than a millisecond of the router, all calls)"""
        of = "phi_router_overhead_seconds"
        return [replica.router.metric(f"{of}_{series}") for series in ('bucket{method="Generate",le="0.001"}', 'count{method="Generate"}')]

    before, seconds = own_times(), []
    for index in range(400):
        start = time.monotonic()
        refused = call.future(bodies[index % len(bodies)], timeout=30).exception()
        seconds.append(time.monotonic() - start)
        assert Refusal(refused).reason, refused
    wait_until(lambda: own_times()[1] - before[1] == len(seconds), "all are counted")
    below = (own_times()[0] - before[0]) / len(seconds)
    median = statistics.median(seconds)
    figure(f"refused without tokenization: {median * 1e3:.2f} ms in the median for the caller; {below:.1%} below 1 ms of the router's own time")
    assert SANITIZED or (median < 0.005 and below >= 0.95)


def test_texts_that_look_dangerous_are_ordinary(client):
    for prompt in ("<|endoftext|>", " ", "\0", "\u202e\ud7ff\U0010ffff", "🐍" * 50):
        assert client.generate(prompt, max_new_tokens=2).completions[0].finish.generated_tokens >= 1


def test_no_prompt_in_an_error(client):
    secret = "correct horse battery staple"
    for refusal in (client.refusal(secret, top_p=5), client.refusal(secret * 1000), client.refusal(secret, model=secret)):
        assert "horse" not in refusal.message
    assert isinstance(refusal, Refusal)
