"""The command, from a HumanEval file over the public RPC to pass@1 and the samples file."""

import concurrent.futures
import gzip
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

grpc = pytest.importorskip("grpc")

from evaluation.backends import load_messages  # noqa: E402
from evaluation.problems import read_problems  # noqa: E402

TRAIN = pathlib.Path(__file__).resolve().parent.parent
PROBLEMS = pathlib.Path(__file__).with_name("own_problems.jsonl")


@pytest.fixture(scope="module")
def service():
    """A service that answers right, wrong, with a syntax error, and in an endless loop."""
    messages = load_messages(TRAIN.parent.parent / "proto")
    answers = {
        "double": "    return 2 * x\n",
        "total": "    return 7\n",
        "shout": "    return ((\n",
        "first_word": "    while True:\n        pass\n",
    }

    requests = []

    def get_model_info(request, context):
        return messages.GetModelInfoResponse(model_name="fake", dtype="float32", context_tokens=128)

    def tokenize(request, context):
        return messages.TokenizeResponse(token_ids=range(28))

    def generate(request, context):
        requests.append(request)
        name = next(name for name in answers if f"def {name}(" in request.text)
        finish = messages.Finish(reason=messages.FINISH_REASON_EOS, generated_tokens=9)
        return messages.GenerateResponse(completions=[messages.Completion(text=answers[name], finish=finish)])

    def handler(method, request_type):
        return grpc.unary_unary_rpc_method_handler(
            method, request_type.FromString, lambda message: message.SerializeToString()
        )

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("phi.v1.TextGeneration", {
        "GetModelInfo": handler(get_model_info, messages.GetModelInfoRequest),
        "Tokenize": handler(tokenize, messages.TokenizeRequest),
        "Generate": handler(generate, messages.GenerateRequest),
    }),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", requests
    server.stop(None)


def evaluate(*arguments):
    return subprocess.run(
        [sys.executable, str(TRAIN / "evaluate"), *arguments], capture_output=True, text=True, timeout=120
    )


def test_humaneval_file(service, tmp_path):
    target, requests = service
    samples = tmp_path / "samples.jsonl"
    result = evaluate("--target", target, "--humaneval", str(PROBLEMS), "--samples", str(samples))
    assert result.returncode == 0, result.stderr
    assert "4 prompts, 75.0 % parse, 25.0 % pass" in result.stdout
    lines = {s["task_id"]: s for s in map(json.loads, samples.open())}
    assert lines["own/0"]["passed"] and lines["own/0"]["completion"] == "    return 2 * x\n"
    assert not lines["own/1"]["passed"] and lines["own/1"]["parses"]
    assert not lines["own/2"]["parses"]
    assert lines["own/3"]["verdict"] == "timed out"
    request = requests[0]
    assert request.parameters.temperature == 0.0 and "\ndef " in request.parameters.stop
    assert request.parameters.max_new_tokens == 100  # what the context leaves


def test_unreachable_service_is_an_error():
    result = evaluate("--target", "127.0.0.1:1", "--humaneval", str(PROBLEMS))
    assert result.returncode == 2 and "UNAVAILABLE" in result.stderr


def test_files(tmp_path):
    packed = tmp_path / "p.jsonl.gz"
    with PROBLEMS.open("rb") as source, gzip.open(packed, "wb") as target:
        shutil.copyfileobj(source, target)
    assert read_problems(packed) == read_problems(PROBLEMS)
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"task_id": "x", "prompt": "y"}\n')
    with pytest.raises(ValueError, match="bad.jsonl:1: no text for entry_point, test"):
        read_problems(bad)


def test_card_checksum_matches():
    model = TRAIN.parent.parent / "deploy/models/phi-nano"
    digest = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    assert digest in (model / "README.md").read_text(encoding="utf-8")
