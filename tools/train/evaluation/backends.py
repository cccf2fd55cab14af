"""Who answers prompts: a running phi-serve over its public RPC, or transformers in this process."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import importlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Protocol


@dataclasses.dataclass(frozen=True)
class Answer:
    """Text before the stop, why it ended, and how many tokens were generated."""

    text: str
    finish: str
    tokens: int


class BackendError(Exception):
    """The model cannot be asked; the text says why."""


class Backend(Protocol):
    def complete(self, prompts: Sequence[str], stops: Sequence[str], max_new_tokens: int) -> list[Answer]: ...


def load_messages(proto_root: pathlib.Path):
    """The module of messages made from phi/v1/generation.proto. Errors: BackendError."""
    folder = tempfile.mkdtemp(prefix="phi-messages-")
    # protoc of the system matches the system's protobuf module; elsewhere the wheel brings its own.
    program = [shutil.which("protoc")] if shutil.which("protoc") else [sys.executable, "-m", "grpc_tools.protoc"]
    result = subprocess.run(
        [*program, f"-I{proto_root}", "-I/usr/include", f"--python_out={folder}", "phi/v1/generation.proto"],
        capture_output=True, text=True,
    )
    if result.returncode != 0:
        raise BackendError(f"no messages from {proto_root}: {result.stderr.strip()}")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("phi.v1.generation_pb2")
    finally:
        sys.path.remove(folder)
        shutil.rmtree(folder)


class ServiceBackend:
    """phi.v1.TextGeneration/Generate, greedy, a few requests at a time so that they share steps."""

    def __init__(self, target: str, proto_root: pathlib.Path, parallel: int = 8, deadline_s: float = 300.0):
        import grpc

        self._messages = load_messages(proto_root)
        self._channel = grpc.insecure_channel(target)
        self._parallel, self._deadline_s = parallel, deadline_s
        self._rpc_error = grpc.RpcError
        info = self._call("GetModelInfo", self._messages.GetModelInfoRequest())
        self._context = info.context_tokens
        self.description = f"{info.model_name} ({info.dtype}, fingerprint {info.fingerprint[:12]}) at {target}"

    def _call(self, method: str, request):
        response = getattr(self._messages, f"{method}Response")
        call = self._channel.unary_unary(
            f"/phi.v1.TextGeneration/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        try:
            return call(request, timeout=self._deadline_s)
        except self._rpc_error as error:
            raise BackendError(f"{method}: {error.code().name}: {error.details()}") from error

    def _one(self, prompt: str, stops: Sequence[str], max_new_tokens: int) -> Answer:
        messages = self._messages
        counted = self._call("Tokenize", messages.TokenizeRequest(text=prompt))
        room = self._context - len(counted.token_ids)
        if room <= 0:
            return Answer("", "PROMPT_TOO_LONG", 0)
        parameters = messages.GenerationParameters(
            temperature=0.0, max_new_tokens=min(max_new_tokens, room), stop=list(stops)
        )
        request = messages.GenerateRequest(text=prompt, parameters=parameters)
        completion = self._call("Generate", request).completions[0]
        reason = messages.FinishReason.Name(completion.finish.reason)
        return Answer(completion.text, reason.removeprefix("FINISH_REASON_"), completion.finish.generated_tokens)

    def complete(self, prompts: Sequence[str], stops: Sequence[str], max_new_tokens: int) -> list[Answer]:
        with concurrent.futures.ThreadPoolExecutor(self._parallel) as pool:
            return list(pool.map(lambda prompt: self._one(prompt, stops, max_new_tokens), prompts))


class TransformersBackend:
    """PhiForCausalLM in fp32, for the training's own loop."""

    def __init__(self, model: pathlib.Path, batch: int = 32):
        import torch
        from tokenizers import Tokenizer
        from transformers import PhiForCausalLM

        self._torch, self._batch = torch, batch
        torch.set_num_threads(1)
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._model = PhiForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self.description = f"{model} in transformers, float32"

    def complete(self, prompts: Sequence[str], stops: Sequence[str], max_new_tokens: int) -> list[Answer]:
        answers: dict[int, Answer] = {}
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        for at in range(0, len(order), self._batch):
            part = order[at : at + self._batch]
            texts = self._generate([prompts[i] for i in part], max_new_tokens)
            answers.update({i: _cut(text, stops, count) for i, (text, count) in zip(part, texts)})
        return [answers[i] for i in range(len(prompts))]

    def _generate(self, prompts: list[str], max_new_tokens: int) -> list[tuple[str, int]]:
        torch = self._torch
        end = self._model.config.eos_token_id
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(prompts)]
        width = max(map(len, rows))
        ids = torch.tensor([[end] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        room = min(max_new_tokens, self._model.config.max_position_embeddings - width)
        output = self._model.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=room, eos_token_id=end, pad_token_id=end
        )
        texts = []
        for row in output[:, width:].tolist():
            kept = row[: row.index(end)] if end in row else row
            texts.append((self._tokenizer.decode(kept, skip_special_tokens=False), len(kept)))
        return texts


def _cut(text: str, stops: Sequence[str], tokens: int) -> Answer:
    found = [at for at in map(text.find, stops) if at >= 0]
    return Answer(text[: min(found)], "STOP_STRING", tokens) if found else Answer(text, "END", tokens)
