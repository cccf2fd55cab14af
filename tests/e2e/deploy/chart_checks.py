"""What Kubernetes, the operators and our own rules find wrong with rendered manifests."""

import json
import pathlib
import re
import subprocess

import jsonschema

import chart

CUSTOM = json.loads((pathlib.Path(__file__).resolve().parent / "schemas" / "custom_resources.json").read_text(encoding="utf-8"))
# Pod security standards, restricted.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def check_kubernetes(text: str, tmp_path: pathlib.Path, version: str) -> list[str]:
    """What kubernetes-validate finds wrong; unknown keys are wrong."""
    file = tmp_path / "rendered.yaml"
    file.write_text(text, encoding="utf-8")
    command = [chart.TOOLS / "venv" / "bin" / "kubernetes-validate", "--strict", "--no-warn", "--quiet", "-k", version, file]
    checked = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
    output = (checked.stdout + checked.stderr).strip()
    assert checked.returncode == 0 or output
    return output.splitlines() if checked.returncode != 0 else []


def check_custom(objects: list[dict]) -> list[str]:
    """What the schemas of the operators' resources find wrong."""
    wrong = []
    for document in objects:
        group = document["apiVersion"].split("/")[0]
        if "." not in group or group.endswith("k8s.io") and not group.startswith("gateway."):
            continue
        schema = CUSTOM[f"{document['apiVersion']}/{document['kind']}"]
        for error in jsonschema.Draft7Validator(schema).iter_errors(document["spec"]):
            wrong.append(f"{document['kind']}: {error.message}")
    return wrong


def selects(selector: dict, labels: dict) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())


def admits(policy: dict, port: int, labels: dict) -> bool:
    """Whether a NetworkPolicy lets a pod of its own namespace, whatever that is called, connect to the port."""
    for rule in policy["spec"]["ingress"]:
        for peer in rule.get("from", [{}]):
            if port in (of["port"] for of in rule["ports"]) and "ipBlock" not in peer and not peer.get("namespaceSelector"):
                if selects(peer.get("podSelector", {}).get("matchLabels", {}), labels):
                    return True
    return False


def check_pod(name: str, pod: dict) -> list[str]:
    spec, wrong = pod["spec"], []
    containers = spec["containers"] + spec.get("initContainers", [])
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    mounted = set()
    on_gpus = any("--device=cuda" in container.get("args", []) for container in containers)
    for volume in spec.get("volumes", []):
        mounts = [mount for container in containers for mount in container.get("volumeMounts", []) if mount["name"] == volume["name"]]
        weights_of_node = volume["name"] == "models" and "hostPath" in volume and all(mount.get("readOnly") for mount in mounts)
        if not weights_of_node and not set(volume) - {"name"} <= VOLUMES:
            wrong.append(f"{name}: not the restricted pod security standard: volume {volume}")
    if spec.get("automountServiceAccountToken") is not False:
        wrong.append(f"{name}: mounts a service account's token")
    if not spec["securityContext"].get("runAsNonRoot") or spec["securityContext"]["seccompProfile"] != {"type": "RuntimeDefault"}:
        wrong.append(f"{name}: not the restricted pod security standard")
    for container in containers:
        where = f"{name}/{container['name']}"
        security = container["securityContext"]
        if security.get("readOnlyRootFilesystem") is on_gpus:
            wrong.append(f"{where}: a root {'that the NVIDIA runtime cannot write to' if on_gpus else 'that can be written to'}")
        if security.get("allowPrivilegeEscalation") is not False or security["capabilities"] != {"drop": ["ALL"]}:
            wrong.append(f"{where}: not the restricted pod security standard")
        if container["image"].endswith(":latest") or not re.search(r":[^/]+$", container["image"]):
            wrong.append(f"{where}: image {container['image']} is not pinned")
        mounted |= {mount["name"] for mount in container.get("volumeMounts", [])}
    if mounted != volumes:
        wrong.append(f"{name}: volumes {volumes}, mounted {mounted}")
    return wrong


