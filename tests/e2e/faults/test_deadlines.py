"""A `grpc-timeout` that is none, or none at all: the server's own `--max_time_limit` ends the call."""

import base64
import time

import pytest
from phi_client import DETAILS_KEY, Client, finish_name, message_class
from phi_programs import PATIENCE, Replica
from random_models import LONG_CONTEXT, make_checkpoint
from raw_http2 import GENERATE, Connection

PROMPT = "def f():\n"
LIMIT = 3  # seconds; the answers that `served` compares have to come within it on a machine that stalls
OK, DEADLINE_EXCEEDED = 0, 4
ENDLESS = Client.request(PROMPT, max_new_tokens=7000, ignore_eos=True)


@pytest.fixture(scope="module")
def replica(tmp_path_factory):
    """Its limit is shorter than an endless answer takes, and longer than the first token."""
    model = make_checkpoint(tmp_path_factory.mktemp("deadlines") / "model", LONG_CONTEXT | {"num_hidden_layers": 24})
    with Replica(model, 2, router_flags=(f"--max_time_limit={LIMIT}s",)) as started:
        yield started


def reason_of(answer):
    """That of a refusal's ErrorInfo; None where it has none."""
    encoded = answer.get(DETAILS_KEY, "")
    status = message_class("google.rpc.Status").FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
    for detail in status.details:
        if detail.type_url.endswith("google.rpc.ErrorInfo"):
            return message_class("google.rpc.ErrorInfo").FromString(detail.value).reason
    return None


def asked(address, **headers):
    """(gRPC status, finish reasons or the refusal's reason, seconds) of an endless request by raw HTTP/2."""
    start = time.monotonic()
    with Connection(address) as connection:
        answer = connection.call(GENERATE, ENDLESS.SerializeToString(), **headers)
    seconds = time.monotonic() - start
    status = int(answer["grpc-status"])
    body = message_class("phi.v1.GenerateResponse").FromString(answer["data"][5:])
    finishes = [finish_name(completion.finish) for completion in body.completions]
    return status, finishes if status == OK else reason_of(answer), seconds


@pytest.mark.parametrize("timeout", [None, "-1S", "abc", "9" * 40, "", "1", "1x", "99999999H"], ids=str)
def test_row31_a_timeout_that_is_none(served, timeout):
    headers = {} if timeout is None else {"grpc_timeout": timeout}
    status, reason, seconds = asked(served.router.address, **headers)
    # The text so far or, where a busy machine brought no token in time, the refusal that says so; neither before the limit.
    assert (status, reason) in ((OK, ["TIME_LIMIT"]), (DEADLINE_EXCEEDED, "DEADLINE_IN_QUEUE"))
    assert LIMIT <= seconds < LIMIT + PATIENCE


def test_row31_a_timeout_of_nothing(served):
    with Connection(served.router.address) as connection:
        assert connection.call(GENERATE, ENDLESS.SerializeToString(), grpc_timeout="0n").get("grpc-status") == "4"
