"""The real Prometheus beside real programs: what is quiet when all is well, what fires when something is wrong, and no panel without data."""

import contextlib
import os
import pathlib
import signal
import threading
import time

import certificates
import draw_dashboards
import grpc
import phi_client
import pytest
from phi_programs import NANO, Replica, wait_until
from real_prometheus import Prometheus, panel_expr
from sources import dashboards, rules

TIME_SCALE = 0.05
# After the last expected alert: rounds of scraping and judging in which another one could show.
SETTLE = 8
# A shared machine is slower than promised now and then.
SLOW_MACHINE = {"PhiFirstTokenBudgetBurn", "PhiInterTokenSlow"}
# While the only replica is away its calls fail, and at this pace a minute without it is three seconds.
OUTAGE = SLOW_MACHINE | {"PhiNoReadyReplica", "PhiErrorBudgetBurnFast"}


class Load:
    """Short streams without pause, whatever becomes of them."""

    def __init__(self, address, threads=2, tls_ca=None, **parameters):
        self.tls_ca = tls_ca
        self.address, self.parameters, self.stopped = address, {"max_new_tokens": 16, "ignore_eos": True, **parameters}, threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self, index):
        with contextlib.closing(phi_client.Client(self.address, self.tls_ca)) as client:
            count = 0
            while not self.stopped.is_set():
                count += 1
                try:
                    # Some share a prefix, some are read whole, some are given up: every series gets data.
                    prompt = "def f(x):\n    return x\n" * 4 + f"\ndef g{count % 3}():\n"
                    call = client.stream(prompt, timeout=20, temperature=0.7, **self.parameters)
                    for number, _ in enumerate(call):
                        if (count + index) % 5 == 0 and number == 2:
                            call.cancel()
                except grpc.RpcError:
                    time.sleep(0.05)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


@pytest.fixture
def observed(tmp_path):
    """observed(*worker flags, router_flags) starts a replica of two ranks with load and Prometheus: (replica, prometheus, load)."""
    with contextlib.ExitStack() as stack:

        def start(*worker_flags, router_flags=(), load=None):
            replica = stack.enter_context(Replica(NANO, 2, *worker_flags, router_flags=router_flags))
            traffic = Load(replica.router.address, **(load or {}))
            stack.callback(traffic.stop)
            targets = {"phi-router": replica.router.metrics_address, "phi-worker": replica.worker.metrics_address}
            prometheus = Prometheus(tmp_path, targets, TIME_SCALE)
            stack.callback(prometheus.stop)
            return replica, prometheus, traffic

        yield start


def judge(prometheus, figure, fault, expected, allowed=frozenset()):
    """Waits until the expected alerts fired, and then that no other does but those allowed."""
    wait_until(lambda: expected <= prometheus.fired(), f"{expected} fire", timeout=120)
    time.sleep(SETTLE)
    fired = prometheus.fired()
    figure(f"alerts, {fault}: {', '.join(sorted(fired)) or 'none'}")
    assert fired - expected - allowed == set()


def wait_for_history(prometheus):
    """A counter's rise is seen from its second scrape on."""
    wait_until(lambda: prometheus.query("min(count_over_time(phi_replica_restarts_total[1m])) >= 3 and on () phi_replica_ready == 1"), "some scrapes")


def wait_for_recovery(prometheus):
    wait_until(lambda: prometheus.query("phi_replica_ready == 1 and phi_replica_epoch > 1"), "the ranks run again", timeout=120)
    wait_until(lambda: prometheus.query('sum(rate(phi_router_requests_total{code="OK"}[5s])) > 0'), "calls are answered again")


def test_all_is_well(observed, figure, tmp_path):
    """No alert, and every panel that this machine can fill has data. With TLS, whose certificate has a panel too."""
    authority = certificates.Authority("here")
    files = certificates.Folder(tmp_path / "tls").put(authority.issue())
    _, prometheus, _ = observed(router_flags=(f"--tls_cert={files.cert}", f"--tls_key={files.key}"), load={"tls_ca": authority.pem})
    start = time.time()
    wait_until(lambda: prometheus.query("job:phi_requests:rate5m > 1"), "calls are counted")
    pictures = os.environ.get("PHI_DRAW_DASHBOARDS")
    time.sleep(90 if pictures else 20)  # `for` a minute is 3 s here
    judge(prometheus, figure, "all well", set(), SLOW_MACHINE)
    panels = [(board.uid, panel) for board in dashboards.dashboards() for panel in board.panels()]
    empty = {(f"{uid}: {panel.title}", query.expr) for uid, panel in panels for query in panel.queries if not prometheus.has_value(panel_expr(query.expr))}
    gpus = {(where, expr) for where, expr in empty if "DCGM_" in expr}
    figure(f"{len(panels)} panels of 4 dashboards asked of the real Prometheus, {len(empty)} queries without a value, {len(gpus)} of them for GPUs")
    assert empty == gpus
    judge_frame(prometheus, start)
    if pictures:
        draw_dashboards.draw(prometheus, pathlib.Path(pictures), (start + 15, time.time()))


