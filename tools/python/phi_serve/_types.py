"""What goes in and what comes out, and how that becomes messages."""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import Mapping, Optional, Sequence, TypedDict, Union

import grpc
from phi.v1 import generation_pb2 as pb

Prompt = Union[str, Sequence[int]]

# Retries what a router or a replica that goes away answers, before the first token; looks for routers that are ready.
# CANCELLED is what gRPC's server says to a call that meets its very end; a caller's own cancellation is never tried again.
SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{"service": "phi.v1.TextGeneration"}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
        "healthCheckConfig": {"serviceName": "readiness"},
    }
)
OPTIONS = (("grpc.service_config", SERVICE_CONFIG), ("grpc.max_receive_message_length", 64 << 20))


class Parameters(TypedDict, total=False):
    """GenerationParameters of docs/api.md; what is left out has the server's default."""

    max_new_tokens: int
    min_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logit_bias: Mapping[int, float]
    seed: int
    n: int
    stop: Sequence[str]
    stop_token_ids: Sequence[int]
    stop_conditions: Sequence[str]  # "line_end", "blank_line", "dedent", "top_level"
    include_stop: bool
    ignore_eos: bool
    logprobs: int
    truncate_prompt: int
    time_limit: datetime.timedelta


@dataclasses.dataclass(frozen=True)
class Delta:
    """A piece of one sample."""

    index: int
    text: str
    token_ids: list[int]
    logprobs: list[pb.TokenLogprob]
    finish_reason: Optional[str]  # in the last one of its index: "eos", "max_new_tokens", "stop_string", ...
    usage: Optional[pb.Usage]  # in the last one of all


@dataclasses.dataclass(frozen=True)
class Completion:
    text: str
    token_ids: list[int]
    logprobs: list[pb.TokenLogprob]
    finish_reason: str


@dataclasses.dataclass(frozen=True)
class Answer:
    request_id: str
    seed: int
    completions: list[Completion]
    usage: pb.Usage
    timings: pb.Timings

    @property
    def text(self) -> str:
        """The first sample's."""
        return self.completions[0].text


def with_token(credentials: Optional[grpc.ChannelCredentials], token: Optional[str]) -> Optional[grpc.ChannelCredentials]:
    if token is None:
        return credentials
    if credentials is None:
        raise ValueError("a token needs TLS: pass credentials")
    return grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))


def make_request(prompt: Prompt, request_id: str, model: str, parameters: Parameters) -> pb.GenerateRequest:
    request = pb.GenerateRequest(request_id=request_id, model=model)
    if isinstance(prompt, str):
        request.text = prompt
    else:
        request.token_ids.ids.extend(prompt)
    for name, value in parameters.items():
        field = getattr(request.parameters, name)  # AttributeError: no such parameter
        if name == "stop_conditions":
            field.extend(pb.StopCondition.Value(f"STOP_CONDITION_{str(condition).upper()}") for condition in value)  # type: ignore[attr-defined]
        elif name == "time_limit":
            field.FromTimedelta(value)
        elif name == "logit_bias":
            field.update(value)
        elif isinstance(value, (list, tuple)):
            field.extend(value)
        else:
            setattr(request.parameters, name, value)
    return request


def finish_name(finish: pb.Finish) -> str:
    name: str = pb.FinishReason.Name(finish.reason)
    return name[len("FINISH_REASON_") :].lower()


def read_delta(message: pb.GenerateStreamResponse) -> Delta:
    return Delta(
        index=message.index,
        text=message.text,
        token_ids=list(message.token_ids),
        logprobs=list(message.logprobs),
        finish_reason=finish_name(message.finish) if message.HasField("finish") else None,
        usage=message.summary.usage if message.HasField("summary") else None,
    )


def read_answer(message: pb.GenerateResponse) -> Answer:
    completions = [
        Completion(one.text, list(one.token_ids), list(one.logprobs), finish_name(one.finish)) for one in message.completions
    ]
    return Answer(message.header.request_id, message.header.seed, completions, message.summary.usage, message.summary.timings)
