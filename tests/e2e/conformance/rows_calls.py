"""The other calls, what holds for all of them, and limits of time and of a whole answer."""

import re
import time

import grpc
from contract import PATIENCE, PROMPT, Answer, Answered, CallRow, Refused, Row
from phi_client import Client, Refusal, message_class

TEXTS = ("def f(x):\n    return x\n", "", " ", "\0", "é🐍\u202e\U0010ffff", "<|endoftext|>", "a\tb\r\n  c", "0123456789" * 20)
LARGE = "For `Generate`, n · max_new_tokens · (logprobs + 1) is at most 32768, else `RESPONSE_TOO_LARGE`: stream instead."
DEADLINES = "The engine stops at the smaller of `time_limit` and the call's deadline less a margin"
UNARY_LIMIT = 32768


def large(n, max_new_tokens, logprobs, entries):
    """A request for so many entries; each sample ends with its first token."""
    assert n * max_new_tokens * (logprobs + 1) == entries
    return {"n": n, "logprobs": logprobs, "max_new_tokens": max_new_tokens, "logit_bias": {7: 100.0}, "stop_token_ids": [7]}


ONE_TOO_MANY = large(11, 331, 8, UNARY_LIMIT + 1)
WHOLES = (
    Row("answer-at-the-limit", LARGE, large(16, 128, 15, UNARY_LIMIT), Answered(lambda server, answer: len(answer.samples) == 16)),
    Row("answer-over-the-limit", LARGE, ONE_TOO_MANY, Refused("INVALID_ARGUMENT", "RESPONSE_TOO_LARGE",
        "parameters.max_new_tokens"), methods=("Generate",)),
    Row("answer-over-the-limit-streams", LARGE, ONE_TOO_MANY, Answered(lambda server, answer: len(answer.samples) == 11),
        methods=("GenerateStream",)),
    Row("usage-and-timings", "the summary (usage, timings) in the last of all", {"max_new_tokens": 9, "ignore_eos": True},
        Answered(lambda server, answer: usage_and_timings(server, answer))),
)  # fmt: skip


def usage_and_timings(server, answer):
    usage, timings = answer.summary.usage, answer.summary.timings
    ns = {name: getattr(timings, name).ToNanoseconds() for name in ("queue", "prefill", "decode", "time_to_first_token", "router", "total")}
    assert (usage.prompt_tokens, usage.generated_tokens) == (len(server.prompt_ids), 9)
    assert usage.cached_prompt_tokens < usage.prompt_tokens
    assert min(ns.values()) >= 0 and ns["prefill"] > 0 and ns["decode"] > 0 and ns["router"] > 0
    return ns["queue"] <= ns["time_to_first_token"] <= ns["total"] and ns["queue"] + ns["prefill"] + ns["decode"] <= ns["total"]


def plain_call(server, method, body, timeout=PATIENCE):
    """(response bytes, initial metadata) of a call; Refusal where it fails."""
    service = method if method.startswith("/") else f"/phi.v1.TextGeneration/{method}"
    call = server.client.channel.unary_unary(service)
    try:
        response, rpc = call.with_call(body, timeout=timeout)
    except grpc.RpcError as error:
        return Refusal(error)
    return response, dict(rpc.initial_metadata())


def tokenize_and_back(server):
    for text in TEXTS:
        answer = server.client.tokenize(text)
        assert b"".join(answer.pieces).decode() == text and len(answer.pieces) == len(answer.token_ids)
        assert all(token_id < server.vocabulary for token_id in answer.token_ids)
        assert server.client.detokenize(answer.token_ids).text == text


def detokenize_refuses_what_is_no_token(server):
    assert server.client.detokenize([server.vocabulary - 1]).text
    for bad in ([server.vocabulary], [5, 2**32 - 1]):
        refusal = plain_call(server, "Detokenize", message_class("phi.v1.DetokenizeRequest")(token_ids=bad).SerializeToString())
        assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "TOKEN_ID_OUT_OF_RANGE"), refusal
        assert refusal.fields == ["token_ids"] and refusal.domain == "phi-serve"


def malformed_everywhere(server):
    for method in ("Generate", "Tokenize", "Detokenize", "GetModelInfo"):
        refusal = plain_call(server, method, b"\xff")
        assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST"), (method, refusal)
        assert refusal.initial_metadata.get("phi-request-id"), method
    assert plain_call(server, "Tokenize", b"\x0a\x02\xc3\x28").reason == "MALFORMED_REQUEST"


