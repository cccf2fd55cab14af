"""What GetModelInfo says: the model, its replicas, and every limit and default as docs/api.md has them."""

import re

from contract import PATIENCE, PROMPT, CallRow
from phi_client import Client, message_class

# The tables of docs/api.md, as they stand there: (least, most, entries at most, whether the least itself is refused).
CONTEXT, VOCABULARY, LAST_ID, ROUTERS = "context", "vocabulary", "vocabulary - 1", "the router's --max_time_limit"
LIMITS = {
    "max_new_tokens": (1, CONTEXT, 0, False),
    "min_new_tokens": (0, CONTEXT, 0, False),
    "temperature": (0, 2, 0, False),
    "top_k": (0, VOCABULARY, 0, False),
    "top_p": (0, 1, 0, True),
    "min_p": (0, 1, 0, False),
    "repetition_penalty": (0, 2, 0, True),
    "frequency_penalty": (-2, 2, 0, False),
    "presence_penalty": (-2, 2, 0, False),
    "logit_bias": (-100, 100, 300, False),
    "n": (1, 16, 0, False),
    "stop": (1, 256, 16, False),
    "stop_token_ids": (0, LAST_ID, 64, False),
    "stop_conditions": (1, 4, 4, False),
    "logprobs": (0, 20, 0, False),
    "truncate_prompt": (1, CONTEXT, 0, False),
    "time_limit": (0, ROUTERS, 0, True),
}
DEFAULTS = {
    "max_new_tokens": 256,
    "min_new_tokens": 0,
    "temperature": 0,
    "top_k": 0,
    "top_p": 1,
    "min_p": 0,
    "repetition_penalty": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "n": 1,
    "include_stop": False,
    "ignore_eos": False,
}
WITHOUT_LIMIT = {"seed", "include_stop", "ignore_eos"}
WITHOUT_DEFAULT = {"seed", "logit_bias", "stop", "stop_token_ids", "stop_conditions", "logprobs", "truncate_prompt"}


def model_info_is_what_is_served(server):
    info = server.info
    assert info.model_name and info.version and re.fullmatch("[0-9a-f]{64}", info.fingerprint)
    assert info.dtype and 0 < info.vocabulary_tokens <= info.architecture.vocab_size and info.context_tokens > 1
    for field in info.architecture.DESCRIPTOR.fields:
        assert getattr(info.architecture, field.name) > 0, field.name
    assert info.replicas and all(replica.state == "ready" and replica.world_size >= 1 for replica in info.replicas)


def model_info_tells_the_margin(server):
    margins = [replica.deadline_margin.ToNanoseconds() / 1e9 for replica in server.client.model_info().replicas]
    assert margins and all(0.02 <= margin < PATIENCE for margin in margins), margins


def model_info_publishes_every_limit_and_default(server):
    time_limit = server.info.defaults.time_limit.ToNanoseconds() / 1e9
    numbers = {CONTEXT: server.context, VOCABULARY: server.vocabulary, LAST_ID: server.vocabulary - 1, ROUTERS: time_limit}
    expected = {f"parameters.{name}": (least, numbers.get(most, most), *rest) for name, (least, most, *rest) in LIMITS.items()}
    assert {name: (limit.min, limit.max, limit.max_items, limit.min_exclusive) for name, limit in server.limits.items()} == expected
    published = {field.name: value for field, value in server.info.defaults.ListFields()}
    assert published.pop("time_limit") == server.info.defaults.time_limit and time_limit > 0
    assert published == DEFAULTS
    fields = {field.name for field in message_class("phi.v1.GenerationParameters").DESCRIPTOR.fields}
    assert set(LIMITS) == fields - WITHOUT_LIMIT and {*DEFAULTS, "time_limit"} == fields - WITHOUT_DEFAULT


def defaults_are_what_unset_means(server):
    """The published defaults, sent, give what a request without them gives."""
    parameters = type(server.info.defaults)()
    parameters.CopyFrom(server.info.defaults)
    parameters.max_new_tokens = 12
    request = Client.request(PROMPT)
    request.parameters.CopyFrom(parameters)
    assert server.generate(request.SerializeToString()).samples == server.answer(max_new_tokens=12).samples


def numbers_of_the_model(server):
    limits = server.limits
    for field in ("max_new_tokens", "min_new_tokens", "truncate_prompt"):
        assert limits[f"parameters.{field}"].max == server.context
    assert limits["parameters.top_k"].max == server.vocabulary == limits["parameters.stop_token_ids"].max + 1


CALLS = (
    CallRow("model-info", "| the model, every default, every limit, the replicas |", model_info_is_what_is_served),
    CallRow("model-info-limits", "| the model, every default, every limit, the replicas |", model_info_publishes_every_limit_and_default),
    CallRow("model-info-margin", "`GetModelInfo` tells each replica's `deadline_margin`", model_info_tells_the_margin),
    CallRow("defaults", "unset means the published default", defaults_are_what_unset_means),
    CallRow("numbers", "`GetModelInfo` gives the numbers.", numbers_of_the_model),
)
