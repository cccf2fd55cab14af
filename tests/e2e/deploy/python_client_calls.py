"""Calls a running service with the package phi_serve; run by test_clients.py in the environment that the package is installed in.

    python python_client_calls.py ADDRESS
"""

import asyncio
import contextlib
import datetime
import sys

import grpc
import phi_serve
from phi.v1 import generation_pb2 as pb

PROMPT = "def is_even(n):\n    "


def check_answers(client: phi_serve.Client) -> None:
    answer = client.generate(PROMPT, max_new_tokens=24, request_id="one")
    deltas = list(client.stream(PROMPT, max_new_tokens=24))
    assert answer.request_id == "one" and answer.text, answer
    assert "".join(delta.text for delta in deltas) == answer.text
    assert [token for delta in deltas for token in delta.token_ids] == answer.completions[0].token_ids
    last = deltas[-1]
    assert last.usage is not None and last.usage == answer.usage and last.finish_reason == answer.completions[0].finish_reason
    ids = client.tokenize(PROMPT)
    assert client.detokenize(ids) == PROMPT and answer.usage.prompt_tokens == len(ids)
    assert client.generate(ids, max_new_tokens=24).text == answer.text
    assert client.model_info().defaults.max_new_tokens == 256


def check_parameters(client: phi_serve.Client) -> None:
    answer = client.generate(
        PROMPT, n=2, seed=7, temperature=0.9, top_k=40, top_p=0.9, logprobs=2, logit_bias={11: -100.0}, stop=["\n\n"], stop_conditions=["dedent"],
        stop_token_ids=[3], include_stop=True, max_new_tokens=16, time_limit=datetime.timedelta(seconds=20),
    )  # fmt: skip
    assert answer.seed == 7 and len(answer.completions) == 2
    assert len(answer.completions[0].logprobs[0].top) == 2
    again = client.generate(PROMPT, n=2, seed=7, temperature=0.9, top_k=40, top_p=0.9, max_new_tokens=16)
    assert again.text == client.generate(PROMPT, n=2, seed=7, temperature=0.9, top_k=40, top_p=0.9, max_new_tokens=16).text
    try:
        client.generate(PROMPT, no_such_parameter=1)  # type: ignore[call-arg]
    except AttributeError:
        return
    raise AssertionError("a parameter that does not exist was taken")


def check_errors(client: phi_serve.Client) -> None:
    try:
        client.generate(PROMPT, top_p=2.0)
    except phi_serve.PhiError as error:
        assert (error.code, error.reason, error.field) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_OUT_OF_RANGE", "parameters.top_p"), error
    else:
        raise AssertionError("top_p=2 was taken")
    for none_left in (0.0001, 0):
        for call in (lambda: client.generate(PROMPT, timeout=none_left), lambda: list(client.stream(PROMPT, timeout=none_left))):
            try:
                call()
            except phi_serve.PhiError as error:
                assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED, error
            else:
                raise AssertionError("no deadline")


async def check_asyncio(address: str, text: str, info: pb.GetModelInfoResponse) -> None:
    async with phi_serve.AsyncClient(address) as client:
        ids = await client.tokenize(PROMPT)
        assert ids and await client.detokenize(ids) == PROMPT
        assert await client.model_info() == info
        answers = await asyncio.gather(*(client.generate(PROMPT, max_new_tokens=24) for _ in range(4)))
        assert [answer.text for answer in answers] == [text] * 4
        assert "".join([delta.text async for delta in client.stream(PROMPT, max_new_tokens=24)]) == text
        async with contextlib.aclosing(client.stream(PROMPT, max_new_tokens=200, ignore_eos=True)) as stream:
            async for _ in stream:
                break
        try:
            await client.generate("", max_new_tokens=1)
        except phi_serve.PhiError as error:
            assert error.reason == "EMPTY_PROMPT", error
        else:
            raise AssertionError("an empty prompt was taken")
        for no_time_left in (client.generate(PROMPT, timeout=0), anext(client.stream(PROMPT, timeout=0))):
            try:
                await no_time_left
            except phi_serve.PhiError as error:
                assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED, error
            else:
                raise AssertionError("no deadline")
        try:
            await client.detokenize([1 << 31])
        except phi_serve.PhiError as error:
            assert error.reason == "TOKEN_ID_OUT_OF_RANGE", error
        else:
            raise AssertionError("no such token")


def main() -> None:
    address = sys.argv[1]
    with phi_serve.Client(address) as client:
        check_answers(client)
        check_parameters(client)
        check_errors(client)
        for _ in client.stream(PROMPT, max_new_tokens=200, ignore_eos=True):
            break  # cancels
        text = client.generate(PROMPT, max_new_tokens=24).text
        info = client.model_info()
    asyncio.run(check_asyncio(address, text, info))
    print("ok")


if __name__ == "__main__":
    main()