def request_id_of_every_call(server):
    for method in ("Tokenize", "Detokenize", "GetModelInfo"):
        ids = {plain_call(server, method, b"")[1]["phi-request-id"] for _ in range(2)}
        assert len(ids) == 2 and all(re.fullmatch("[!-~]{8,128}", name) for name in ids), method


def health_names(server):
    assert {server.client.health(name) for name in ("", "liveness", "readiness")} == {"SERVING"}
    body = message_class("grpc.health.v1.HealthCheckRequest")(service="no.such.Service").SerializeToString()
    assert plain_call(server, "/grpc.health.v1.Health/Check", body).code.name == "NOT_FOUND"


def health_watch_tells_the_state_at_once(server):
    watch = server.client.channel.unary_stream("/grpc.health.v1.Health/Watch")
    call = watch(message_class("grpc.health.v1.HealthCheckRequest")(service="readiness").SerializeToString(), timeout=PATIENCE)
    assert message_class("grpc.health.v1.HealthCheckResponse").FromString(next(call)).status == 1
    call.cancel()


def reflection_names_the_services(server):
    reflect = server.client.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    answer = next(reflect(iter([b"\x3a\x01*"]), timeout=PATIENCE))  # list_services: "*"
    assert b"phi.v1.TextGeneration" in answer and b"grpc.health.v1.Health" in answer


def unknown_methods_are_grpcs(server):
    for method in ("/phi.v1.TextGeneration/Nothing", "/phi.v2.TextGeneration/Generate", "/x"):
        refusal = plain_call(server, method, b"")
        assert (refusal.code.name, refusal.reason) == ("UNIMPLEMENTED", None), refusal


def compressed_messages_are_refused(server):
    call = server.client.channel.unary_unary("/phi.v1.TextGeneration/Generate")
    for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        try:
            call(Client.request("a" * 4000).SerializeToString(), timeout=PATIENCE, compression=algorithm)
        except grpc.RpcError as error:
            assert Refusal(error).code.name == "UNIMPLEMENTED"
        else:
            raise AssertionError(f"{algorithm} was read")


def message_size(server):
    def of_bytes(size):
        return b"\x0a" + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + b"x" * size

    cap = 256 * 1024
    most, one_more = of_bytes(cap - 4), of_bytes(cap - 3)
    assert (len(most), len(one_more)) == (cap, cap + 1)
    under = server.generate(most)
    assert isinstance(under, Refusal) and under.reason == "PROMPT_TOO_LONG", under
    assert server.generate(one_more).code.name == "RESOURCE_EXHAUSTED"


def whole_time(server, **asked):
    """(seconds to the first token, seconds in all) of an answer to the end of the context, or as much as a second brings."""
    timings = server.answer(**asked).summary.timings
    return timings.time_to_first_token.ToNanoseconds() / 1e9, timings.total.ToNanoseconds() / 1e9


def ends_in_between(server, call):
    """`call(seconds)` until it ends well with TIME_LIMIT; how long an answer takes differs from one to the next."""
    asked = {"prompt": [5], "ignore_eos": True, "max_new_tokens": server.context - 1, "logprobs": 0}
    for share in (0.5, 0.3, 0.7, 0.2, 0.8, 0.5, 0.4, 0.6):
        first, total = whole_time(server, **asked)
        answer = call(asked, first + share * (total - first))
        if isinstance(answer, Answer) and answer.first.reason == "TIME_LIMIT":
            assert 1 <= len(answer.first.ids) < server.context - 1 and len(answer.first.logprobs) == len(answer.first.ids)
            assert answer.summary.usage.generated_tokens == len(answer.first.ids)
            assert answer.first.ids == server.first(**asked).ids[: len(answer.first.ids)], "not the beginning of the whole answer"
            return
    raise AssertionError(f"no call ended by time; the whole takes {total} s, the first token {first} s")


def time_limit_ends_well(server):
    for method in (server.generate, server.stream):
        ends_in_between(server, lambda asked, seconds, method=method: method({**asked, "time_limit": seconds}))


def deadline_less_a_margin_ends_well(server):
    ends_in_between(server, lambda asked, seconds: server.generate(asked, timeout=seconds + 0.05))


def passed_deadline_is_told(server):
    for timeout in (1e-6, 0.0):
        start = time.monotonic()
        refusal = server.generate({"prompt": PROMPT, "ignore_eos": True}, timeout=timeout)
        assert refusal.code.name == "DEADLINE_EXCEEDED", refusal
        assert time.monotonic() - start < PATIENCE


def one_answer_whole(server):
    assert len(server.answer(max_new_tokens=3, ignore_eos=True).first.ids) == 3


