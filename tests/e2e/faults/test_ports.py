"""Strangers on the ports: the router's, the leader's, the ranks' and that of metrics; see docs/reliability.md."""

import concurrent.futures
import gzip
import itertools
import os
import random
import re
import resource
import time

import pytest
from bystanders import OK, TOKENIZE_X, UNIMPLEMENTED, assert_alive_for_others, assert_bounded, memory
from phi_programs import PATIENCE, SANITIZED, Router, Worker, alive, wait_until
from raw_http2 import END_STREAM, HEADERS, RST_STREAM, TOKENIZE, Connection, closed_within, dial, grpc_headers, header_block, message

REPLICA = {"tensor_parallel": 2}


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
    worker.accepted_report = "which does not point to an object of type"  # UBSan needs a descriptor to look at an object
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
    worker.wait_ready()  # the supervisor knows of it, too


# --- 38: strangers

# The handshake's time-out is 10 s; the rest is for a machine that others use, too.
CLOSED_SECONDS = 10 + 20


def test_row38_half_open_connections_are_closed(served, figure):
    before, lines = memory(served.router), len(served.router.log().splitlines())
    idle = [dial(served.router.address) for _ in range(500)]
    assert_alive_for_others(served.router)
    start = time.monotonic()
    try:
        assert all(closed_within(connection, start + CLOSED_SECONDS - time.monotonic()) for connection in idle)
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
                assert closed_within(connection, CLOSED_SECONDS)
    assert_alive_for_others(served.router)
    assert len(served.router.log().splitlines()) - lines < 10


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
    found = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{pid}/net/{table}", encoding="ascii") as file:
            rows = [line.split() for line in file.readlines()[1:]]
        found += [int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes]
    return found


def test_row45_the_ranks_listen_to_nobody_else(served):
    """What carries plans and tensors is socket pairs and connections made at start: a stranger finds no port of a follower."""
    leader_port = int(served.worker.address.rpartition(":")[2])
    ports = {rank: listening_ports(pid) for rank, pid in served.worker.rank_pids().items()}
    assert ports == {0: [leader_port], 1: []}


# --- 69: the metrics port


def test_row69_the_metrics_port_among_odd_scrapers(served):
    router = served.router
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


ODD_REQUESTS = 2_000 if SANITIZED else 100_000


def odd_headers(i):
    """Of a call without a message: each of another service, method and header, or of a known method with an odd one."""
    path = f"/odd.v{i}.Service/Method{i}" if i % 4 else TOKENIZE
    return header_block([*grpc_headers(path), (f"x-odd-{i}", "1")])


def send_odd_requests(router, numbers):
    """As many calls as a connection takes at once, until all are answered."""
    numbers = iter(numbers)
    with Connection(router.address, timeout=PATIENCE) as connection:
        while batch := list(itertools.islice(numbers, 100)):
            for i in batch:
                connection.open(odd_headers(i), end=True)
            ended = 0
            while ended < len(batch):
                kind, flags, stream, _ = connection.read()
                ended += stream > 0 and (kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM))


def series(router):
    """The names of all series, with their labels."""
    return {line.rpartition(" ")[0] for line in router.http("/metrics")[1].splitlines() if not line.startswith("#")}


def test_row69_odd_requests_make_no_series(served, figure):
    router = served.router

    def odd_pages(count):
        for i in range(count):
            router.http(f"/odd/{i}")

    send_odd_requests(router, range(100))
    odd_pages(10)
    other = 'phi_router_requests_total{method="other",code="UNIMPLEMENTED",reason="none"}'
    before, count, start = series(router), router.metric(other), time.monotonic()
    send_odd_requests(router, range(100, ODD_REQUESTS))
    odd_pages(100)
    wait_until(lambda: router.metric(other) - count == sum(i % 4 != 0 for i in range(100, ODD_REQUESTS)), "all are counted")
    assert series(router) == before
    figure(f"row 69, {ODD_REQUESTS} odd requests in {time.monotonic() - start:.0f} s: {len(before)} series before and after")
