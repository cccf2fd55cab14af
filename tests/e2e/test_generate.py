"""The main job over the public API, at every world size of the embedded model."""

import json
import re

import grpc
import pytest
from phi_client import Client, ROOT, Refusal, finish_name, join
from phi_programs import NANO, SANITIZED, Replica, wait_until
from random_models import weights_sha256

PROMPT = 'def print_prime(n):\n   """\n   Print all primes between 1 and n\n   """\n'
# Samples that take more than a second in all, ten under sanitizers.
ENDLESS = {"n": 16, "temperature": 2.0, "seed": 1, "max_new_tokens": 450, "ignore_eos": True}
GREEDY = ROOT / "tests/golden/phi_nano_greedy.json"


@pytest.fixture(scope="module", params=[1, 2, 4], ids=lambda n: f"tp{n}")
def replica(request):
    with Replica(tensor_parallel=request.param) as started:
        yield started


@pytest.fixture(scope="module")
def client(replica):
    return replica.client


def test_joined_stream_equals_the_unary_answer(client):
    for parameters in ({"max_new_tokens": 40}, {"max_new_tokens": 40, "temperature": 1.0, "seed": 7, "top_p": 0.9}):
        whole = client.generate(PROMPT, logprobs=2, **parameters).completions[0]
        text, ids, logprobs, last, first = join(client.stream(PROMPT, logprobs=2, **parameters))
        assert text == whole.text
        assert ids == list(whole.token_ids)
        assert [(p.token_id, p.logprob) for p in logprobs] == [(p.token_id, p.logprob) for p in whole.logprobs]
        assert last.finish == whole.finish
        assert first.header.request_id and last.summary.usage.generated_tokens == whole.finish.generated_tokens


def test_greedy_text_is_hugging_faces(client):
    golden = json.loads(GREEDY.read_text())
    assert golden["model_sha256"] == weights_sha256(NANO), "Hugging Face saw other weights"
    assert len(golden["prompts"]) == 20
    for case in golden["prompts"]:
        answer = client.generate(case["prompt"], max_new_tokens=golden["max_new_tokens"]).completions[0]
        assert answer.text == case["text"], case["prompt"]
        assert list(answer.token_ids)[: len(case["token_ids"])] == case["token_ids"], case["prompt"]
        assert finish_name(answer.finish) == case["finish"], case["prompt"]


def test_usage_and_timings_add_up(client):
    prompt_ids = client.tokenize(PROMPT).token_ids
    summary = client.generate(PROMPT, max_new_tokens=9, ignore_eos=True).summary
    assert summary.usage.prompt_tokens == len(prompt_ids)
    assert summary.usage.generated_tokens == 9
    timings = {name: getattr(summary.timings, name).ToNanoseconds() for name in ("queue", "prefill", "decode", "time_to_first_token", "total")}
    assert 0 <= timings["queue"] <= timings["time_to_first_token"] <= timings["total"]
    assert timings["prefill"] > 0 and timings["decode"] > 0


def test_logprobs_are_of_the_chosen_and_the_most_likely(client):
    answer = client.generate(PROMPT, max_new_tokens=6, logprobs=5).completions[0]
    assert len(answer.logprobs) == len(answer.token_ids)
    for token_id, entry in zip(answer.token_ids, answer.logprobs):
        assert entry.token_id == token_id == entry.top[0].token_id  # greedy
        assert entry.logprob == entry.top[0].logprob <= 0
        values = [top.logprob for top in entry.top]
        assert len(values) == 5 and values == sorted(values, reverse=True)
        assert client.detokenize([token_id]).text.encode() == entry.piece or b"\xef\xbf\xbd" in client.detokenize([token_id]).text.encode()
    assert not client.generate(PROMPT, max_new_tokens=2).completions[0].logprobs


def test_the_same_seed_draws_the_same(client):
    def draw(seed):
        answer = client.generate("qz", max_new_tokens=30, temperature=2.0, ignore_eos=True, seed=seed)
        return answer.header.seed, list(answer.completions[0].token_ids)

    assert draw(1) == draw(1)
    assert len({tuple(draw(seed)[1]) for seed in range(8)}) > 4
    unseeded = client.generate("qz", max_new_tokens=30, temperature=2.0, ignore_eos=True)
    assert draw(unseeded.header.seed)[1] == list(unseeded.completions[0].token_ids)


