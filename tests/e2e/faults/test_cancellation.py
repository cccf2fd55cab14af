"""Callers that go away or come too late, at every stage: their places and blocks are free at once, and others notice nothing."""

import contextlib
import json
import random
import subprocess
import time

import grpc
import pytest
from phi_client import Client, finish_name, join
from phi_programs import BIN, PATIENCE, SANITIZED, Replica, spawn, wait_until
from quiet import under_way
from random_models import LONG_CONTEXT, make_checkpoint
from raw_http2 import GENERATE, Connection

MAX_SEQUENCES = 4
MANY_TOKENS = 7000
PROMPT = "def count(n):\n"
STAGES = ("queued", "prefill", "decode")
# Row 29. The rate is what is asked for; the floors are for a machine that others use, too, and a collapse is far below them.
STORM_RATE = 500
STORM_SECONDS = 10 if SANITIZED else 40
LEAST_STORM = 1000 if SANITIZED else 10_000
OTHERS_RATE, IN_TIME = (10, "ttft=2s,total=5s") if SANITIZED else (100, "ttft=500ms,total=1s")
KEPT = 0.5 if SANITIZED else 0.75


@pytest.fixture(scope="module")
def replica(tmp_path_factory):
    model = make_checkpoint(tmp_path_factory.mktemp("cancel") / "model", LONG_CONTEXT)
    # A queue for all of a storm whose cancels a busy machine delivers late.
    flags = (f"--max_sequences={MAX_SEQUENCES}", "--max_step_tokens=32", "--kv_cache_bytes=64MiB", "--max_queued_requests=20000")
    with Replica(model, 2, *flags) as started:
        yield started


def cancelled(replica, stage):
    return replica.worker.metric(f'phi_cancelled_total{{stage="{stage}"}}') or 0


def endless(replica, prompt=PROMPT, **parameters):
    return replica.client.stream(prompt, timeout=10 * PATIENCE, ignore_eos=True, max_new_tokens=MANY_TOKENS, **parameters)


def assert_freed(replica):
    wait_until(lambda: not any(under_way(replica).values()), "everything freed")


@pytest.fixture
def full(served):
    """All places are taken by requests that decode."""
    streams = [endless(served) for _ in range(MAX_SEQUENCES)]
    for stream in streams:
        next(stream)
    yield served
    for stream in streams:
        stream.cancel()
    assert_freed(served)


def test_row28_cancel_while_queued(full):
    before = cancelled(full, "queued")
    waiting = endless(full)
    wait_until(lambda: full.worker.metric("phi_requests_waiting") == 1, "queued")
    waiting.cancel()
    wait_until(lambda: full.worker.metric("phi_requests_waiting") == 0, "out of the queue")
    wait_until(lambda: cancelled(full, "queued") == before + 1, "counted")
    assert waiting.code() == grpc.StatusCode.CANCELLED


def test_row28_cancel_while_prefilling(served):
    before = cancelled(served, "prefill")
    stream = served.client.stream([5] * MANY_TOKENS, max_new_tokens=2)
    wait_until(lambda: (served.worker.metric('phi_kv_blocks{state="owned"}') or 0) > 0, "prefilling")
    stream.cancel()
    wait_until(lambda: cancelled(served, "prefill") == before + 1, "counted")
    assert stream.code() == grpc.StatusCode.CANCELLED
    assert_freed(served)


def test_row28_cancel_while_decoding(served):
    before = cancelled(served, "decode")
    stream = endless(served)
    for _ in range(3):
        next(stream)
    stream.cancel()
    wait_until(lambda: cancelled(served, "decode") == before + 1, "counted")
    assert stream.code() == grpc.StatusCode.CANCELLED
    assert_freed(served)


@pytest.mark.parametrize("seed", range(3))
def test_row28_cancel_races_the_last_token(served, seed):
    """Cancelled somewhere around the end: either it was cut off or it is whole, and nothing is held either way."""
    chance = random.Random(seed)
    codes = set()
    for _ in range(40):
        stream = served.client.stream(PROMPT, max_new_tokens=3, ignore_eos=True)
        got = []
        for message in stream:
            got += message.token_ids
            if len(got) >= 2:
                break
        time.sleep(chance.random() * 0.003)
        stream.cancel()
        codes.add(stream.code())
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}
    assert_freed(served)


