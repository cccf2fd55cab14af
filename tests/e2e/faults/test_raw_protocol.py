"""HTTP/2 and gRPC as no client library would send them, on the router's port; see docs/reliability.md."""

import concurrent.futures
import gzip
import os
import random
import re
import resource
import time

import grpc
import pytest
from phi_client import message_class
from phi_programs import PATIENCE, SANITIZED, Router, Worker, alive, wait_until
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
    closed_within,
    dial,
    frame,
    grpc_headers,
    header_block,
    integer,
    message,
)

OK, INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED, UNIMPLEMENTED = "0", "3", "5", "8", "12"
WATCH = "/grpc.health.v1.Health/Watch"
TOKENIZE_X = message_class("phi.v1.TokenizeRequest")(text="x").SerializeToString()
# What a fault may add to a program's memory while it lasts.
GROWTH = 64e6


def memory(server):
    return server.metric("process_resident_memory_bytes")


def assert_bounded(server, before, growth=GROWTH):
    """What is free goes back to the system every few seconds."""
    if not SANITIZED:
        wait_until(lambda: memory(server) <= before + growth, f"{server.name} back to {(before + growth) / 1e6:.0f} MB")


def assert_alive_for_others(router):
    """A connection of its own is served, whatever happened to another one."""
    with Connection(router.address) as fresh:
        assert fresh.call(TOKENIZE, TOKENIZE_X).get("grpc-status") == OK


def watch(connection, name=b"liveness"):
    """A stream that says how the server is, and stays open."""
    stream = connection.open(grpc_headers(WATCH))
    request = message_class("grpc.health.v1.HealthCheckRequest")(service=name.decode()).SerializeToString()
    connection.send(frame(DATA, END_STREAM, stream, message(request)))
    return stream


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


# --- 37: descriptors


def exhaust_descriptors(address, pid):
    """Takes every descriptor that the process may have, until no connection is answered, and gives them back."""
    taken = len(os.listdir(f"/proc/{pid}/fd"))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (taken + 8, before[1]))
    held = [dial(address) for _ in range(40)]
    wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) >= taken + 8, "descriptors are spent")
    time.sleep(1)  # the listener has to run into the limit
    for connection in held:
        connection.close()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_row37_a_router_out_of_descriptors_serves_again_or_ends(started):
    # Without a replica to call: UBSan needs a descriptor of its own to look at an object that gRPC calls.
    router = started(Router(["dns:///nobody.invalid:50052"]))
    wait_until(lambda: router.http("/livez")[0] == 200, "router listens")
    exhaust_descriptors(router.address, router.pid)

    def over():
        if router.process.poll() is not None:
            return True
        try:
            with Connection(router.address, timeout=1) as fresh:
                return fresh.call(TOKENIZE, TOKENIZE_X).get("grpc-status") == OK
        except (OSError, AssertionError):
            return False

    wait_until(over, "served again, or ended", 30 + PATIENCE)
    if router.process.poll() is not None:
        assert router.process.returncode == 70
        assert "does not answer any more" in router.log()


def test_row37_a_leader_out_of_descriptors_serves_again_or_is_replaced(started):
    worker = started(Worker())
    worker.wait_ready()
    assert worker.epoch() == 1
    exhaust_descriptors(worker.address, worker.rank_pids()[0])

    def answers():
        try:
            with Connection(worker.address, timeout=1) as fresh:
                return fresh.call("/grpc.health.v1.Health/Check").get("grpc-status") == OK
        except (OSError, AssertionError):
            return False

    wait_until(answers, "serves again, itself or its successor", 30 + 2 * PATIENCE)
    assert alive(worker.pid)


# --- 38: strangers


def test_row38_half_open_connections_are_closed(served, figure):
    before, lines = memory(served.router), len(served.router.log().splitlines())
    idle = [dial(served.router.address) for _ in range(500)]
    assert_alive_for_others(served.router)
    start = time.monotonic()
    try:
        assert all(closed_within(connection, 15 + PATIENCE) for connection in idle)
    finally:
        for connection in idle:
            connection.close()
    figure(f"row 38, 500 connections that say nothing: closed after {time.monotonic() - start:.1f} s")
    assert len(served.router.log().splitlines()) - lines < 10, "a log line a stranger is a flood"
    assert_bounded(served.router, before)


STRANGERS = {
    "tls_hello": bytes.fromhex("160301004b010000470303") + bytes(range(64)),
    "http_1_get": b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "scan": b"\0\x01\x02\xff\xfe" * 20,
    "newlines": b"\r\n\r\n\r\n",
    "half_a_preface": b"PRI * HTTP/2.0\r\n\r\n",
    "frame_of_16_mib": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff\xff\xff\x04\0\0\0\0\0",
}