def check_server(name: str, spec: dict) -> list[str]:
    """What only the routers' and workers' pods have: probes, ports, grace."""
    wrong, container = [], spec["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    flags = dict(argument[2:].split("=", 1) for argument in container["args"])
    for flag, port in (("listen", "grpc"), ("metrics_listen", "metrics")):
        if flags[flag] != f"0.0.0.0:{ports[port]}":
            wrong.append(f"{name}: --{flag}={flags[flag]}, port {port} is {ports[port]}")
    if "device" in flags and not re.search(rf"/worker-{flags['device']}[:@]", container["image"]):
        wrong.append(f"{name}: --device={flags['device']} in {container['image']}")
    if "command" in container:
        wrong.append(f"{name}: goes past the image's entry point")
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        check = container[probe]
        at = check["grpc"]["port"] if "grpc" in check else ports[check["httpGet"]["port"]]
        if at not in ports.values() or check["timeoutSeconds"] < 2:
            wrong.append(f"{name}: {probe} {check}")
    grace = container["lifecycle"]["preStop"]["sleep"]["seconds"] + int(flags["drain_timeout"].rstrip("s"))
    if spec["terminationGracePeriodSeconds"] <= grace:
        wrong.append(f"{name}: is killed before preStop and drain ({grace} s) are over")
    return wrong


def check_policies(objects: list[dict]) -> list[str]:
    """Our own rules, over everything that was rendered."""
    wrong = []
    pods = chart.pod_specs(objects)
    for name, pod in pods.items():
        wrong += check_pod(name, pod)
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] in ("router", "worker"):
            wrong += check_server(name, pod["spec"])
    labels = [pod["metadata"]["labels"] for pod in pods.values()]
    names = {(document["kind"], document["metadata"]["name"]) for document in objects}
    if len(names) != len(objects):
        wrong.append("two objects have one name")
    for document in objects:
        kind, name, spec = document["kind"], document["metadata"]["name"], document.get("spec", {})
        if kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"):
            wrong.append(f"{kind} {name}: nothing here talks to the Kubernetes API")
        if len(name) > 63:
            wrong.append(f"{kind} {name}: name too long")
        if kind == "Deployment" and not selects(spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]):
            wrong.append(f"Deployment {name} does not select its pods")
        if kind == "Deployment" and "helm.sh/chart" in spec["selector"]["matchLabels"]:
            wrong.append(f"Deployment {name}: a selector that changes with the version")
        if kind == "Service":
            chosen = [pod for pod in pods.values() if selects(spec["selector"], pod["metadata"]["labels"])]
            offered = {port["name"] for pod in chosen for container in pod["spec"]["containers"] for port in container.get("ports", [])}
            if len(chosen) != 1 or not {port["targetPort"] for port in spec["ports"]} <= offered:
                wrong.append(f"Service {name} leads nowhere")
        if kind in ("PodDisruptionBudget", "PodMonitor") and not any(selects(spec["selector"]["matchLabels"], of) for of in labels):
            wrong.append(f"{kind} {name} selects nothing")
        if kind in ("HorizontalPodAutoscaler", "ScaledObject") and ("Deployment", spec["scaleTargetRef"]["name"]) not in names:
            wrong.append(f"{kind} {name} scales nothing")
    policies = [document for document in objects if document["kind"] == "NetworkPolicy"]
    if policies:
        for name, pod in pods.items():
            covered = any(selects(policy["spec"]["podSelector"]["matchLabels"], pod["metadata"]["labels"]) for policy in policies)
            if not covered and pod["metadata"]["labels"]["app.kubernetes.io/component"] != "test":
                wrong.append(f"{name}: no NetworkPolicy")
    for policy in policies:
        for name, pod in pods.items():
            caller = pod["metadata"]["labels"]
            if policy["metadata"]["name"].endswith("-router") and caller["app.kubernetes.io/component"] == "test" and not admits(policy, 50051, caller):
                wrong.append(f"{name} may not call the routers")
    return wrong
