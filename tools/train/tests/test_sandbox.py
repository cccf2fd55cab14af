"""The place where model output runs: verdicts, limits, and refusal where it cannot be closed off."""

import pytest

from evaluation import sandbox
from evaluation.sandbox import SandboxUnavailable, Verdict, execute

TEST = "def check(candidate):\n    assert candidate(2) == 4\n"


def run(body, seconds=10.0):
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    return execute(f"def f(x):\n{lines}", TEST, "f", seconds=seconds)


def test_right_and_wrong():
    assert run("return x * 2") is Verdict.PASSED
    assert run("return x * 3") is Verdict.FAILED
    assert execute("def g(x):\n    return 4\n", TEST, "f") is Verdict.FAILED


@pytest.mark.parametrize("body", ["while True: pass", "import time\ntime.sleep(60)"])
def test_time_is_limited(body):
    assert run(body, seconds=1.0) is Verdict.TIMED_OUT


def test_early_exit_is_not_a_pass():
    assert run("import os\nos._exit(0)") is Verdict.FAILED
    assert run("raise SystemExit(0)") is Verdict.FAILED


def test_memory_is_limited():
    assert run("y = bytearray(1 << 30)\nreturn 4") is Verdict.FAILED


def test_no_network(tmp_path):
    body = "import socket\ns = socket.socket()\ns.settimeout(2)\ns.connect(('127.0.0.1', PORT))\nreturn 4"
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        assert run(body.replace("PORT", port)) is Verdict.FAILED


def test_no_writing_and_no_new_processes(tmp_path):
    tmp_path.chmod(0o777)
    target = tmp_path / "out"
    run(f"with open({str(target)!r}, 'w') as f: f.write('y' * 10000)\nreturn 4")
    assert not target.exists() or target.read_text() == ""
    assert run("import os\nif os.fork() == 0: os._exit(0)\nreturn 4") is Verdict.FAILED


def test_nothing_runs_without_isolation(monkeypatch, tmp_path):
    marker = tmp_path / "ran"
    monkeypatch.setattr(sandbox, "_command", lambda: ["/usr/bin/python3", "-I", "-c", sandbox.RUNNER.read_text()])
    with pytest.raises(SandboxUnavailable):
        run(f"open({str(marker)!r}, 'w')\nreturn 4")
    assert not marker.exists()


def test_missing_unshare_is_refused(monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda _: None)
    with pytest.raises(SandboxUnavailable):
        run("return 4")
