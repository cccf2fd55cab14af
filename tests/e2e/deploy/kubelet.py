"""Runs rendered pods as a kubelet would: each in a network namespace of its own, on one bridge, with the Secrets, probes, preStop pause,
signals and grace that its manifest names. A headless Service is /etc/hosts of the namespaces, with the ready pods alone, as cluster DNS
would say; a Service with an address of its own spreads connections, as kube-proxy does. Needs root and iproute2.

It is quicker than a kubelet and does less: a startup probe comes again after 1 s at most and a readiness probe after 0.5 s, whatever longer period
they name, and initialDelaySeconds is left out; thresholds and timeouts are the manifest's. A liveness probe that fails is counted and nothing is
started again. preStop's pause and minReadySeconds are waited for as rendered, for which test_rendered_pods.py has values of its own (PACE).
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import phi_client
import phi_programs

ROOT = pathlib.Path(__file__).resolve().parents[3]


def entry_point(image: str) -> list[str]:
    """What the Dockerfile makes an image of ours start, but for tini, under which test_images runs it: this machine reaps by itself."""
    dockerfile = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
    name = re.search(r"([a-z-]+)[:@][^/]*$", image).group(1)
    stage = re.split(rf"^FROM \S+ AS {name}$", dockerfile, flags=re.M)[1].split("\nFROM ")[0]
    tini, separator, *command = json.loads(re.search(r"^ENTRYPOINT (.*)$", stage, re.M).group(1))
    assert (tini, separator) == ("/usr/bin/tini", "--")
    return command


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Cluster:
    """A bridge, the pods on it, their Secrets, and who is ready. OSError where network namespaces are not permitted."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.tag = f"phi{os.getpid() % 100000}"
        # Of the range for tests (RFC 2544), and one for each run: two on one machine must not reach each other's pods.
        self.subnet = f"198.{18 + os.getpid() % 512 // 256}.{os.getpid() % 256}"
        self.sandboxes = []
        self.services = {}  # name of a Service: its pods' component
        self.secrets = {}  # name: {key: bytes}
        self._next_host = 10
        ip("link", "add", self.tag, "type", "bridge")
        try:
            ip("address", "add", f"{self.subnet}.1/24", "dev", self.tag)
            ip("link", "set", self.tag, "up")
            probe = Sandbox(self, {"spec": {"containers": [{"command": ["true"]}]}})
            try:
                if probe.start().wait(30) != 0:
                    raise OSError("ip netns exec: " + probe.log.read_text(errors="replace").strip())
            finally:
                probe.remove()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        for sandbox in list(self.sandboxes):
            sandbox.kill()
        ip("link", "del", self.tag)

    def new_address(self) -> str:
        self._next_host += 1
        return f"{self.subnet}.{self._next_host}"

    def pods(self, component: str = "") -> list["Pod"]:
        return [pod for pod in self.sandboxes if isinstance(pod, Pod) and component in ("", pod.component)]

    def endpoints(self, component: str) -> list["Pod"]:
        return [pod for pod in self.pods(component) if pod.ready]

    def publish(self) -> None:
        """What DNS says now, into every pod."""
        lines = ["127.0.0.1 localhost"]
        for service, component in self.services.items():
            lines += [f"{pod.address} {service}" for pod in self.endpoints(component)]
        for sandbox in list(self.sandboxes):
            sandbox.hosts.write_text("\n".join(lines) + "\n", encoding="utf-8")


