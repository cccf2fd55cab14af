"""A `grpc-timeout` that is none, or none at all: the server's own `--max_time_limit` ends the call."""

import pytest
from phi_client import Client, finish_name, message_class
from phi_programs import Replica
from random_models import LONG_CONTEXT, make_checkpoint
from raw_http2 import GENERATE, Connection

PROMPT = "def f():\n"
ENDLESS = Client.request(PROMPT, max_new_tokens=7000, ignore_eos=True)


@pytest.fixture(scope="module")
def replica(tmp_path_factory):
    """Its limit is shorter than an endless answer takes, and longer than the first token."""
    model = make_checkpoint(tmp_path_factory.mktemp("deadlines") / "model", LONG_CONTEXT)
    with Replica(model, 2, router_flags=("--max_time_limit=1s",)) as started:
        yield started


def asked(address, **headers):
    """(gRPC status, finish reasons) of an endless request by raw HTTP/2."""
    with Connection(address) as connection:
        answer = connection.call(GENERATE, ENDLESS.SerializeToString(), **headers)
    status = int(answer["grpc-status"])
    body = message_class("phi.v1.GenerateResponse").FromString(answer["data"][5:])
    return status, [finish_name(completion.finish) for completion in body.completions]


@pytest.mark.parametrize("timeout", [None, "-1S", "abc", "9" * 40, "", "1", "1x", "99999999H"], ids=str)
def test_row31_a_timeout_that_is_none(served, timeout):
    headers = {} if timeout is None else {"grpc_timeout": timeout}
    status, reasons = asked(served.router.address, **headers)
    if status == 0:
        assert set(reasons) == {"TIME_LIMIT"}, reasons
    else:
        assert status == 4, "neither ended by the limit nor refused for it"  # DEADLINE_EXCEEDED: no token came in time


def test_row31_a_timeout_of_nothing(served):
    with Connection(served.router.address) as connection:
        assert connection.call(GENERATE, ENDLESS.SerializeToString(), grpc_timeout="0n").get("grpc-status") == "4"
