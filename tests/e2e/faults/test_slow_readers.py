"""Callers who open streams and read nothing of them: what each costs the router, and that they are cut off."""

import contextlib

import grpc
import pytest
from phi_client import Client, message_class
from phi_programs import NANO, SANITIZED, Replica, wait_until
from quiet import Quiet
from raw_http2 import CANCEL, Connection, grpc_headers, message

CONNECTIONS, STREAMS = 2, 25
# A window that holds a fraction of an answer, be its tokens joined to ever so few messages, and does not grow; connections of
# their own.
READS_NOTHING = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 256), ("grpc.use_local_subchannel_pool", 1)]


def client_that_reads_nothing(address):
    client = Client(address)
    client.close()
    client.channel = grpc.insecure_channel(address, options=READS_NOTHING)
    return contextlib.closing(client)


def test_row32_a_caller_who_reads_nothing_is_cut_off_and_told():
    with Replica(NANO, 1, router_flags=("--slow_reader_timeout=2s",)) as replica:
        router = replica.router
        quiet = Quiet(replica)
        with client_that_reads_nothing(router.address) as client:
            call = client.stream("x", timeout=300, max_new_tokens=450, ignore_eos=True)
            wait_until(lambda: router.metric('phi_router_slow_readers_total{reason="stalled"}') == 1, "it is cut off")
            wait_until(lambda: router.log().count("slow_reader") == 1, "its line is in the log")
            with pytest.raises(grpc.RpcError) as refused:
                list(call)
        assert refused.value.code() == grpc.StatusCode.CANCELLED
        quiet.check()


@pytest.mark.parametrize("path", ["Generate", "GenerateStream", "Tokenize"])
def test_row32_the_end_of_an_answer_that_nobody_takes_is_thrown_away(path):
    """What has ended is not counted any more, but holds its bytes."""
    with Replica(NANO, 1, router_flags=("--slow_reader_timeout=1s",)) as replica:
        router = replica.router
        name = "Tokenize" if path == "Tokenize" else "Generate"
        request = message_class(f"phi.v1.{name}Request")(text="x")
        if name == "Generate":
            request.parameters.max_new_tokens = 1
        with Connection(router.address, window=0) as connection:
            stream = connection.open(grpc_headers(f"/phi.v1.TextGeneration/{path}"))
            connection.data(stream, message(request.SerializeToString()))
            wait_until(lambda: router.metric('phi_router_slow_readers_total{reason="stalled"}') == 1, "it is cut off")
            answer = connection.answer(stream)
        assert answer["data"] == b"" and (answer.get("reset") == CANCEL or answer.get("grpc-status") == "1"), answer
        wait_until(lambda: router.log().count("slow_reader") == 1, "its line is in the log")
        assert replica.client.generate("def f():", max_new_tokens=4).completions[0].finish.generated_tokens == 4


def test_row33_slow_readers_cost_little_and_are_cut(figure):
    flags = ("--max_sequences=64", "--max_queued_requests=128")
    with Replica(NANO, 1, *flags, router_flags=("--slow_reader_timeout=8s",)) as replica, contextlib.ExitStack() as clients:
        router = replica.router
        before = router.metric("process_resident_memory_bytes")
        calls = []
        for _ in range(CONNECTIONS):
            client = clients.enter_context(client_that_reads_nothing(router.address))
            calls += [client.stream("x", timeout=300, max_new_tokens=450, ignore_eos=True) for _ in range(STREAMS)]
        wait_until(lambda: router.metric("phi_router_inflight_requests") == len(calls), "all streams are held")
        each = (router.metric("process_resident_memory_bytes") - before) / len(calls)
        assert replica.client.generate("def f():", max_new_tokens=4).completions[0].finish.generated_tokens == 4
        wait_until(lambda: router.metric('phi_router_slow_readers_total{reason="stalled"}') == len(calls), "all are cut off")
        wait_until(lambda: router.metric("phi_router_inflight_requests") == 0, "nothing is held")
        wait_until(lambda: router.log().count("slow_reader") == len(calls), "each has its line in the log")
        figure(f"row 33, {len(calls)} streams that nobody reads: {each / 1e3:.0f} kB of the router each")
        assert SANITIZED or each <= 100e3