@pytest.mark.parametrize("what", STRANGERS)
def test_row38_strangers_are_shown_out(served, what):
    lines = len(served.router.log().splitlines())
    for _ in range(20):
        with dial(served.router.address) as connection:
            connection.sendall(STRANGERS[what])
            if what != "half_a_preface":
                assert closed_within(connection, 15 + PATIENCE)
    assert_alive_for_others(served.router)
    assert len(served.router.log().splitlines()) - lines < 10


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
        if n <= 0:
            got = connection.read()
            if got is None or got[0] in (RST_STREAM, GOAWAY):
                return got or "closed"
            if got[0] == WINDOW_UPDATE and got[2] in windows:
                windows[got[2]] += int.from_bytes(got[3], "big")
            continue
        connection.send(frame(DATA, 0, stream, chunk[:n]))
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
    unknown = b"\x78\x01" * 130_000  # field 15
    for body in (unknown, GOOD + unknown):
        try:
            served.client.generate(body + b"\x1a\x02\x08\x01", timeout=60)
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


def test_row44_two_thousand_watchers_and_their_end(served):
    before = memory(served.router)
    connections = [Connection(served.router.address) for _ in range(20)]
    try:
        for connection in connections:
            for _ in range(100):
                watch(connection, b"readiness")
        assert_alive_for_others(served.router)
        assert_bounded(served.router, before, 2 * GROWTH)
    finally:
        for connection in connections:
            connection.socket.close()


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


# --- 45: the leader's port


def test_row45_the_leader_is_spoken_to_in_garbage(served):
    worker, epoch = served.worker, served.worker.epoch()
    generate = "/phi.worker.v1.Worker/Generate"
    generator = random.Random(45)
    for what in STRANGERS.values():
        with dial(worker.address) as connection:
            connection.sendall(what)
            closed_within(connection, 1)
    with Connection(worker.address) as connection:
        for path in (generate, TOKENIZE):
            for size in (0, 1, 100, 10_000):
                answer = connection.call(path, bytes(generator.randrange(256) for _ in range(size)))
                assert answer.get("grpc-status") != OK, answer
        stream = connection.open(grpc_headers(generate, grpc_encoding="gzip"))
        connection.data(stream, message(gzip.compress(bytes(1000)), compressed=1))
        assert connection.answer(stream).get("grpc-status") == UNIMPLEMENTED
    assert worker.epoch() == epoch


def listening_ports(pid):
    """TCP ports that a process listens on."""
    inodes = set()
    for fd in os.scandir(f"/proc/{pid}/fd"):
        match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(fd.path)) if os.path.lexists(fd.path) else None
        if match:
            inodes.add(match.group(1))
    with open(f"/proc/{pid}/net/tcp", encoding="ascii") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    return [int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes]


def test_row45_the_ranks_listen_to_nobody_else(served):
    """What carries plans and tensors is socket pairs and connections made at start: a stranger finds no port of a follower."""
    worker, epoch = served.worker, served.worker.epoch()
    leader_port = int(worker.address.rpartition(":")[2])
    for rank, pid in worker.rank_pids().items():
        for port in listening_ports(pid):
            if (rank, port) == (0, leader_port):
                continue
            with dial(f"127.0.0.1:{port}") as connection:
                connection.sendall(STRANGERS["scan"] * 50)
                closed_within(connection, 1)
    assert worker.epoch() == epoch


# --- 69: the metrics port


def test_row69_the_metrics_port_among_odd_scrapers(served):
    router = served.router
    series = len(router.http("/metrics")[1].splitlines())
    slow = [dial(router.metrics_address) for _ in range(3)]
    try:
        for connection in slow:
            connection.sendall(b"GET /metrics HTTP/1.1\r\n")  # and no more
        with dial(router.metrics_address) as connection:
            connection.sendall(b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n")
            connection.settimeout(PATIENCE)
            assert b"200" not in connection.recv(100)[:20]
        with concurrent.futures.ThreadPoolExecutor(50) as pool:
            answers = list(pool.map(lambda _: router.http("/metrics", timeout=PATIENCE)[0], range(50)))
        assert answers.count(200) >= 30, answers
        assert served.client.generate("x = ", max_new_tokens=2).completions
    finally:
        for connection in slow:
            connection.close()
    wait_until(lambda: router.http("/livez")[0] == 200, "the probes answer")
    with Connection(router.address) as connection:
        for i in range(300):
            connection.call(f"/odd.v{i}.Service/Method{i}", b"", extra=[(f"x-odd-{i}", "1")])
            router.http(f"/odd/{i}") if i % 10 == 0 else None
    assert len(router.http("/metrics")[1].splitlines()) <= series + 60
