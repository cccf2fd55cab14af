"""The Python package, as a wheel in an environment of its own, and the examples, against running programs."""

import concurrent.futures
import contextlib
import functools
import os
import pathlib
import shutil
import signal
import subprocess
import time

import grpc
import phi_client
import phi_programs
import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = phi_programs.ROOT
EXAMPLES = ROOT / "docs" / "examples"
# tools/setup.sh makes it: grpcio and what the package needs, mypy, and what builds a wheel; Debian's Python has older ones.
PYTHON = ROOT / "build" / "tools" / "client" / "bin" / "python"
CXX_EXAMPLE = phi_programs.BIN / "example_generate"
PROMPT = "def is_even(n):\n    "
TOP_LEVEL = phi_client.enum_value("phi.v1.StopCondition", "STOP_CONDITION_TOP_LEVEL")


def run(*command, timeout=120, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=timeout, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the unpacked wheel, and nothing of the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    for part in ("tools/python", "proto"):
        ignored = shutil.ignore_patterns("phi", "build", "*.egg-info", "__pycache__") if part == "tools/python" else None
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    run(PYTHON, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "tools/python")
    [wheel] = folder.glob("*.whl")
    run(PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder / "site", wheel)
    shutil.rmtree(folder / "tools")
    return folder / "site"


@pytest.fixture
def environment(site):
    return {**os.environ, "PYTHONPATH": str(site)}


@pytest.fixture(scope="module")
def replica():
    with phi_programs.Replica() as made:
        yield made


def test_the_package_is_typed(site, environment):
    assert (site / "phi_serve" / "py.typed").exists() and (site / "phi" / "v1" / "py.typed").exists()
    examples = [EXAMPLES / "generate.py", EXAMPLES / "many.py"]
    run(PYTHON, "-m", "mypy", "--strict", "--cache-dir", site.parent / "mypy", site / "phi_serve", cwd=site.parent, env=environment)
    run(PYTHON, "-m", "mypy", "--strict", "--cache-dir", site.parent / "mypy", *examples, cwd=site.parent, env=environment)


def test_the_package_has_the_version_of_the_service(site):
    version = run(phi_programs.BIN / "phi-router", "--version").split()[-1]
    assert (site / f"phi_serve_client-{version}.dist-info").exists(), list(site.iterdir())


def test_a_wrong_type_is_found_before_anything_runs(site, environment, tmp_path):
    source = tmp_path / "wrong.py"
    source.write_text('import phi_serve\n\nphi_serve.Client("a:1").generate("x", max_new_tokens="many")\n', encoding="utf-8")
    done = subprocess.run([PYTHON, "-m", "mypy", "--strict", source], capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment)
    assert done.returncode == 1 and "max_new_tokens" in done.stdout, done.stdout + done.stderr


def test_the_package_calls_the_service(replica, environment):
    print(run(PYTHON, HERE / "python_client_calls.py", replica.router.address, cwd="/", env=environment))


ROUNDS = """
import concurrent.futures, sys, phi_serve
client = phi_serve.Client(sys.argv[1])
for _ in sys.stdin:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        print(len(list(pool.map(lambda _: client.generate("def f(x):", max_new_tokens=4), range(4)))), flush=True)
"""


def test_calls_in_flight_at_a_router_that_dies_are_answered_by_another(started, environment):
    worker = started(phi_programs.Worker(phi_programs.NANO, 2))
    routers = [started(phi_programs.Router([worker.address])) for _ in range(2)]
    for server in (worker, *routers):
        server.wait_ready()
    addresses = "ipv4:" + ",".join(router.address for router in routers)
    command = [str(PYTHON), "-c", ROUNDS, addresses]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment) as call:

        def both_take_calls():
            call.stdin.write("\n")
            assert call.stdout.readline() == "4\n"
            return all('"method":"Generate"' in router.log() for router in routers)

        phi_programs.wait_until(both_take_calls, "connected to both routers")
        rank = worker.rank_pids()[1]  # not the one that tells the routers how it is
        os.kill(rank, signal.SIGSTOP)
        call.stdin.write("\n")
        phi_programs.wait_until(lambda: all(router.metric("phi_router_inflight_requests") > 0 for router in routers), "calls at both routers")
        routers[0].send(signal.SIGKILL)
        routers[0].wait()
        os.kill(rank, signal.SIGCONT)
        assert call.communicate(timeout=phi_programs.PATIENCE)[0] == "4\n"
    assert call.returncode == 0


def example(name, *arguments):
    return [CXX_EXAMPLE, *arguments] if name == "generate.cc" else [PYTHON, EXAMPLES / name, *arguments]


@pytest.mark.parametrize("name", ["generate.cc", "generate.py"])
def test_examples_stream_the_whole_answer(replica, environment, name):
    whole = replica.client.generate(PROMPT, max_new_tokens=128, stop_conditions=[TOP_LEVEL]).completions[0].text
    assert run(*example(name, replica.router.address, PROMPT), env=environment) == whole != ""


@pytest.mark.parametrize("name", ["generate.cc", "generate.py", "many.py"])
def test_examples_without_arguments_say_what_they_take(environment, name):
    done = subprocess.run([str(part) for part in example(name)], capture_output=True, text=True, timeout=60, env=environment, stdin=subprocess.DEVNULL)
    assert done.returncode != 0 and "ADDRESS" in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["generate.cc", "generate.py"])
