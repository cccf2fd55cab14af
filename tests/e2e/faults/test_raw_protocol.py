"""HTTP/2 and gRPC as no client library would send them, on the router's port; see docs/reliability.md."""

import gzip
import os
import random

import grpc
import pytest
from bystanders import GROWTH, OK, RESOURCE_EXHAUSTED, TOKENIZE_X, UNIMPLEMENTED, assert_alive_for_others, assert_bounded, memory
from phi_client import message_class
from phi_programs import SANITIZED, wait_until
from raw_http2 import (
    DATA,
    END_STREAM,
    GENERATE,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    TOKENIZE,
    WINDOW_UPDATE,
    Connection,
    frame,
    grpc_headers,
    header_block,
    integer,
    message,
)

WATCH = "/grpc.health.v1.Health/Watch"
WATCHERS = 2_000 if SANITIZED else 10_000


def watch(connection, name=b"liveness"):
    """A stream that says how the server is, and stays open."""
    stream = connection.open(grpc_headers(WATCH))
    request = message_class("grpc.health.v1.HealthCheckRequest")(service=name.decode()).SerializeToString()
    connection.send(frame(DATA, END_STREAM, stream, message(request)))
    return stream


def told(connection, streams):
    """Reads until each of the streams has said something."""
    while streams:
        got = connection.read()
        assert got is not None and got[0] not in (RST_STREAM, GOAWAY), got
        streams.discard(got[2] if got[0] == DATA else None)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- 34, 35: metadata


@pytest.mark.parametrize("size", [9_000, 50_000])
def test_row34_metadata_below_the_limit_is_taken(served, size):
    with Connection(served.router.address) as connection:
        assert connection.call(TOKENIZE, TOKENIZE_X, extra=[("x-large", "a" * size)])["grpc-status"] == OK
        assert connection.call(TOKENIZE, TOKENIZE_X)["grpc-status"] == OK


@pytest.mark.parametrize("bad", [("x-large", "a" * 70_000), ("x-odd-bin", "!!! no base64")], ids=["70KB", "malformed-bin"])
def test_row34_metadata_that_is_refused_costs_its_connection_only(served, bad):
    before = memory(served.router)
    with Connection(served.router.address) as other, Connection(served.router.address) as connection:
        stream = watch(other)
        # gRPC holds a client to the limit from when it has acknowledged the settings that say it.
        assert connection.call(TOKENIZE, TOKENIZE_X)["grpc-status"] == OK
        assert connection.settings[6] == 64 << 10
        assert connection.call(TOKENIZE, TOKENIZE_X)["grpc-status"] == OK
        answer = connection.call(TOKENIZE, TOKENIZE_X, extra=[bad])
        assert answer.get("grpc-status") != OK, answer
        while (got := other.read())[0] != DATA:
            assert got[0] != RST_STREAM, "the other connection's stream goes on"
        other.reset(stream)
    assert_alive_for_others(served.router)
    assert_bounded(served.router, before)


def test_row35_a_header_that_declares_a_gibibyte(served, figure):
    before, cpu = memory(served.router), cpu_seconds(served.router.pid)
    with Connection(served.router.address) as connection:
        block = header_block(grpc_headers(TOKENIZE)) + b"\0" + integer(6) + b"x-bomb" + integer(1 << 30)
        connection.open(block + b"a" * (4 << 20))  # and never the rest
        assert_alive_for_others(served.router)
    figure(f"row 35, 4 MiB of a header that declares 1 GiB: {cpu_seconds(served.router.pid) - cpu:.2f} s of the router's CPU")
    assert_bounded(served.router, before)


# --- 36: streams


def test_row36_rapid_reset(served, figure):
    before, cpu = memory(served.router), cpu_seconds(served.router.pid)
    with Connection(served.router.address) as connection:
        for _ in range(100):
            out = b""
            for _ in range(100):
                stream, connection.next_stream = connection.next_stream, connection.next_stream + 2
                out += frame(HEADERS, 4, stream, header_block(grpc_headers(GENERATE)))
                out += frame(RST_STREAM, 0, stream, b"\0\0\0\x08")
            if not connection.send(out):
                break
        assert_alive_for_others(served.router)
    figure(f"row 36, 10,000 streams opened and reset: {cpu_seconds(served.router.pid) - cpu:.2f} s of the router's CPU")
    assert_bounded(served.router, before)


def test_row36_stream_129_is_never_executed(served):
    tokenized = 'phi_router_requests_total{method="Tokenize",code="OK",reason="none"}'
    with Connection(served.router.address) as connection:
        assert connection.call(TOKENIZE, TOKENIZE_X)["grpc-status"] == OK
        assert connection.settings[3] == 128, "SETTINGS says so"
        count = served.router.metric(tokenized)
        for _ in range(128):
            connection.open(grpc_headers(GENERATE))
        answer = connection.call(TOKENIZE, TOKENIZE_X)
        assert answer.get("grpc-status") != OK, answer
    assert served.router.metric(tokenized) == count
    assert_alive_for_others(served.router)