@pytest.mark.parametrize("seed", range(2))
def test_row28_cancel_at_any_moment(served, seed):
    """Tokenizing, before it is submitted, queued, prefilling, decoding: whatever a random pause hits."""
    chance = random.Random(seed)
    streams = []
    for _ in range(60):
        prompt = "x = 1\n" * chance.choice((1, 20, 500))
        streams.append(served.client.stream(prompt, max_new_tokens=200, ignore_eos=True, n=chance.choice((1, 1, 3)), temperature=1.0))
        time.sleep(chance.random() * 0.01)
        if len(streams) > 6:
            streams.pop(chance.randrange(len(streams))).cancel()
    for stream in streams:
        stream.cancel()
    assert_freed(served)


def start_others(replica, seconds):
    """Callers who stay: OTHERS_RATE requests a second from a process of its own, whatever is still unanswered."""
    load = ("--rate", OTHERS_RATE, "--arrivals=uniform", f"--duration={seconds}s", "--prompt=20", "--output=8", f"--timeout={PATIENCE}s")
    command = [BIN / "phictl", "bench", "--address", replica.router.address, *load, f"--slo={IN_TIME}", "--json=-"]
    return spawn(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def goodput(others):
    """Answers a second in time."""
    out, _ = others.communicate(timeout=2 * PATIENCE)
    report = json.loads(out)
    assert others.returncode == 0 and report["requests"]["failed"] == 0, report["requests"]
    return report["goodput"]["per_second"]


def storm(replica, others):
    """STORM_RATE callers a second who go away at any moment, until the others are done; (how many, seconds, texts of who stays)."""
    chance = random.Random(29)
    request = Client.request(PROMPT, max_new_tokens=500, ignore_eos=True).SerializeToString()
    under, gone, texts = [], 0, set()
    start = time.monotonic()
    with contextlib.closing(Client(replica.router.address)) as client:
        while others.poll() is None:
            time.sleep(max(0, start + gone / STORM_RATE - time.monotonic()))
            under.append(client.stream_bytes(request, timeout=PATIENCE))
            if len(under) < MAX_SEQUENCES - 1:
                continue
            stream = under.pop(chance.randrange(len(under)))
            if chance.random() < 0.02:
                next(stream)  # decodes by now
            stream.cancel()
            gone += 1
            if gone % 250 == 0:
                texts.add(replica.client.generate(PROMPT, timeout=PATIENCE, max_new_tokens=4, ignore_eos=True).completions[0].text)
        seconds = time.monotonic() - start
        for stream in under:
            stream.cancel()
    return gone, seconds, texts


def test_row29_cancel_storm(served, figure):
    """Hundreds of callers a second go away; who stays is answered in time as without them, the same text, and nothing is kept."""
    alone = goodput(start_others(served, 4))
    others = start_others(served, STORM_SECONDS)
    gone, seconds, texts = storm(served, others)
    beside = goodput(others)
    assert len(texts) == 1
    assert_freed(served)
    figure(
        f"row 29: {gone} cancels at {gone / seconds:.0f}/s, 0 blocks held after it; goodput of {OTHERS_RATE} requests a second of others ({IN_TIME}): "
        f"{beside:.1f}/s beside it, {alone:.1f}/s without"
    )
    assert gone >= LEAST_STORM
    assert alone > 0 and beside >= KEPT * alone


def test_row30_a_deadline_that_has_passed_reaches_no_replica(served):
    tokens = served.worker.metric("phi_prompt_tokens_total")
    request = Client.request(PROMPT, max_new_tokens=5).SerializeToString()
    for timeout in ("1n", "1u", "0S"):
        with Connection(served.router.address) as connection:  # a gRPC client would end the call by itself
            assert connection.call(GENERATE, request, grpc_timeout=timeout).get("grpc-status") == "4"
    assert served.worker.metric("phi_prompt_tokens_total") == tokens


@pytest.mark.parametrize("limit", [{"time_limit": 0.3}, {"timeout": 0.5}], ids=str)
def test_row30_a_limit_that_passes_in_the_queue(full, limit):
    tokens = full.worker.metric("phi_prompt_tokens_total")
    refusal = full.client.refusal(PROMPT, max_new_tokens=5, **limit)
    assert refusal.code == grpc.StatusCode.DEADLINE_EXCEEDED, refusal
    if "time_limit" in limit:
        assert refusal.reason == "DEADLINE_IN_QUEUE", refusal
    wait_until(lambda: full.worker.metric("phi_requests_waiting") == 0, "out of the queue")
    assert full.worker.metric("phi_prompt_tokens_total") == tokens, "it ran"


def test_row30_a_limit_that_passes_while_decoding(served):
    """The text so far arrives, and the place is free."""
    text, ids, _, last, _ = join(served.client.stream(PROMPT, ignore_eos=True, max_new_tokens=MANY_TOKENS, time_limit=1.0))
    assert finish_name(last.finish) == "TIME_LIMIT" and 0 < len(ids) < MANY_TOKENS and text
    assert_freed(served)


def test_row30_a_deadline_that_passes_while_decoding(served):
    """The engine stops ahead of it; what arrives too late all the same is DEADLINE_EXCEEDED, and the place is free."""
    try:
        completion = served.client.generate(PROMPT, timeout=1.0, ignore_eos=True, max_new_tokens=MANY_TOKENS).completions[0]
        assert finish_name(completion.finish) == "TIME_LIMIT" and 0 < len(completion.token_ids) < MANY_TOKENS
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert_freed(served)


def test_row67_who_decodes_goes_on_beside_a_long_prompt(served, figure):
    """A long prompt is prefilled in 63 chunks: who has a token already gets one more with each of them."""
    decodes = endless(served)
    next(decodes)
    before = served.worker.metric("phi_generated_tokens_total")
    long_prompt = served.client.stream([6] * 2000, timeout=10 * PATIENCE, max_new_tokens=1)
    next(long_prompt)
    tokens = served.worker.metric("phi_generated_tokens_total") - before - 1
    decodes.cancel()
    assert tokens > 50, "it stood still"
    figure(f"beside the prefill of 2000 tokens in steps of 32: another caller got {tokens} tokens")
    assert_freed(served)


def test_row67_short_prompts_pass_a_long_one(served, figure):
    """A short prompt waits for a few of the steps that the long one takes, not for its end."""
    generate = served.client._unary("Generate", "phi.v1.GenerateRequest", "phi.v1.GenerateResponse")
    start, short = time.monotonic(), []
    long_prompt = generate.future(Client.request([7] * MANY_TOKENS, max_new_tokens=1), timeout=10 * PATIENCE)
    wait_until(lambda: (served.worker.metric('phi_kv_blocks{state="owned"}') or 0) > 0, "prefilling")
    while not long_prompt.done():
        asked = time.monotonic()
        served.client.generate(PROMPT, timeout=PATIENCE, max_new_tokens=1)
        short.append(time.monotonic() - asked)
    whole = time.monotonic() - start
    assert long_prompt.result().summary.usage.prompt_tokens == MANY_TOKENS
    short = sorted(short[:-1])  # the last one may have come after the end
    assert len(short) >= 5
    median, most = short[len(short) // 2], short[-1]
    figure(f"row 67, beside a prefill of {MANY_TOKENS} tokens ({whole:.2f} s): the first token of {len(short)} short prompts came after "
           f"{median * 1e3:.1f} ms in the median, {most * 1e3:.1f} ms at most")  # fmt: skip
    assert median < whole / 10  # a machine that stalls may delay any one of them
    assert_freed(served)


def test_a_call_that_ends_by_a_stop_is_no_cancelled_one(served):
    stopped = 'phi_request_duration_seconds_count{finish_reason="stop_string"}'
    before, cancels = served.worker.metric(stopped) or 0, [cancelled(served, stage) for stage in STAGES]
    free = served.client.generate(PROMPT, max_new_tokens=40, ignore_eos=True).completions[0].text
    stop = next(character for character in free if character.isascii())
    for _ in range(5):
        answer = served.client.generate(PROMPT, max_new_tokens=MANY_TOKENS, ignore_eos=True, stop=[stop])
        assert finish_name(answer.completions[0].finish) == "STOP_STRING"
    wait_until(lambda: served.worker.metric(stopped) == before + 5, "counted by its reason")
    assert [cancelled(served, stage) for stage in STAGES] == cancels
