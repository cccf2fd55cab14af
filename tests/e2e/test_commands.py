"""phi-serve and phictl, as somebody with a laptop uses them."""

import json
import signal
import subprocess

import pytest
from phi_client import Client
from phi_programs import BIN, PATIENCE, Program, Serve, alive, free_port, marked_processes, wait_until

PROMPT = 'def print_prime(n):\n   """\n   Print all primes between 1 and n\n   """\n'
NOTHING_THERE = 69


@pytest.fixture(scope="module")
def serve():
    program = Serve()
    program.wait_ready()
    yield program
    assert program.stop() == 0


def phictl(*arguments, stdin=None):
    command = [str(BIN / "phictl"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=PATIENCE, check=False)


def test_generate_prints_the_text_and_says_usage_aside(serve):
    answer = Client(serve.address).generate(PROMPT, max_new_tokens=30)
    done = phictl("generate", "--address", serve.address, "--max-new-tokens", 30, PROMPT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == answer.completions[0].text
    usage = answer.summary.usage
    assert f"{usage.prompt_tokens} prompt tokens, {usage.generated_tokens} generated" in done.stderr
    assert "first token after" in done.stderr and "tokens/s" in done.stderr


def test_generate_reads_standard_input_and_prints_json(serve):
    done = phictl("generate", "-", "--address", serve.address, "--max-new-tokens", 5, "--json", stdin=PROMPT)
    assert done.returncode == 0, done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    text = "".join(message.get("text", "") for message in messages)
    assert text == Client(serve.address).generate(PROMPT, max_new_tokens=5).completions[0].text
    assert messages[0]["header"]["request_id"] and messages[-1]["summary"]["usage"]["generated_tokens"] <= 5


def test_generate_shows_samples_one_after_the_other(serve):
    flags = ("--max-new-tokens", 12, "--n", 3, "--temperature", 2, "--seed", 7, "--ignore-eos")
    answer = Client(serve.address).generate(PROMPT, max_new_tokens=12, n=3, temperature=2, seed=7, ignore_eos=True)
    assert [completion.index for completion in answer.completions] == [0, 1, 2]
    assert len({completion.text for completion in answer.completions}) > 1
    assert answer.summary.usage.generated_tokens == 36
    done = phictl("generate", "--address", serve.address, *flags, PROMPT)
    assert done.returncode == 0, done.stderr
    headed = (f"--- sample {completion.index} (MAX_NEW_TOKENS)\n{completion.text}" for completion in answer.completions)
    assert done.stdout.split() == "\n".join(headed).split()
    assert "36 generated (in 3 samples)" in done.stderr
    forced = Client(serve.address).tokenize("7").token_ids[0]
    biased = phictl("generate", "--address", serve.address, "--max-new-tokens", 4, "--logit-bias", f"{forced}=100", PROMPT)
    assert biased.stdout == "7777", biased.stderr
    wrong = phictl("generate", "--address", serve.address, "--logit-bias", "seven", PROMPT)
    assert wrong.returncode == 64 and "--logit-bias" in wrong.stderr


def test_tokenize_info_and_health(serve):
    tokens = phictl("tokenize", "--address", serve.address, "def f():\n")
    ids = [int(line.split()[0]) for line in tokens.stdout.splitlines()]
    assert tokens.returncode == 0 and ids == list(Client(serve.address).tokenize("def f():\n").token_ids)
    info = phictl("info", "--address", serve.address)
    assert info.returncode == 0 and "phi-nano" in info.stdout and "2 ranks" in info.stdout
    health = phictl("health", "--address", serve.address)
    assert health.returncode == 0 and "SERVING" in health.stdout.upper()


def test_a_refused_request_names_its_field(serve):
    done = phictl("generate", "--address", serve.address, "--top-p", 3, PROMPT)
    assert done.returncode == 64 and done.stdout == ""
    assert "parameters.top_p" in done.stderr and "FIELD_OUT_OF_RANGE" in done.stderr


def test_without_a_server_the_way_out_is_said():
    done = phictl("generate", "--address", f"127.0.0.1:{free_port()}", PROMPT)
    assert done.returncode == NOTHING_THERE and len(done.stderr.splitlines()) == 1
    assert "quickstart.sh" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("nothing",), ("generate", "--no-such-flag"), ("generate", "--top-p", "much", "x")], ids=str)
def test_wrong_arguments_end_with_64(arguments):
    done = phictl(*arguments)
    assert done.returncode == 64 and len(done.stderr.splitlines()) == 1, done


def test_phi_serve_ends_whole_on_one_signal():
    program = Serve()
    program.wait_ready()
    before = len(marked_processes())
    program.send(signal.SIGINT)
    assert program.wait() == 0
    wait_until(lambda: len(marked_processes()) <= before - 5, "phi-serve, router, worker and two ranks gone", 10)


def test_a_killed_phi_serve_leaves_nothing():
    program = Serve()
    program.wait_ready()
    family = [line.split()[0] for line in marked_processes()]
    others = len(family) - 5  # phi-serve, router, supervisor and two ranks are its own
    program.send(signal.SIGKILL)
    wait_until(lambda: len(marked_processes()) <= max(others, 0), "its family gone", 10)
    assert not alive(program.pid)


def test_phi_serve_ends_when_its_model_cannot_be_served(tmp_path):
    program = Program("phi-serve", f"--model={tmp_path}", "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0")
    assert program.wait() == 65
    assert "config.json" in program.log()


def test_phi_serve_refuses_what_it_does_not_know():
    for flags, word in (((), "--model"), (("--nothing=1",), "--nothing"), (("--replicas=x",), "--replicas")):
        done = subprocess.run([str(BIN / "phi-serve"), *flags], capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 64 and word in done.stderr and len(done.stderr.splitlines()) == 1, done