def judge_frame(prometheus, start):
    """What is around the panels: annotations over the run, as Grafana asks for them, and what the variables offer."""
    board = dashboards.dashboards()[0].json()
    marked = {annotation["name"]: prometheus.query_range(panel_expr(annotation["expr"]), start, time.time()) for annotation in board["annotations"]["list"]}
    assert {series["metric"]["program"] for series in marked["Versions"]} == {"phi-router", "phi-worker"}
    assert {series["metric"]["alertname"] for series in marked["Alerts"]} <= SLOW_MACHINE
    offered = {variable["name"]: prometheus.label_values(variable["definition"]) for variable in board["templating"]["list"][1:]}
    assert offered == {"namespace": [], "job": ["phi-router", "phi-worker"], "instance": ["router-0", "worker-0"]}


def test_nobody_calls(observed, figure):
    """No call since the start: ratios of nothing and quantiles of nothing are no alarm."""
    _, prometheus, _ = observed(load={"threads": 0})
    wait_until(lambda: prometheus.query("count_over_time(phi_replica_ready[1m]) >= 10"), "some scrapes")
    judge(prometheus, figure, "no call", set())
    assert prometheus.query("sum(phi_router_requests_total) > 0") == []


def test_all_workers_gone(observed, figure):
    """For good: who answers nobody and who reaches nobody are two alerts, and the calls fail."""
    replica, prometheus, _ = observed()
    wait_for_history(prometheus)
    replica.worker.stop()
    expected = {"PhiNoReadyReplica", "PhiWorkerAbsent", "PhiTargetDown", "PhiErrorBudgetBurnFast"}
    judge(prometheus, figure, "all workers gone", expected, SLOW_MACHINE | {"PhiReplicasMissing"})
    assert [series["value"][1] for series in prometheus.query(rules.READY_REPLICAS)] == ["0"]


def test_a_killed_rank(observed, figure):
    replica, prometheus, _ = observed()
    wait_for_history(prometheus)
    os.kill(replica.worker.rank_pids()[1], signal.SIGKILL)
    wait_for_recovery(prometheus)
    judge(prometheus, figure, "a rank killed", {"PhiReplicaRestarted"}, OUTAGE | {"PhiCollectiveErrors"})
    assert prometheus.query('phi_replica_restarts_total{cause="rank_signal"} > 0')


def test_a_frozen_rank(observed, figure):
    # PhiEngineStalled would need a minute and a half, 4.5 s here.
    replica, prometheus, _ = observed("--stall_limit=3s")
    wait_for_history(prometheus)
    os.kill(replica.worker.rank_pids()[1], signal.SIGSTOP)
    wait_for_recovery(prometheus)
    judge(prometheus, figure, "a rank frozen", {"PhiReplicaRestarted"}, OUTAGE | {"PhiCollectiveErrors"})
    assert prometheus.query('phi_replica_restarts_total{cause="stall"} > 0')


def test_a_full_queue(observed, figure):
    """Refusals are failed calls too, so they spend the error budget."""
    _, prometheus, _ = observed("--max_sequences=1", "--max_queued_requests=1", load={"threads": 8, "max_new_tokens": 100})
    judge(prometheus, figure, "the queue full", {"PhiQueueFull", "PhiErrorBudgetBurnFast"}, SLOW_MACHINE | {"PhiCancelStorm"})


def test_a_slow_reader(observed, figure):
    replica, prometheus, _ = observed(router_flags=("--slow_reader_timeout=2s",))
    wait_for_history(prometheus)
    # A window of 64 KiB that does not grow and that nobody empties: log-probabilities fill it.
    with contextlib.closing(phi_client.Client(replica.router.address)) as client:
        client.channel = grpc.insecure_channel(replica.router.address, options=[("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65535)])
        stalled = [client.stream("x", timeout=120, max_new_tokens=500, ignore_eos=True, logprobs=20) for _ in range(2)]
        judge(prometheus, figure, "a slow reader", {"PhiSlowReaders"}, SLOW_MACHINE)
        for call in stalled:
            call.cancel()
