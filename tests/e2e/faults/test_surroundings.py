"""Broken surroundings: nobody reads the log, the disk is full or read-only, flags and ports are wrong."""

import os
import shutil
import socket
import subprocess

import pytest
from phi_client import join
from phi_programs import BIN, NANO, PATIENCE, Replica, Router, Worker, wait_until
from quiet import under_way

PROMPT = "def f():\n"
USAGE, MODEL, CANNOT_BIND = 64, 65, 69
LOCAL = ("--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0")


def serve_both(started, **options):
    """A worker and a router that both run with `options`, ready."""
    worker = started(Worker(NANO, 2, "--log_level=debug", **options))
    router = started(Router([worker.address], "--log_level=debug", **options))
    worker.wait_ready()
    router.wait_ready()
    return worker, router


@pytest.fixture
def unread():
    """The writing end of a pipe that nobody reads, already full."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)  # as a program inherits it
    yield writing
    os.close(reading)
    os.close(writing)


def test_row70_nobody_reads_the_log(started, unread):
    """Lines are dropped and counted; nothing waits for them."""
    _, router = serve_both(started, stderr=unread)
    client = router.client()
    before = client.generate(PROMPT, max_new_tokens=5).completions
    for index in range(50):
        client.generate(PROMPT, max_new_tokens=1, request_id=f"{index:0>128}")
    assert router.metric("phi_log_dropped_total") >= 50
    assert client.generate(PROMPT, max_new_tokens=5).completions == before
    client.close()
    assert router.stop() == 0


def test_row70_the_disk_of_the_log_is_full(started):
    with open("/dev/full", "wb") as full:
        worker, router = serve_both(started, stderr=full)
        client = router.client()
        for _ in range(20):
            assert client.generate(PROMPT, max_new_tokens=2).completions
        wait_until(lambda: router.metric("phi_log_dropped_total") >= 20, "dropped lines counted")
        client.close()
        assert router.stop() == 0 and worker.stop() == 0


READ_ONLY = ("unshare", "--mount", "--map-root-user", "sh", "-c", 'mount -o remount,bind,ro / && exec "$@"', "sh")


@pytest.fixture
def read_only():
    """The beginning of a command whose program sees a root that takes no file, as a container may have it."""
    if subprocess.run([*READ_ONLY, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no mount namespaces here")
    return READ_ONLY


def test_row70_a_read_only_file_system(started, read_only):
    """A router writes no file, and a worker none but in /dev/shm, where its ranks find each other."""
    worker, router = serve_both(started, prefix=read_only)
    client = router.client()
    assert join(client.stream(PROMPT, max_new_tokens=4, ignore_eos=True))[1]
    client.close()
    assert router.stop() == 0 and worker.stop() == 0


def ended(program, *flags):
    """(exit code, lines on standard error) of a program that has to end by itself."""
    done = subprocess.run([str(BIN / program), *map(str, flags)], capture_output=True, text=True, timeout=PATIENCE, check=False)
    return done.returncode, [line for line in done.stderr.splitlines() if line.strip()]


def assert_clear(lines, word, programs=1):
    """One line of each program says what is wrong; no crash, no page of help."""
    assert not any("terminate called" in line or "Sanitizer" in line or "check failed" in line for line in lines), lines
    errors = [line for line in lines if " info " not in line and " warning " not in line]
    assert 1 <= len(errors) <= programs and all(word in line for line in errors), lines


@pytest.mark.parametrize(
    ("program", "flag"),
    [
        *((program, flag) for program in ("phi-router", "phi-worker") for flag in ("--drain_timeout=-1s", "--drain_timeout=")),
        *(("phi-serve", flag) for flag in ("--no_such_flag=1", "--drain_timeout=soon", "--log_format=xml", "--drain_timeout=", "stray")),
    ],
)
def test_row80_wrong_flags(program, flag):
    """Those that test_lifecycle.py does not have."""
    replicas = ("--replicas=127.0.0.1:1",) if program == "phi-router" else ()
    code, lines = ended(program, f"--model={NANO}", *replicas, *LOCAL, flag)
    assert code == USAGE, lines
    assert_clear(lines, flag.strip("-").partition("=")[0], programs=2 if program == "phi-serve" else 1)


@pytest.mark.parametrize(
    ("flags", "word", "codes"),
    [
        (("--tensor_parallel=5",), "5", (USAGE, MODEL)),
        (("--tensor_parallel=-1",), "tensor_parallel", (USAGE,)),
        (("--max_sequences=0",), "max_sequences", (USAGE,)),
        (("--max_step_tokens=0",), "max_step_tokens", (USAGE,)),
        (("--max_sequences=99999999999999999999",), "max_sequences", (USAGE,)),
        (("--kv_cache_bytes=1KiB",), "kv", (USAGE, MODEL, 71)),
        (("--kv_cache_bytes=-5",), "kv_cache_bytes", (USAGE,)),
        (("--stall_limit=0s",), "stall_limit", (USAGE,)),
        (("--isa=mmx",), "mmx", (USAGE,)),
        (("--device=tpu",), "device", (USAGE,)),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_row80_wrong_values_of_the_worker(flags, word, codes):
    code, lines = ended("phi-worker", f"--model={NANO}", *LOCAL, "--max_restarts=0", *flags)
    assert code in codes, (code, lines)
    assert any(word in line for line in lines), lines
    assert not any("Sanitizer" in line or "terminate called" in line for line in lines), lines


@pytest.mark.parametrize("world_size", [1, 3, 4])
def test_row80_every_world_size_up_to_the_key_value_heads_serves(started, world_size):
    worker = started(Worker(NANO, world_size))
    router = started(Router([worker.address]))
    worker.wait_ready()
    router.wait_ready()
    client = router.client()
    assert client.generate(PROMPT, max_new_tokens=3, ignore_eos=True).completions[0].finish.generated_tokens == 3
    client.close()


@pytest.mark.parametrize("program", ["phi-router", "phi-worker"])
@pytest.mark.parametrize("taken", ["both", "the same"])
def test_row80_ports_in_use(program, taken):
    with socket.socket() as one, socket.socket() as other:
        for listener in (one, other):
            listener.bind(("127.0.0.1", 0))
            listener.listen()
        used = [f"127.0.0.1:{listener.getsockname()[1]}" for listener in (one, other)]
        if taken == "the same":
            one.close()  # free, but both flags ask for it
            used[1] = used[0]
        addresses = {"listen": used[0], "metrics_listen": used[1]}
        replicas = ("--replicas=127.0.0.1:1",) if program == "phi-router" else ()
        code, lines = ended(program, f"--model={NANO}", *replicas, *(f"--{name}={value}" for name, value in addresses.items()))
    assert code == CANNOT_BIND, (code, lines)
    assert any(address in line for line in lines for address in used), lines


def test_row80_a_model_directory_that_is_none(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    for model in (tmp_path / "missing", tmp_path / "file", tmp_path):
        for program, flags in (("phi-worker", ("--max_restarts=0",)), ("phi-router", ("--replicas=127.0.0.1:1",))):
            code, lines = ended(program, f"--model={model}", *LOCAL, *flags)
            assert code == MODEL, (program, model, lines)


def test_row76_a_model_directory_that_goes_away_while_it_is_served(tmp_path):
    """Weights are in memory: what happens to the files afterwards is nobody's matter until the next start."""
    model = tmp_path / "model"
    shutil.copytree(NANO, model)
    with Replica(model, 2) as replica:
        before = replica.client.generate(PROMPT, max_new_tokens=6).completions
        weights = model / "model.safetensors"
        weights.write_bytes(b"")
        shutil.rmtree(model)
        assert replica.client.generate(PROMPT, max_new_tokens=6).completions == before
        wait_until(lambda: not any(under_way(replica).values()), "quiet")