class ServiceAddress:
    """A Service as kube-proxy makes it: a new connection goes to the next ready pod, and stays there until either side ends it."""

    def __init__(self, cluster: Cluster, component: str, port: int):
        self.cluster, self.component, self.port, self.connections = cluster, component, port, 0
        self._listener = socket.create_server((f"{cluster.subnet}.1", 0))
        self.address = "{}:{}".format(*self._listener.getsockname())
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        """After the callers have closed their connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=30)
            assert not thread.is_alive(), "a connection of the Service is still open"

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            pods = self.cluster.endpoints(self.component)
            self.connections += 1
            try:
                pod = socket.create_connection((pods[self.connections % len(pods)].address, self.port), timeout=30)
            except (OSError, ZeroDivisionError):
                caller.close()
                continue
            pod.settimeout(None)
            for from_end, to_end in ((caller, pod), (pod, caller)):
                self._threads.append(threading.Thread(target=self._copy, args=(from_end, to_end), daemon=True))
                self._threads[-1].start()

    @staticmethod
    def _copy(from_end: socket.socket, to_end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := from_end.recv(65536):
                to_end.sendall(chunk)
        with contextlib.suppress(OSError):
            to_end.shutdown(socket.SHUT_WR)


class Sandbox:
    """A pod's network, hosts and Secrets, and its one container as a process once started."""

    def __init__(self, cluster: Cluster, pod: dict):
        self.cluster, self.spec, self.process = cluster, pod["spec"], None
        self.container = self.spec["containers"][0]
        self.address = cluster.new_address()
        self.namespace = f"{cluster.tag}-{self.address.rpartition('.')[2]}"
        self.folder = cluster.folder / self.namespace
        self.folder.mkdir()
        self.log = self.folder / "log"
        self.hosts = pathlib.Path("/etc/netns") / self.namespace / "hosts"
        cluster.sandboxes.append(self)
        self._make_network()
        self.paths = {"/opt/phi/models/": f"{ROOT}/deploy/models/"}  # in the image the models lie there
        self._mount_secrets()
        cluster.publish()

    def _make_network(self) -> None:
        self.hosts.parent.mkdir(parents=True)
        outside, inside = f"v{self.namespace[-12:]}", f"w{self.namespace[-12:]}"
        ip("netns", "add", self.namespace)
        ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", self.namespace)
        ip("link", "set", outside, "master", self.cluster.tag, "up")
        for arguments in (("link", "set", "lo", "up"), ("address", "add", f"{self.address}/24", "dev", inside), ("link", "set", inside, "up")):
            ip("-netns", self.namespace, *arguments)

    def _mount_secrets(self) -> None:
        volumes = {volume["name"]: volume["secret"] for volume in self.spec.get("volumes", []) if "secret" in volume}
        for mount in self.container.get("volumeMounts", []):
            secret = volumes[mount["name"]]
            content = self.cluster.secrets[secret["secretName"]]
            folder = self.folder / mount["name"]
            folder.mkdir()
            for item in secret.get("items") or [{"key": key, "path": key} for key in content]:
                (folder / item["path"]).write_bytes(content[item["key"]])
            self.paths[mount["mountPath"] + "/"] = f"{folder}/"

    def _here(self, argument: str) -> str:
        """An argument with the container's paths as they are on this machine."""
        for inside, outside in self.paths.items():
            argument = argument.replace(inside, outside)
        return argument

    def start(self) -> subprocess.Popen:
        command = self.container.get("command") or entry_point(self.container["image"])
        command = [phi_programs.BIN / part[len("/usr/bin/") :] if part.startswith("/usr/bin/phi") else part for part in command]
        arguments = [*map(str, command), *map(self._here, self.container.get("args", []))]
        environment = {entry["name"]: entry["value"] for entry in self.container.get("env", [])}
        key, value = phi_programs.MARK.split("=")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *arguments],
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": f"{phi_programs.BIN}:{os.environ['PATH']}", **environment, key: value},
                start_new_session=True,
            )
        return self.process

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.remove()

    def remove(self) -> None:
        if self not in self.cluster.sandboxes:
            return
        self.cluster.sandboxes.remove(self)
        with contextlib.suppress(OSError):
            ip("netns", "del", self.namespace)
        shutil.rmtree(self.hosts.parent, ignore_errors=True)


class Pod(Sandbox):
    """One pod of a Deployment's template, probed from its start on."""

    def __init__(self, cluster: Cluster, template: dict):
        self.component = template["metadata"]["labels"]["app.kubernetes.io/component"]
        self.ready = self.terminating = False
        self.liveness_failures = 0
        super().__init__(cluster, template)
        self.ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        self.start()
        self._watch = threading.Thread(target=self._probe, daemon=True)
        self._watch.start()

    def passes(self, probe: dict) -> bool:
        if "httpGet" in probe:
            url = f"http://{self.address}:{self.ports[probe['httpGet']['port']]}{probe['httpGet']['path']}"
            try:
                with urllib.request.urlopen(url, timeout=probe["timeoutSeconds"]) as answer:
                    return 200 <= answer.status < 400
            except OSError:
                return False
        try:
            with contextlib.closing(phi_client.Client(f"{self.address}:{probe['grpc']['port']}")) as client:
                return client.health(probe["grpc"]["service"], timeout=probe["timeoutSeconds"]) == "SERVING"
        except Exception:  # noqa: BLE001: whatever went wrong, the probe failed
            return False

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.address}:{self.ports['metrics']}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def metric(self, series: str) -> float:
        """The value of a series as /metrics writes it; 0 where it is not."""
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.metrics(), re.M)
        return float(found.group(1)) if found else 0.0

    def _probe(self) -> None:
        startup, liveness, readiness = (self.container[f"{name}Probe"] for name in ("startup", "liveness", "readiness"))
        attempts = 0
        while not self.terminating and not self.passes(startup):
            attempts += 1
            if attempts > startup["failureThreshold"]:
                self.liveness_failures += 1
                return
            time.sleep(min(1, startup["periodSeconds"]))
        failures, next_liveness = 0, time.monotonic()
        while not self.terminating and self.process.poll() is None:
            failures = 0 if self.passes(readiness) else failures + 1
            self._set_ready(failures == 0 if failures == 0 or failures >= readiness["failureThreshold"] else self.ready)
            if time.monotonic() >= next_liveness:
                self.liveness_failures += 0 if self.passes(liveness) else 1
                next_liveness = time.monotonic() + liveness["periodSeconds"]
            time.sleep(min(0.5, readiness["periodSeconds"]))

    def _set_ready(self, ready: bool) -> None:
        ready = ready and not self.terminating
        if ready != self.ready:
            self.ready = ready
            self.cluster.publish()

    def wait_ready(self) -> None:
        phi_programs.wait_until(lambda: self.ready or self.process.poll() is not None, f"{self.component} {self.address} ready")
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]

    def delete(self) -> int:
        """As Kubernetes does: out of the endpoints and preStop at once, then SIGTERM, and SIGKILL when the grace is over. The exit code."""
        begin = time.monotonic()
        self.terminating = True
        self._set_ready(False)
        time.sleep(self.container["lifecycle"]["preStop"]["sleep"]["seconds"])
        os.kill(self.process.pid, signal.SIGTERM)  # `ip netns exec` has become the program
        grace = self.spec["terminationGracePeriodSeconds"] - (time.monotonic() - begin)
        try:
            return self.process.wait(timeout=max(1.0, grace))
        finally:
            self.kill()

    def kill(self) -> None:
        self.terminating = True
        super().kill()
        self._watch.join(timeout=30)
