"""The chart's pods, as rendered, really run: probed as the kubelet does, rolled under load without a failed call, and with TLS and tokens."""

import contextlib
import hashlib
import os
import re
import signal
import threading
import time

import grpc
import pytest

import certificates
import chart
import kubelet
import phi_client
import phi_programs

NAME = "phi-phi-serve"
SMALL = {"worker.threads": 1, "worker.kvCacheBytes": 8 << 20}
# A new worker is ready for longer than routers wait between look-ups (5 s); no cache of names lies between here. An old one is told to end long
# before the next look-up, mostly, so that calls still come to it and wait in its queue.
PACE = {"router.preStopSeconds": 3, "router.minReadySeconds": 2, "worker.preStopSeconds": 1, "worker.minReadySeconds": 6}
# So few at once that calls wait in the replicas' queues, of three replicas too: those of a draining one have to go elsewhere.
ROLLED = {**SMALL, **PACE, "worker.maxSequences": 2}
CALLERS, TOKENS = 16, 200
SECURE = {
    **SMALL,
    "router.replicaCount": 1,
    "worker.replicaCount": 1,
    "tls": {"enabled": True, "mutual": True, "routerSecret": "router-tls", "workerSecret": "worker-tls"},
    "tokens": {"existingSecret": "tokens", "testSecret": "test-token"},
}


@pytest.fixture
def cluster(tmp_path, figure):
    try:
        made = kubelet.Cluster(tmp_path)
    except OSError as error:
        figure(f"NOT RUN: {os.environ['PYTEST_CURRENT_TEST'].split(' ')[0]}: network namespaces are not permitted here")
        pytest.skip(f"network namespaces are not permitted here: {error}")
    made.services = {f"{NAME}-worker": "worker", NAME: "router"}
    yield made
    for pod in made.pods():
        print(f"--- {pod.component} {pod.address}\n{pod.log.read_text(errors='replace')[-2000:]}")
    made.close()


class Load:
    """Calls without pause from a few threads through the routers' Service, each on one channel for all its calls, and retried as
    docs/operations.md asks of callers: UNAVAILABLE and CANCELLED, before the first token."""

    def __init__(self, cluster, threads=CALLERS):
        self.service = kubelet.ServiceAddress(cluster, "router", 50051)
        self.done, self.retried, self.failed, self.stopped = 0, 0, [], threading.Event()
        self.threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self):
        with contextlib.closing(phi_client.Client(self.service.address)) as client:
            while not self.stopped.is_set():
                try:
                    assert len(self._answer(client)) == TOKENS
                    self.done += 1
                except Exception as error:  # noqa: BLE001: counted, whatever it is
                    self.failed.append(repr(error))

    def _answer(self, client, attempts=4):
        """The token ids."""
        ids = []
        try:
            for message in client.stream("def f(x):", max_new_tokens=TOKENS, ignore_eos=True):
                ids += message.token_ids
            return ids
        except grpc.RpcError as error:
            if ids or attempts == 1 or error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise
        self.retried += 1
        self.stopped.wait(0.1)
        return self._answer(client, attempts - 1)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        self.service.close()


def deployment(objects, component):
    return chart.find(objects, "Deployment", f"{NAME}-{component}")["spec"]


def start_all(cluster, objects):
    for component in ("worker", "router"):
        spec = deployment(objects, component)
        pods = [kubelet.Pod(cluster, spec["template"]) for _ in range(spec["replicas"])]
        for pod in pods:
            pod.wait_ready()


def roll(cluster, objects, component):
    """RollingUpdate, one pod at a time: the new one first, or the old one, whose GPUs it waits for. A pod counts as available after minReadySeconds."""
    spec = deployment(objects, component)
    strategy = spec["strategy"]["rollingUpdate"]
    assert strategy in ({"maxSurge": 1, "maxUnavailable": 0}, {"maxSurge": 0, "maxUnavailable": 1})

    def start():
        kubelet.Pod(cluster, spec["template"]).wait_ready()
        time.sleep(spec["minReadySeconds"])

    for old in cluster.pods(component):
        if strategy["maxSurge"] == 1:
            start()
        assert old.delete() == 0, old.log.read_text(errors="replace")[-3000:]
        if strategy["maxSurge"] == 0:
            start()