# --- 39, 40: messages


def test_row39_gzip_bomb_is_not_unpacked(served):
    bomb = gzip.compress(bytes(200 << 20), 9)
    assert len(bomb) < 256 << 10
    before = memory(served.router)
    with Connection(served.router.address) as connection:
        stream = connection.open(grpc_headers(GENERATE, grpc_encoding="gzip"))
        connection.data(stream, message(bomb, compressed=1))
        answer = connection.answer(stream)
        assert answer.get("grpc-status") == UNIMPLEMENTED, answer
    assert_bounded(served.router, before)


@pytest.mark.parametrize("kind", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_row39_any_compressed_request_is_refused(served, kind):
    with grpc.insecure_channel(served.router.address, compression=kind) as channel:
        call = channel.unary_unary(TOKENIZE)
        with pytest.raises(grpc.RpcError) as refused:
            call(message_class("phi.v1.TokenizeRequest")(text="x" * 10_000).SerializeToString(), timeout=30)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def send_within_window(connection, stream, size):
    """Sends that many bytes of a message as fast as the server lets it; how the stream ended, or None."""
    windows, chunk = {0: 65535 - 5, stream: 65535 - 5}, bytes(16384)
    while size > 0:
        n = min(*windows.values(), len(chunk), size)
        # A window may be wider than all that is sent: what the server says is read as it comes.
        if n <= 0 or connection.has_input():
            got = connection.read()
            if got is None or got[0] in (RST_STREAM, GOAWAY):
                return got or "closed"
            if got[0] == WINDOW_UPDATE and got[2] in windows:
                windows[got[2]] += int.from_bytes(got[3], "big")
            continue
        if not connection.send(frame(DATA, 0, stream, chunk[:n])):
            return "closed"
        windows = {number: left - n for number, left in windows.items()}
        size -= n
    return None


def test_row40_a_message_over_the_limit_is_refused(served):
    with Connection(served.router.address) as connection:
        stream = connection.open(grpc_headers(GENERATE))
        size = (256 << 10) + 1
        connection.data(stream, message(b"", length=size), end=False)
        assert send_within_window(connection, stream, size) is None
        answer = connection.answer(stream)
        assert answer.get("grpc-status") == RESOURCE_EXHAUSTED, answer


def test_row40_a_declared_length_allocates_nothing(served):
    before = memory(served.router)
    with Connection(served.router.address) as connection:
        for _ in range(100):
            connection.data(connection.open(grpc_headers(GENERATE)), message(b"", length=2**32 - 1), end=False)
        assert_alive_for_others(served.router)
        assert_bounded(served.router, before)


def test_row40_a_message_of_four_gibibytes_is_cut_off(served, figure):
    """gRPC takes it in to its declared end before it looks at its size: what bounds it is the port's quota."""
    before = memory(served.router)
    with Connection(served.router.address) as connection:
        stream = connection.open(grpc_headers(GENERATE))
        connection.data(stream, message(b"", length=2**32 - 1), end=False)
        ended = send_within_window(connection, stream, 600 << 20)
        assert ended is not None, "600 MiB were taken"
    assert_alive_for_others(served.router)

    def answered():
        try:
            return served.client.generate("x", max_new_tokens=1)
        except grpc.RpcError:
            return None

    # The quota may have chosen the connection that the tests share, too; a next call finds another.
    wait_until(answered, "the shared connection is back")
    figure(f"row 40, a message of 4 GiB: the router grew by {(memory(served.router) - before) / 1e6:.0f} MB until it was cut off")


def test_row40_messages_that_never_end_are_bounded(served):
    before = memory(served.router)
    connections = [Connection(served.router.address) for _ in range(8)]
    try:
        for connection in connections:
            for _ in range(100):
                stream = connection.open(grpc_headers(GENERATE))
                connection.data(stream, message(b"", length=256 << 10), end=False)
        assert_alive_for_others(served.router)
        assert_bounded(served.router, before)
    finally:
        for connection in connections:
            connection.socket.close()


# --- 41: what is no request


def varint_field(number, value=0):
    return bytes([number << 3]) + bytes([value])


GOOD = message_class("phi.v1.GenerateRequest")(text="def f():").SerializeToString()
MALFORMED = {
    "truncated": GOOD[:-3],
    "length_beyond_the_end": b"\x0a\xff\xff\xff\xff\x0f" + b"x" * 64,
    "overlong_varint": b"\x0a" + b"\xff" * 11,
    "field_number_zero": b"\x00\x00",
    "wire_type_seven": b"\x0f\x00",
    "deep_groups": b"\x7b" * 100_000,
    "unended_group": b"\x7b" + GOOD,
    "parameters_as_number": b"\x18\x05",
}


@pytest.mark.parametrize("what", MALFORMED)
def test_row41_bytes_that_are_no_request(served, what):
    refusal = served.client.refusal(MALFORMED[what])
    assert refusal.code.name == "INVALID_ARGUMENT", refusal
    assert refusal.reason in ("MALFORMED_REQUEST", "EMPTY_PROMPT", "UNSUPPORTED_FIELD"), refusal


def test_row41_random_bytes_are_refused_or_answered(served):
    generator = random.Random(20260101)
    before = memory(served.router)
    for _ in range(200):
        body = bytearray(GOOD) if generator.random() < 0.5 else bytearray()
        for _ in range(generator.randrange(1, 60)):
            body.insert(generator.randrange(len(body) + 1), generator.randrange(256))
        try:
            served.client.generate(bytes(body) + b"\x1a\x02\x08\x01", timeout=60)
        except grpc.RpcError as error:
            assert error.code().name in ("INVALID_ARGUMENT", "NOT_FOUND"), error
    assert_bounded(served.router, before)


def test_row41_a_message_full_of_unknown_fields(served):
    before = memory(served.router)
    ending = GOOD + b"\x1a\x02\x08\x01"
    unknown = b"\x78\x01" * (((256 << 10) - len(ending)) // 2)  # field 15, as often as a message holds
    assert len(unknown) // 2 > 130_000
    for body in (unknown, unknown + ending):
        try:
            served.client.generate(body, timeout=60)
        except grpc.RpcError as error:
            assert error.code().name == "INVALID_ARGUMENT", error
    assert_bounded(served.router, before)


def test_row41_of_a_field_said_twice_the_last_one_counts(served):
    other = message_class("phi.v1.GenerateRequest")(text="class Tree:").SerializeToString()
    limit = b"\x1a\x02\x08\x04"
    twice = served.client.generate(other + GOOD + limit)
    once = served.client.generate(GOOD + limit)
    assert twice.completions == once.completions


# --- 42, 43: headers and methods


@pytest.mark.parametrize(
    "changed",
    [
        {"te": "x"},
        {"p_scheme": "ftp"},
        {"p_scheme": ""},
        {"p_method": "DELETE"},
        {"p_path": ""},
        {"content_type": "text/html"},
        {"grpc_timeout": "-1S"},
        {"grpc_timeout": "9" * 40},
        {"grpc_encoding": "nonsense"},
        {"grpc_accept_encoding": "\x7f" * 100},
    ],
    ids=lambda changed: "-".join(f"{k}={v}"[:24] for k, v in changed.items()),
)
def test_row42_odd_headers_end_no_process(served, changed):
    with Connection(served.router.address) as connection:
        connection.call(TOKENIZE, TOKENIZE_X, **changed)
    assert_alive_for_others(served.router)


def test_row42_the_headers_of_cve_2023_1428(served):
    for extra in ([("grpclb_client_stats", "x" * 9000)], [("te", "x"), ("grpclb_client_stats", "x" * 9000)], [(":scheme", "x")]):
        with Connection(served.router.address) as connection:
            connection.call(TOKENIZE, TOKENIZE_X, extra=extra)
    assert_alive_for_others(served.router)


@pytest.mark.parametrize(
    "path", ["/phi.v1.TextGeneration/Nothing", "/phi.v2.TextGeneration/Generate", "/", "/x" * 1000, "/phi.worker.v1.Worker/Generate"]
)
def test_row43_unknown_methods(served, path):
    other = 'phi_router_requests_total{method="other",code="UNIMPLEMENTED",reason="none"}'
    before = served.router.metric(other) or 0
    with Connection(served.router.address) as connection:
        assert connection.call(path, TOKENIZE_X).get("grpc-status") == UNIMPLEMENTED
    assert served.router.metric(other) == before + 1


# --- 44: health


def test_row44_health_of_an_unknown_service(served):
    with pytest.raises(grpc.RpcError) as refused:
        served.client.health("nothing")
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_row44_thousands_of_watchers_and_their_end(served, figure):
    before = memory(served.router)
    connections = [Connection(served.router.address) for _ in range(WATCHERS // 100)]
    try:
        for connection in connections:
            told(connection, {watch(connection, b"readiness") for _ in range(100)})
        assert_alive_for_others(served.router)
        each = (memory(served.router) - before) / WATCHERS
        figure(f"row 44, {WATCHERS} watchers: {each / 1e3:.0f} kB of the router each")
        assert SANITIZED or each < 40e3
    finally:
        for connection in connections:
            connection.socket.close()
    assert_alive_for_others(served.router)
    assert_bounded(served.router, before, 2 * GROWTH)


def test_row44_watches_opened_and_cancelled_leak_nothing(served):
    def rounds(count):
        with Connection(served.router.address) as connection:
            for _ in range(count):
                connection.reset(watch(connection))
        assert_alive_for_others(served.router)
        return memory(served.router)

    before = rounds(500)
    rounds(2500)
    assert_bounded(served.router, before, 16e6)
