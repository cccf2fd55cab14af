"""Callers who open streams and read nothing of them: what each costs the router, and that they are cut off."""

import contextlib

import grpc
import pytest
from phi_client import Client
from phi_programs import NANO, SANITIZED, Replica, wait_until
from quiet import Quiet

CONNECTIONS, STREAMS = 2, 25
# A window that holds a fraction of an answer and does not grow; connections of their own.
READS_NOTHING = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 4096), ("grpc.use_local_subchannel_pool", 1)]


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
            assert router.log().count("slow_reader") == 1
            with pytest.raises(grpc.RpcError) as refused:
                list(call)
        assert refused.value.code() == grpc.StatusCode.CANCELLED
        quiet.check()


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
        assert router.log().count("slow_reader") >= len(calls)
        figure(f"row 33, {len(calls)} streams that nobody reads: {each / 1e3:.0f} kB of the router each")
        assert SANITIZED or each <= 100e3