def test_examples_keep_their_deadline(replica, environment, name):
    command = [str(part) for part in example(name, replica.router.address, PROMPT, "0.0001")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1 and ("error 4" in done.stderr or "DEADLINE_EXCEEDED" in done.stderr), done.stderr


class Relay(grpc.GenericRpcHandler):
    """Passes calls on, as bytes: the first GenerateStream to a router that refuses it, all else to one that serves."""

    def __init__(self, refusing, serving):
        self.refusing, self.serving = grpc.insecure_channel(refusing), grpc.insecure_channel(serving)
        self.ends = []  # (code, pushback) of each GenerateStream
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(8), handlers=[self])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def close(self):
        self.server.stop(0).wait()
        self.refusing.close()
        self.serving.close()

    def service(self, details):
        return grpc.unary_stream_rpc_method_handler(functools.partial(self._pass_on, details.method))

    def _pass_on(self, method, request, context):
        generates = method.endswith("/GenerateStream")
        channel = self.refusing if generates and not self.ends else self.serving
        call = channel.unary_stream(method)(request)
        context.add_callback(call.cancel)
        try:
            yield from call
        except grpc.RpcError as error:
            context.set_trailing_metadata(error.trailing_metadata())
            context.abort(error.code(), error.details())
        finally:
            if generates:
                pushback = dict(call.trailing_metadata()).get("grpc-retry-pushback-ms", "0")
                self.ends.append((call.code().name, int(pushback) / 1000))


@pytest.mark.parametrize("name", ["generate.cc", "generate.py"])
def test_examples_are_answered_after_a_refusal(replica, started, environment, name):
    """One that may be tried again, as routers make it; and no sooner than it says."""
    router = started(phi_programs.Router([f"127.0.0.1:{phi_programs.free_port()}"]))  # nobody is there
    phi_programs.wait_until(lambda: router.http("/livez")[0] == 200, "router listens")
    whole = replica.client.generate(PROMPT, max_new_tokens=128, stop_conditions=[TOP_LEVEL]).completions[0].text
    with contextlib.closing(Relay(router.address, replica.router.address)) as relay:
        start = time.monotonic()
        assert run(*example(name, relay.address, PROMPT), env=environment) == whole != ""
        took = time.monotonic() - start
    assert [code for code, _ in relay.ends] == ["UNAVAILABLE", "OK"] and took >= relay.ends[0][1] > 0


@pytest.mark.parametrize("name", ["generate.cc", "generate.py"])
def test_ctrl_c_cancels_the_call(environment, name):
    with phi_programs.Replica(phi_programs.NANO, 2, "--stall_limit=60s") as replica:
        rank = replica.worker.rank_pids()[1]
        os.kill(rank, signal.SIGSTOP)
        call = phi_programs.spawn(*example(name, replica.router.address, PROMPT), stderr=subprocess.PIPE, env=environment)
        phi_programs.wait_until(lambda: replica.router.metric("phi_router_inflight_requests") > 0, "the call is under way")
        call.send_signal(signal.SIGINT)
        call.communicate(timeout=phi_programs.PATIENCE)
        assert call.returncode == (1 if name == "generate.cc" else 130)
        phi_programs.wait_until(lambda: '"code":"CANCELLED"' in replica.router.log(), "the router knows")
        os.kill(rank, signal.SIGCONT)


def test_many_prompts_at_once(replica, environment):
    prompts = [f"def f{i}(x):" for i in range(40)]
    lines = run(PYTHON, EXAMPLES / "many.py", replica.router.address, env=environment, input="\n".join(prompts)).splitlines()
    expected = [repr(replica.client.generate(prompt, max_new_tokens=64).completions[0].text) for prompt in (prompts[0], prompts[-1])]
    assert len(lines) == 40 and [lines[0], lines[-1]] == expected


def test_a_full_service_is_asked_again(environment):
    """RESOURCE_EXHAUSTED is not for gRPC's retries: many.py waits as long as the refusal says."""
    refused = 'phi_router_requests_total{method="Generate",code="RESOURCE_EXHAUSTED",reason="QUEUE_FULL"}'
    with phi_programs.Replica(phi_programs.NANO, 2, "--stall_limit=60s", router_flags=("--max_inflight_requests=1",)) as replica:
        prompt = PROMPT.splitlines()[0]
        expected = replica.client.generate(prompt, max_new_tokens=64).completions[0].text
        rank = replica.worker.rank_pids()[1]
        os.kill(rank, signal.SIGSTOP)
        held = replica.client.stream(prompt, max_new_tokens=1)
        phi_programs.wait_until(lambda: replica.router.metric("phi_router_inflight_requests") == 1, "the router is full")
        command = (PYTHON, EXAMPLES / "many.py", replica.router.address)
        call = phi_programs.spawn(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        call.stdin.write(f"{prompt}\n")
        call.stdin.close()
        phi_programs.wait_until(lambda: replica.router.metric(refused), "a refusal")
        os.kill(rank, signal.SIGCONT)
        assert list(held)
        assert call.stdout.read() == f"{expected!r}\n"
        assert call.wait(phi_programs.PATIENCE) == 0