def moved(cluster):
    """Calls that another replica answered because the first one was told to end."""
    return sum(router.metric('phi_router_failovers_total{reason="draining"}') for router in cluster.pods("router"))


def replicas_known(router):
    """Of which a router has a state."""
    return set(re.findall(r'^phi_router_replica_state\{replica="([^"]+)"', router.metrics(), re.M))


def helm_test(cluster, objects):
    """What the chart's test pod says: (exit code, output)."""
    sandbox = kubelet.Sandbox(cluster, chart.find(objects, "Pod", f"{NAME}-smoke"))
    try:
        code = sandbox.start().wait(timeout=120)
        return code, sandbox.log.read_text(errors="replace")
    finally:
        sandbox.kill()


def test_rolling_everything_under_load_fails_no_call(cluster, figure):
    """Workers as on CPUs and as on GPUs, then routers; what waits in an old worker's queue is answered by another one."""
    objects = chart.render((), ROLLED)
    as_on_gpus = deployment(chart.render(("values-gpu.yaml",)), "worker")["strategy"]["rollingUpdate"]
    assert as_on_gpus != deployment(objects, "worker")["strategy"]["rollingUpdate"]
    start_all(cluster, objects)
    code, output = helm_test(cluster, objects)
    assert code == 0, output
    load = Load(cluster)
    try:
        phi_programs.wait_until(lambda: load.done > 3, "calls are answered")
        start = time.monotonic()
        roll(cluster, objects, "worker")
        roll(cluster, chart.render((), {**ROLLED, "worker.strategy": as_on_gpus}), "worker")
        failovers = moved(cluster)
        now = {f"{pod.address}:50052" for pod in cluster.pods("worker")}
        phi_programs.wait_until(lambda: all(replicas_known(router) == now for router in cluster.pods("router")), f"{now} are known and no other")
        roll(cluster, objects, "router")
        seconds = time.monotonic() - start
        before = load.done
        phi_programs.wait_until(lambda: load.done > before + 3 or load.failed, "calls are answered after the rollout")
    finally:
        load.stop()
    counted = f"{load.done} calls answered, {failovers:.0f} by another worker, {load.retried} retried before the first token, {len(load.failed)} failed"
    connections = f"{load.service.connections} connections of {len(load.threads)} channels"
    figure(f"rolled 2 workers twice and 2 routers in {seconds:.0f} s under load: {counted}; {connections}")
    assert load.failed == []
    assert failovers > 0, "no call waited for a worker that ended"
    assert load.service.connections > len(load.threads), "no channel went from a router that ended to another"
    assert [pod.liveness_failures for pod in cluster.pods()] == [0, 0, 0, 0]


def pair(authority, *names):
    certificate, key = authority.issue(sans=names)
    return {"tls.crt": certificate, "tls.key": key, "ca.crt": authority.pem}


def test_mutual_tls_and_tokens(cluster):
    """The chart's Secrets lead where the programs look; the test pod passes with its token or where it needs none, and not with another one."""
    authority = certificates.Authority("cluster")
    token = b"a-token-that-cannot-be-guessed"
    cluster.secrets = {
        "router-tls": pair(authority, NAME, f"{NAME}.inference.svc"),
        "worker-tls": pair(authority, f"{NAME}-worker", f"{NAME}-worker.inference.svc"),
        "tokens": {"tokens": f"helm-test:{hashlib.sha256(token).hexdigest()}\n".encode()},
        "test-token": {"token": token},
    }
    objects = chart.render((), SECURE)
    start_all(cluster, objects)
    code, output = helm_test(cluster, objects)
    assert code == 0, output
    code, output = helm_test(cluster, chart.render((), {**SECURE, "tokens": {"existingSecret": "tokens"}}))
    assert code == 0, output
    cluster.secrets["test-token"] = {"token": b"another"}
    code, output = helm_test(cluster, objects)
    assert code != 0 and "UNAUTHENTICATED" in output, output


def test_a_frozen_router_fails_its_liveness_probe(cluster):
    start_all(cluster, chart.render((), {**SMALL, "router.replicaCount": 1, "worker.replicaCount": 1}))
    [router] = cluster.pods("router")
    assert router.liveness_failures == 0
    os.kill(router.process.pid, signal.SIGSTOP)
    phi_programs.wait_until(lambda: router.liveness_failures > 0 and not router.ready, "both probes fail", timeout=60)