def as_it_grows(server):
    """Several messages, the first of them before the last token is there."""
    # As long as can be, because a busy server may join some tokens.
    request = Client.request([5], max_new_tokens=server.context - 1, ignore_eos=True).SerializeToString()
    messages = list(server.client.stream_bytes(request, timeout=PATIENCE))
    assert len(messages) > 10 and len(messages[0].token_ids) < 60


def codes_say_what_to_do(server):
    """Wrong whatever the state: the same refusal each time, and no hint to try again."""
    refusals = [server.generate({"prompt": PROMPT, "top_p": 3.0}) for _ in range(3)]
    assert all(refusal.code.name == "INVALID_ARGUMENT" and refusal.retry_seconds is None for refusal in refusals)
    assert not any("grpc-retry-pushback-ms" in refusal.metadata for refusal in refusals)


def refused_for_load(server, clients, calls):
    """Opens endless streams, on as many connections as it takes, until the server has enough; the Refusal."""
    request = Client.request([5], max_new_tokens=server.context - 1, ignore_eos=True).SerializeToString()
    for _ in range(8):
        clients.append(server.connect())
        calls += [clients[-1].stream_bytes(request, timeout=PATIENCE) for _ in range(120)]  # a connection takes 128
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for call in calls:
                if call.done() and call.code() != grpc.StatusCode.OK:
                    return Refusal(call)
            time.sleep(0.01)
    raise AssertionError(f"{len(calls)} streams at once were taken")


def a_refusal_to_be_tried_again(server):
    """Its id is a trailer: with initial metadata, gRPC's own retries, and the pushback, would never see the call."""
    clients, calls = [], []
    try:
        refusal = refused_for_load(server, clients, calls)
    finally:
        for call in calls:
            call.cancel()
        for client in clients:
            client.close()
    assert refusal.code.name == "RESOURCE_EXHAUSTED" and refusal.reason and refusal.domain == "phi-serve", refusal
    assert re.fullmatch("[!-~]{8,128}", refusal.metadata["phi-request-id"])
    assert "phi-request-id" not in refusal.initial_metadata
    assert refusal.retry_seconds > 0 and int(refusal.metadata["grpc-retry-pushback-ms"]) == round(1000 * refusal.retry_seconds)
    until = time.monotonic() + PATIENCE
    while not isinstance(answer := server.generate({"prompt": PROMPT, "max_new_tokens": 1}), Answer):
        assert time.monotonic() < until, answer
        time.sleep(0.05)


CALLS = (
    CallRow("tokenize", "| `Tokenize` | `TokenizeRequest` | `TokenizeResponse` | counting tokens before sending |", tokenize_and_back),
    CallRow("tokenize-and-back", "| `Detokenize` | `DetokenizeRequest` | `DetokenizeResponse` | the text of token ids |", tokenize_and_back),
    CallRow("detokenize-ids", "Token ids lie below the tokenizer's vocabulary.", detokenize_refuses_what_is_no_token),
    CallRow("malformed-everywhere", "Bytes that are not the message", malformed_everywhere),
    CallRow("request-id-everywhere", "as the initial metadata `phi-request-id` of every call, failed ones too", request_id_of_every_call),
    CallRow("health", '`grpc.health.v1.Health` for the names `""`, `liveness` and `readiness`', health_names),
    CallRow("health-watch", '`grpc.health.v1.Health` for the names `""`, `liveness` and `readiness`', health_watch_tells_the_state_at_once),
    CallRow("reflection", "and server reflection (`--reflection`)", reflection_names_the_services),
    CallRow("unary", "| `Generate` | `GenerateRequest` | `GenerateResponse` | one answer, whole |", one_answer_whole),
    CallRow("stream", "| stream of `GenerateStreamResponse` | the same answer as it grows |", as_it_grows),
    CallRow("codes", "The code says what to do", codes_say_what_to_do),
    CallRow("tried-again-request-id", "where a refusal may be tried again it is a trailer", a_refusal_to_be_tried_again),
    CallRow("unknown-method", "Errors of gRPC itself, such as an unknown method, do not.", unknown_methods_are_grpcs),
    CallRow("compressed", "and compressed messages are not accepted", compressed_messages_are_refused),
    CallRow("message-size", "A message is at most 256 KiB", message_size),
    CallRow("time-limit", "a call that has a token ends well with `TIME_LIMIT` and the text so far", time_limit_ends_well),
    CallRow("deadline-less-a-margin", DEADLINES, deadline_less_a_margin_ends_well),
    CallRow("deadline-passed", "A caller whose deadline passes all the same sees DEADLINE_EXCEEDED.", passed_deadline_is_told),
)

ROWS = WHOLES
