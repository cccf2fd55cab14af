"""Starting, draining, ending: exit codes, one clear line each, and no process left behind."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import grpc
import pytest
from phi_client import Client, Refusal, finish_name, join
from phi_programs import BIN, NANO, PATIENCE, Replica, Router, Worker, alive, free_port, wait_until
from random_models import LONG_CONTEXT, make_checkpoint
from raw_http2 import GENERATE, WINDOW_UPDATE, Connection, frame, grpc_headers, message

PROMPT = "def count(n):\n"
USAGE, MODEL, CANNOT_BIND = 64, 65, 69


def test_a_killed_supervisor_leaves_no_rank(started):
    worker = started(Worker(NANO, 2))
    worker.wait_ready()
    pids = worker.rank_pids().values()
    assert len(pids) == 2 and all(alive(pid) for pid in pids)
    worker.send(signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in pids), "ranks gone", 5)


def test_a_killed_supervisor_leaves_no_frozen_rank_for_long(started):
    worker = started(Worker(NANO, 2))
    worker.wait_ready()
    pids = worker.rank_pids()
    os.kill(pids[1], signal.SIGSTOP)
    try:
        worker.send(signal.SIGKILL)
        wait_until(lambda: not alive(pids[0]), "rank 0 gone", 5)
    finally:
        os.kill(pids[1], signal.SIGCONT)
    wait_until(lambda: not alive(pids[1]), "rank 1 gone once it could run", 5)


def test_a_worker_that_is_told_to_end_as_it_becomes_ready_ends(started):
    worker = started(Worker(NANO, 2))
    client = Client(worker.address)
    wait_until(lambda: len(worker.rank_pids()) == 2, "ranks start")
    worker.send(signal.SIGSTOP)  # so that the supervisor sees both at once
    try:
        wait_until(lambda: serves(client), "the leader serves")
        worker.send(signal.SIGTERM)
    finally:
        worker.send(signal.SIGCONT)
    assert worker.wait() == 0
    client.close()


def serves(client):
    try:
        return client.health() == "SERVING"
    except grpc.RpcError:
        return False


class Stream(threading.Thread):
    """Reads a stream to its end beside the test."""

    def __init__(self, client, **parameters):
        super().__init__()
        self.stream = client.stream(PROMPT, ignore_eos=True, **parameters)
        self.first = next(self.stream)
        self.result, self.error = None, None
        self.start()

    def run(self):
        try:
            self.result = join([self.first, *self.stream])
        except grpc.RpcError as error:
            self.error = Refusal(error)


@pytest.mark.parametrize("who", ["worker", "router"])
def test_sigterm_lets_what_runs_finish(who):
    with Replica(NANO, 2) as replica:
        stream = Stream(replica.client, max_new_tokens=300)
        server = getattr(replica, who)
        server.send(signal.SIGTERM)
        wait_until(lambda: not replica.router.ready(), "readiness off", 5)
        refusal = replica.client.refusal(PROMPT, max_new_tokens=1) if who == "worker" else None
        stream.join(PATIENCE)
        assert stream.error is None, stream.error
        assert len(stream.result[1]) == 300 and finish_name(stream.result[3].finish) == "MAX_NEW_TOKENS"
        assert server.wait() == 0
        if refusal is not None:
            assert refusal.code == grpc.StatusCode.UNAVAILABLE and refusal.reason in ("NO_READY_REPLICA", "DRAINING"), refusal


def test_grpc_itself_tries_a_refusal_again(started):
    """By the service config alone, and no sooner than the pushback says."""
    router = started(Router([f"127.0.0.1:{free_port()}"]))
    wait_until(lambda: router.http("/livez")[0] == 200, "router listens")
    policy = {"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}
    config = {"methodConfig": [{"name": [{"service": "phi.v1.TextGeneration"}], "retryPolicy": policy}]}
    client = Client(router.address)
    client.close()
    client.channel = grpc.insecure_channel(router.address, [("grpc.service_config", json.dumps(config))])
    start = time.monotonic()
    refusal = client.refusal(PROMPT, max_new_tokens=1)
    assert refusal.reason == "NO_READY_REPLICA" and refusal.metadata["phi-request-id"]
    pushback = int(refusal.metadata["grpc-retry-pushback-ms"]) / 1000
    assert time.monotonic() - start >= 2 * pushback > 0
    assert router.metric('phi_router_requests_total{method="Generate",code="UNAVAILABLE",reason="NO_READY_REPLICA"}') == 3
    client.close()


def test_a_router_that_drains_sends_its_connections_elsewhere():
    """A caller who keeps one connection is told to make another one, while what runs on the old one goes on."""
    with Replica(NANO, 1, "--stall_limit=60s") as replica, Replica(NANO, 1) as other:
        client = Client(replica.router.address)
        client.close()
        addresses = f"ipv4:{replica.router.address},{other.router.address}"
        client.channel = grpc.insecure_channel(addresses, [("grpc.use_local_subchannel_pool", 1)])
        rank = replica.worker.rank_pids()[0]
        os.kill(rank, signal.SIGSTOP)  # so that the drain lasts
        call = client.stream(PROMPT, max_new_tokens=50, ignore_eos=True)
        wait_until(lambda: replica.router.metric("phi_router_inflight_requests") == 1, "the call is under way")
        replica.router.send(signal.SIGTERM)
        wait_until(lambda: not replica.router.ready(), "readiness off")  # a call before that would wait for the frozen rank

        def answered():
            try:
                return client.generate(PROMPT, max_new_tokens=1)
            except grpc.RpcError as error:
                assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), error
                return None

        try:
            wait_until(answered, "the other router answers")
            assert replica.router.process.poll() is None
        finally:
            os.kill(rank, signal.SIGCONT)
        assert len(join(call)[1]) == 50
        assert replica.router.wait() == 0
        client.close()


def test_a_router_that_drains_waits_until_answers_are_taken():
    with Replica(NANO, 1) as replica, Connection(replica.router.address, window=0) as connection:
        stream = connection.open(grpc_headers(GENERATE))
        connection.data(stream, message(Client.request(PROMPT, max_new_tokens=3).SerializeToString()))
        answered = 'phi_router_requests_total{method="Generate",code="OK",reason="none"}'
        wait_until(lambda: replica.router.metric(answered) == 1, "the answer is there")
        replica.router.send(signal.SIGTERM)
        wait_until(lambda: not replica.router.ready(), "readiness off")
        connection.send(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 1 << 20)))
        answer = connection.answer(stream)
        assert answer.get("grpc-status") == "0" and len(answer["data"]) > 5, answer
        assert replica.router.wait() == 0


def test_a_drain_that_takes_too_long_ends_the_rest_and_exits_0(tmp_path):
    with Replica(make_checkpoint(tmp_path / "model", LONG_CONTEXT), 2, "--drain_timeout=300ms") as replica:
        streams = [Stream(replica.client, max_new_tokens=7000) for _ in range(4)]
        replica.worker.send(signal.SIGTERM)
        for stream in streams:
            stream.join(PATIENCE)
        assert replica.worker.wait() == 0
        for stream in streams:
            assert stream.error is not None and stream.error.code == grpc.StatusCode.UNAVAILABLE, stream.error
            assert stream.error.reason in ("DRAIN_TIMEOUT", "REPLICA_LOST"), stream.error
        assert "DRAIN_TIMEOUT" in [stream.error.reason for stream in streams]


@pytest.mark.parametrize("who", ["worker", "router"])
def test_a_second_signal_ends_at_once(who):
    with Replica(NANO, 2, "--drain_timeout=60s", router_flags=("--drain_timeout=60s",)) as replica:
        rank = replica.worker.rank_pids()[0]
        os.kill(rank, signal.SIGSTOP)  # so that the drain lasts
        call = replica.client.stream(PROMPT, max_new_tokens=50)
        wait_until(lambda: replica.router.metric("phi_router_inflight_requests") == 1, "the call is under way")
        server = getattr(replica, who)
        server.send(signal.SIGTERM)
        wait_until(lambda: '"draining"' in server.log(), "it drains")
        server.send(signal.SIGTERM)
        server.wait(5)
        with pytest.raises(grpc.RpcError):
            list(call)
        if alive(rank):
            os.kill(rank, signal.SIGCONT)


def test_the_router_may_start_first(started):
    port = free_port()
    router = started(Router([f"127.0.0.1:{port}"]))
    wait_until(lambda: router.http("/livez")[0] == 200, "the router's port")
    assert router.http("/readyz")[0] == 503
    refusal = Client(router.address).refusal(PROMPT, max_new_tokens=1)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "NO_READY_REPLICA"), refusal


def test_a_replica_of_another_model_is_refused(started, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(NANO, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config, indent=1))
    worker = started(Worker(NANO))
    router = started(Router([worker.address], model=other))
    worker.wait_ready()
    wait_until(lambda: router.http("/livez")[0] == 200, "the router's port")
    client = Client(router.address)
    wait_until(lambda: [replica.state for replica in client.model_info().replicas] == ["refused"], "the router has seen it")
    assert router.http("/readyz")[0] == 503
    refusal = client.refusal(PROMPT, max_new_tokens=1)
    assert refusal.reason == "NO_READY_REPLICA", refusal


def run(program, *flags):
    """(exit code, lines on stderr) of a program that ends by itself."""
    done = subprocess.run([str(BIN / program), *map(str, flags)], capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, [line for line in done.stderr.splitlines() if line.strip()]


def assert_one_clear_line(lines, word):
    """One line that is an error, and it says what is wrong; not a crash, not a page of help."""
    assert not any("terminate called" in line or "Sanitizer" in line or "check failed" in line for line in lines), lines
    errors = [line for line in lines if " info " not in line and " warning " not in line]
    assert len(errors) == 1, lines
    assert word in errors[0], lines


LOCAL = ("--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0")


@pytest.mark.parametrize("program", ["phi-router", "phi-worker"])
@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--no_such_flag=1",), "no_such_flag"),
        (("--drain_timeout=soon",), "drain_timeout"),
        (("--log_level=loud",), "log_level"),
        (("--log_format=xml",), "log_format"),
        (("--listen=nonsense",), "nonsense"),
        (("stray",), "stray"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_wrong_flags_end_with_64(program, flags, word):
    replicas = ("--replicas=127.0.0.1:1",) if program == "phi-router" else ()
    listen = LOCAL[1:] if word == "nonsense" else LOCAL
    code, lines = run(program, f"--model={NANO}", *replicas, *listen, *flags)
    assert code == USAGE, lines
    assert_one_clear_line(lines, word)


@pytest.mark.parametrize(
    ("flags", "word"),
    [(("--tensor_parallel=0",), "tensor_parallel"), (("--dtype=float8",), "dtype"), (("--isa=mmx",), "mmx"), ((), "model")],
    ids=lambda value: str(value),
)
def test_wrong_worker_flags_end_with_64(flags, word):
    code, lines = run("phi-worker", *LOCAL, *((f"--model={NANO}",) if flags else ()), *flags)
    assert code == USAGE, lines
    assert_one_clear_line(lines, word)


def test_more_ranks_than_key_value_heads_are_refused():
    code, lines = run("phi-worker", *LOCAL, f"--model={NANO}", "--tensor_parallel=5")
    assert code in (USAGE, MODEL), lines
    assert_one_clear_line(lines, "5")


def no_config(model):
    (model / "config.json").unlink()
    return "config.json"


def broken_config(model):
    (model / "config.json").write_text("{")
    return "config.json"


def other_activation(model):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    return "hidden_act"


def no_tokenizer(model):
    (model / "tokenizer.json").unlink()
    return "tokenizer.json"


def broken_tokenizer(model):
    (model / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}')
    return "tokenizer.json"


def only_pickle(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    return "pytorch_model.bin"


def cut_weights(model):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    return "model.safetensors"


@pytest.mark.parametrize("harm", [no_config, broken_config, other_activation, no_tokenizer, broken_tokenizer, only_pickle, cut_weights])
def test_a_model_that_cannot_be_served_ends_with_65(harm, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(NANO, model)
    word = harm(model)
    code, lines = run("phi-worker", *LOCAL, f"--model={model}", "--max_restarts=0")
    assert code == MODEL, lines
    assert any(word in line for line in lines), lines
    assert not any("Sanitizer" in line or "terminate called" in line for line in lines), lines
    if harm not in (only_pickle, cut_weights):
        code, lines = run("phi-router", *LOCAL, f"--model={model}", "--replicas=127.0.0.1:1")
        assert code == MODEL, lines
        assert_one_clear_line(lines, word)


@pytest.mark.parametrize("program", ["phi-router", "phi-worker"])
@pytest.mark.parametrize("port", ["listen", "metrics_listen"])
def test_a_port_in_use_ends_with_69(program, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        addresses = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", port: address}
        replicas = ("--replicas=127.0.0.1:1",) if program == "phi-router" else ()
        code, lines = run(program, f"--model={NANO}", *replicas, *(f"--{name}={value}" for name, value in addresses.items()))
    assert code == CANNOT_BIND, lines
    assert any(address in line for line in lines), lines


@pytest.mark.parametrize("program", ["phi-router", "phi-worker", "phi-serve", "phictl"])
def test_help_and_version_end_with_0(program):
    for flag, word in (("--help", "Usage"), ("--version", "0.1.0")):
        done = subprocess.run([str(BIN / program), flag], capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0 and word.lower() in done.stdout.lower(), done
