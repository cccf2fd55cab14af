"""Starts and ends the real programs, and looks at what they leave behind."""

import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

from phi_client import Client

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("PHI_BIN", ROOT / "build/release/bin")).resolve()
SANITIZED = bool(os.environ.get("PHI_SANITIZE"))
NANO = ROOT / "deploy/models/phi-nano"
# A sanitized program starts and computes several times slower, and the machine may be shared.
PATIENCE = 90 if SANITIZED else 30
# Every process started from here has it in its environment, so that one left behind is found.
MARK = f"PHI_E2E={os.getpid()}"


_PORTS = iter(random.sample(range(12_000, 32_000), 20_000))


def free_port():
    """No port twice, and none that the system gives to who asks for any (from 32768 on): a program would find it taken."""
    for port in _PORTS:
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no port is free")


def wait_until(condition, what, timeout=None):
    """Polls until condition() is true and returns how long that took in seconds."""
    start = time.monotonic()
    timeout = timeout or PATIENCE
    while not condition():
        if time.monotonic() - start > timeout:
            raise AssertionError(f"{what}: not within {timeout} s")
        time.sleep(0.01)
    return time.monotonic() - start


def alive(pid):
    """Whether the process runs, zombies excluded."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def marked_processes():
    """Processes that came from this test run and still live, as "pid command"."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if MARK.encode() in (folder / "environ").read_bytes().split(b"\0") and alive(folder.name):
                found.append(f"{folder.name} {(folder / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()[:120]}")
        except OSError:
            continue
    return found


class Background:
    """Calls look() again and again, on a thread of its own, while the block runs."""

    def __init__(self):
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._over.wait(0.02):
            self.look()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


CHILDREN = []


def spawn(*command, env=None, **options):
    """A subprocess.Popen of texts, of anything but a Program; conftest.py kills it where a test ends before it."""
    key, value = MARK.split("=")
    child = subprocess.Popen([*map(str, command)], text=True, env={**(env or os.environ), key: value}, **options)
    CHILDREN.append(child)
    return child


class Program:
    """One running program of ours; its stderr goes to a file that `log` reads, or to `stderr`.

    `prefix`: the beginning of a command that runs the program in other surroundings, such as unshare's.
    """

    def __init__(self, name, *flags, env=None, stderr=None, prefix=()):
        self.name = name
        self.had_to_be_killed = False
        self.accepted_report = None  # words of a sanitizer's report that is the test's own doing
        self._log = tempfile.NamedTemporaryFile(prefix=f"{name}-", suffix=".log")
        key, value = MARK.split("=")
        self.process = subprocess.Popen(
            [*prefix, str(BIN / name), *map(str, flags)],
            stdout=subprocess.DEVNULL,
            stderr=self._log if stderr is None else stderr,
            env={**os.environ, key: value, **(env or {})},
            start_new_session=True,
        )

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return pathlib.Path(self._log.name).read_text(errors="replace")

    def log_entries(self):
        """The JSON lines of the log; others are left out."""
        entries = []
        for line in self.log().splitlines():
            try:
                entries.append(json.loads(line))
            except ValueError:
                continue
        return entries

    def send(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout=None):
        return self.process.wait(timeout or PATIENCE)

    def stop(self):
        """SIGTERM, then whatever it takes; the exit code, or None where it had to be killed."""
        if self.process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
        try:
            return self.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.had_to_be_killed = True
            os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()
            return None


class Server(Program):
    """A program with a gRPC port and a metrics port."""

    def __init__(self, name, *flags, **options):
        self.address = f"127.0.0.1:{free_port()}"
        self.metrics_address = f"127.0.0.1:{free_port()}"
        listen = (f"--listen={self.address}", f"--metrics_listen={self.metrics_address}", "--log_format=json")
        super().__init__(name, *listen, *flags, **options)

    def http(self, path, timeout=5):
        """(status, body); (None, "") where nothing listens."""
        try:
            with urllib.request.urlopen(f"http://{self.metrics_address}{path}", timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return None, ""

    def ready(self):
        return self.http("/readyz")[0] == 200

    def wait_ready(self, timeout=None):
        def ready_or_ended():
            assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}:\n{self.log()}"
            return self.ready()

        try:
            return wait_until(ready_or_ended, f"{self.name} ready", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()[-4000:]}") from None

    def metric(self, series):
        """The value of a series as /metrics writes it, such as `phi_rank_up{rank="0"}`; None where it is not."""
        match = re.search(rf"^{re.escape(series)} (\S+)$", self.http("/metrics")[1], re.M)
        return float(match.group(1)) if match else None


class Worker(Server):
    def __init__(self, model=NANO, tensor_parallel=1, *flags, dtype="float32", threads=1, program="phi-worker", **options):
        self.world_size = tensor_parallel
        super().__init__(
            program,
            f"--model={model}",
            f"--tensor_parallel={tensor_parallel}",
            f"--dtype={dtype}",
            f"--threads={threads}",
            *flags,
            **options,
        )

    def rank_pids(self):
        """Process ids of the present group, by rank."""
        pids = {}
        for entry in self.log_entries():
            if entry.get("message") == "rank started":
                pids[entry["rank"]] = entry["pid"]
        return pids

    def epoch(self):
        return self.metric("phi_replica_epoch")


class Router(Server):
    def __init__(self, replicas, *flags, model=NANO, **options):
        super().__init__("phi-router", f"--model={model}", f"--replicas={','.join(replicas)}", *flags, **options)

    def client(self):
        return Client(self.address)


class Replica:
    """A router in front of one worker, ready, with a client."""

    def __init__(self, model=NANO, tensor_parallel=1, *worker_flags, router_flags=(), **worker_options):
        self.worker = Worker(model, tensor_parallel, *worker_flags, **worker_options)
        try:
            self.router = Router([self.worker.address], *router_flags, model=model)
        except BaseException:
            self.worker.stop()
            raise
        self.client = self.router.client()

    def __enter__(self):
        try:
            self.worker.wait_ready()
            self.router.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.client.close()
        self.router.stop()
        self.worker.stop()


class Serve(Program):
    """phi-serve on free ports."""

    def __init__(self, *flags):
        self.address = f"127.0.0.1:{free_port()}"
        super().__init__(
            "phi-serve", f"--model={NANO}", "--tensor_parallel=2", "--dtype=float32", f"--listen={self.address}",
            "--metrics_listen=127.0.0.1:0", "--log_format=json", *flags,
        )  # fmt: skip

    def wait_ready(self):
        client = Client(self.address)

        def serving():
            assert self.process.poll() is None, self.log()
            try:
                return client.health("readiness") == "SERVING"
            except Exception:  # nothing listens yet
                return False

        wait_until(serving, "phi-serve ready")
        client.close()