def test_a_stop_string_cuts_the_text_before_it(client):
    free = client.generate(PROMPT, max_new_tokens=40, ignore_eos=True).completions[0].text
    stop = free[len(free) // 2 :][:3]
    answer = client.generate(PROMPT, max_new_tokens=40, ignore_eos=True, stop=[stop])
    assert answer.summary.timings.prefill.ToNanoseconds() > 0
    cut = answer.completions[0]
    assert cut.text == free[: free.index(stop)]
    assert finish_name(cut.finish) == "STOP_STRING" and cut.finish.stop == stop
    kept = client.generate(PROMPT, max_new_tokens=40, ignore_eos=True, stop=[stop], include_stop=True).completions[0]
    assert kept.text == cut.text + stop
    assert join(client.stream(PROMPT, max_new_tokens=40, ignore_eos=True, stop=[stop]))[0] == cut.text


def test_every_finish_reason_of_a_short_answer(client):
    free = client.generate(PROMPT, max_new_tokens=12, ignore_eos=True).completions[0]
    assert finish_name(free.finish) == "MAX_NEW_TOKENS" and free.finish.generated_tokens == 12
    token = free.token_ids[5]
    stopped = client.generate(PROMPT, max_new_tokens=12, ignore_eos=True, stop_token_ids=[token]).completions[0]
    assert finish_name(stopped.finish) == "STOP_TOKEN" and stopped.finish.token_id == token
    line_end = client.generate(PROMPT, max_new_tokens=60, ignore_eos=True, stop_conditions=[1]).completions[0]
    assert finish_name(line_end.finish) == "STOP_CONDITION" and "\n" not in line_end.text.strip("\n")
    context = client.model_info().context_tokens
    full = client.generate([1] * (context - 3), ignore_eos=True).completions[0]
    assert finish_name(full.finish) == "CONTEXT_LENGTH" and full.finish.generated_tokens == 3
    late = client.generate(PROMPT, time_limit=2 if SANITIZED else 0.3, **ENDLESS).completions
    assert {finish_name(sample.finish) for sample in late} == {"TIME_LIMIT"}


def test_text_and_its_ids_answer_alike(client):
    ids = list(client.tokenize(PROMPT).token_ids)
    assert client.detokenize(ids).text == PROMPT
    assert client.generate(ids, max_new_tokens=10).completions == client.generate(PROMPT, max_new_tokens=10).completions


def test_a_prompt_can_be_cut_to_its_end(client):
    ids = list(client.tokenize(PROMPT).token_ids)
    cut = client.generate(ids, truncate_prompt=5, max_new_tokens=8)
    assert cut.completions == client.generate(ids[-5:], max_new_tokens=8).completions
    assert cut.summary.usage.prompt_tokens == 5


def test_request_ids_come_back_and_are_made_up(client):
    answer, call = client.generate_call(PROMPT, request_id="order-66", max_new_tokens=1)
    assert answer.header.request_id == "order-66"
    assert dict(call.initial_metadata())["phi-request-id"] == "order-66"
    made_up = {client.generate(PROMPT, max_new_tokens=1).header.request_id for _ in range(3)}
    assert len(made_up) == 3 and all(re.fullmatch(r"[\x21-\x7e]{8,128}", name) for name in made_up)


def test_a_failed_call_has_its_request_id_too(client):
    stream = client.stream(PROMPT, request_id="will-fail", top_p=7)
    with pytest.raises(grpc.RpcError) as error:
        list(stream)
    assert Refusal(error.value).reason == "FIELD_OUT_OF_RANGE"
    assert dict(stream.initial_metadata())["phi-request-id"] == "will-fail"


def test_model_info_publishes_what_requests_are_checked_against(client):
    info = client.model_info()
    assert info.model_name == "phi-nano" and info.dtype == "float32" and re.fullmatch("[0-9a-f]{64}", info.fingerprint)
    assert info.context_tokens > 0 and 0 < info.vocabulary_tokens <= info.architecture.vocab_size
    limits = {limit.field: limit for limit in info.limits}
    assert limits["parameters.max_new_tokens"].max == info.context_tokens
    assert limits["parameters.top_p"].min_exclusive
    assert info.defaults.max_new_tokens == 256 and info.defaults.HasField("temperature")
    assert [replica.state for replica in info.replicas] == ["ready"]


def test_health_and_reflection_just_work(client):
    assert {client.health(name) for name in ("", "liveness", "readiness")} == {"SERVING"}
    with pytest.raises(grpc.RpcError) as error:
        client.health("no.such.Service")
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
    # ServerReflectionRequest{list_services = 7: "*"}; the answer names the services in plain bytes.
    reflect = client.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    answer = next(reflect(iter([b"\x3a\x01*"]), timeout=10))
    assert b"phi.v1.TextGeneration" in answer and b"grpc.health.v1.Health" in answer


def test_many_callers_at_once_get_their_own_answers(client):
    prompts = [f"def f{i}(x):\n    return x + {i}\n" for i in range(12)]
    alone = [client.generate(prompt, max_new_tokens=12).completions[0].text for prompt in prompts]
    streams = [client.stream(prompt, max_new_tokens=12) for prompt in prompts]
    assert [join(stream)[0] for stream in streams] == alone


def test_a_cancelled_stream_frees_its_place(replica, client):
    def cancelled():
        return sum(replica.worker.metric(f'phi_cancelled_total{{stage="{stage}"}}') or 0 for stage in ("queued", "prefill", "decode"))

    before = cancelled()
    for _ in range(3):
        stream = client.stream(PROMPT, **ENDLESS)
        next(stream)
        stream.cancel()
    wait_until(lambda: cancelled() == before + 3, "counted")
    wait_until(lambda: replica.worker.metric("phi_requests_running") == 0, "their places are free")
    fresh = Client.request(PROMPT, max_new_tokens=3)
    assert client.generate(fresh.SerializeToString()).completions[0].finish.generated_tokens > 0


def test_a_prompt_seen_before_is_told_as_cached(client):
    """Of whole blocks, and never all of a prompt: its last row is computed for the first token."""
    prompt = [6 + i for i in range(100)]
    first, second = (client.generate(prompt, max_new_tokens=4, ignore_eos=True) for _ in range(2))
    assert first.summary.usage.cached_prompt_tokens == 0
    assert 32 < second.summary.usage.cached_prompt_tokens < len(prompt)
    assert first.completions == second.completions
    streamed = join(client.stream(prompt, max_new_tokens=4, ignore_eos=True))[3]
    assert streamed.summary.usage.cached_prompt_tokens == second.summary.usage.cached_prompt_tokens
