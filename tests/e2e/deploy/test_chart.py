"""The Helm chart, rendered by helm 3 and helm 4 and checked by what Kubernetes, the operators and our own rules ask.

Golden renders are made anew by: PHI_UPDATE_GOLDEN=1 pytest tests/e2e/deploy/test_chart.py -k golden
"""

import copy
import json
import os
import pathlib
import re
import shutil
import subprocess

import jsonschema
import pytest
import yaml

import chart

HERE = pathlib.Path(__file__).resolve().parent
PROFILES = {
    "default": (),
    "gpu": ("values-gpu.yaml",),
    "full": ("ci/full-values.yaml",),
    "gpu-hpa": ("ci/gpu-hpa-values.yaml",),
}
CUSTOM = json.loads((HERE / "schemas" / "custom_resources.json").read_text(encoding="utf-8"))

# Every two values of two of these meet in one render.
TOGGLES = {
    "model": [
        {},
        {"model.source": "existingClaim", "weights.existingClaim": "phi-1"},
        {"model.source": "hostPath", "weights.hostPath": "/srv/models", "weights.sha256": "0" * 64 + "  phi-1/config.json\n"},
        {"model.source": "initContainer", "weights.initContainer.image": "weights:1"},
    ],
    "tls": [
        {},
        {"tls.enabled": True, "tls.routerSecret": "r", "tls.workerSecret": "w"},
        {"tls.enabled": True, "tls.mutual": True, "tls.certManager": {"enabled": True, "issuerName": "i"}, "tokens.existingSecret": "t"},
    ],
    "device": [{}, {"worker.device": "cuda", "worker.tensorParallel": 3}],
    "worker_scaling": [
        {},
        {"worker.autoscaling.mode": "hpa"},
        {"worker.autoscaling.mode": "keda", "worker.autoscaling.keda.prometheusAddress": "http://p:9090"},
    ],
    "router_scaling": [{}, {"router.autoscaling.enabled": True, "router.resources": {"requests": {"cpu": 1}}}],
    "policies": [{}, {"networkPolicy.enabled": False, "router.podDisruptionBudget.enabled": False}],
    "monitors": [{}, {"metrics.podMonitor.enabled": True}, {"metrics.prometheusRule.enabled": True, "metrics.grafanaDashboards.enabled": True}],
    "accounts": [{}, {"router.serviceAccount.create": False, "worker.serviceAccount": {"create": True, "name": "mine"}}],
    "entrances": [
        {},
        {"service.type": "LoadBalancer"},
        {"ingress": {"enabled": True, "host": "h", "annotations": {"nginx.ingress.kubernetes.io/proxy-ssl-secret": "inference/own"}}},
        {"grpcRoute.enabled": True, "grpcRoute.parentRefs": [{"name": "g"}]},
    ],
    "names": [{}, {"fullnameOverride": "x"}, {"nameOverride": "a-rather-long-name-that-is-cut-at-forty"}],
}
MATRIX = chart.all_pairs(TOGGLES)


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


def check_pod(name: str, pod: dict) -> list[str]:
    spec, wrong = pod["spec"], []
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    mounted = set()
    if spec.get("automountServiceAccountToken") is not False:
        wrong.append(f"{name}: mounts a service account's token")
    if not spec["securityContext"].get("runAsNonRoot") or spec["securityContext"]["seccompProfile"] != {"type": "RuntimeDefault"}:
        wrong.append(f"{name}: not the restricted pod security standard")
    for container in spec["containers"] + spec.get("initContainers", []):
        where = f"{name}/{container['name']}"
        security = container["securityContext"]
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
    return wrong


@pytest.mark.parametrize("version", chart.HELMS)
@pytest.mark.parametrize("profile", PROFILES)
def test_lint(profile, version):
    files = [part for file in PROFILES[profile] for part in ("--values", str(chart.CHART / file))]
    linted = chart.helm("lint", "--strict", str(chart.CHART), *files, version=version)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize("profile", PROFILES)
def test_helm_3_and_helm_4_render_the_same(profile):
    assert chart.render(PROFILES[profile], version="helm3") == chart.render(PROFILES[profile], version="helm4")


@pytest.mark.parametrize("profile", PROFILES)
def test_golden(profile):
    golden = HERE / "golden" / f"{profile}.yaml"
    objects = [document for document in chart.render(PROFILES[profile]) if document["kind"] != "PrometheusRule" and "dashboard" not in document["metadata"]["name"]]
    text = yaml.safe_dump_all(objects, sort_keys=True, width=150)
    if os.environ.get("PHI_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8"), "if that is meant, make the golden renders anew (see this file's head)"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kubernetes", ["1.30.0", "1.37.0"])
def test_profile_is_valid(profile, kubernetes, tmp_path):
    text = chart.render_text(PROFILES[profile])
    assert check_kubernetes(text, tmp_path, kubernetes) == []
    assert check_custom(chart.documents(text)) == []
    assert check_policies(chart.documents(text)) == []


@pytest.mark.parametrize("row", range(len(MATRIX)))
def test_every_two_toggles_together(row, tmp_path):
    values = {key: value for choice in MATRIX[row].values() for key, value in choice.items()}
    text = chart.render_text((), values)
    assert check_kubernetes(text, tmp_path, "1.37.0") == []
    assert check_custom(chart.documents(text)) == []
    assert check_policies(chart.documents(text)) == []


def test_the_checkers_refuse_broken_manifests(tmp_path):
    objects = chart.render(PROFILES["full"])
    router = "phi-phi-serve-router"

    def broken(change):
        copied = copy.deepcopy(objects)
        change(copied)
        return copied

    def container(of):
        return chart.find(of, "Deployment", router)["spec"]["template"]["spec"]["containers"][0]

    def kubernetes(of):
        return check_kubernetes(yaml.safe_dump_all(of), tmp_path, "1.37.0")

    assert kubernetes(broken(lambda of: chart.find(of, "Deployment", router)["spec"].update(replicas="two")))
    assert kubernetes(broken(lambda of: container(of).update(livenessProb={})))
    assert check_custom(broken(lambda of: chart.find(of, "PodMonitor", router)["spec"]["podMetricsEndpoints"][0].update(intervall="5s")))
    assert check_policies(broken(lambda of: container(of).update(image="router:latest")))
    assert check_policies(broken(lambda of: container(of).update(command=["/usr/bin/phi-router"])))
    assert check_policies(broken(lambda of: container(of)["ports"][0].update(containerPort=1)))
    assert check_policies(broken(lambda of: chart.find(of, "Deployment", router)["spec"]["template"]["spec"].update(terminationGracePeriodSeconds=30)))
    assert check_policies(broken(lambda of: chart.find(of, "Deployment", router)["spec"]["template"]["spec"].update(volumes=[])))
    assert check_policies(broken(lambda of: chart.find(of, "Service", "phi-phi-serve")["spec"]["selector"].update(x="y")))
    assert check_policies(broken(lambda of: of.append({"kind": "ClusterRole", "metadata": {"name": "r"}})))
    assert check_policies(broken(lambda of: of.remove(chart.find(of, "NetworkPolicy", router))))


def flags_of(program: str) -> set[str]:
    """Of docs/api.md, which a test compares with the programs' own tables."""
    text = (chart.ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    [table] = re.findall(rf"<!-- begin: {program}-flags -->(.*?)<!-- end", text, re.DOTALL)
    return set(re.findall(r"^\| `--([a-z_]+)`", table, re.MULTILINE))


@pytest.mark.parametrize("program", ["router", "worker"])
def test_every_flag_is_one_of_the_program(program):
    for profile in PROFILES.values():
        spec = chart.find(chart.render(profile), "Deployment", f"phi-phi-serve-{program}")["spec"]["template"]["spec"]
        assert {argument[2:].split("=", 1)[0] for argument in spec["containers"][0]["args"]} <= flags_of(program)


def test_the_rules_are_those_that_promtool_tested():
    rule = chart.find(chart.render(PROFILES["full"]), "PrometheusRule")
    [extra] = yaml.safe_load((chart.CHART / PROFILES["full"][0]).read_text(encoding="utf-8"))["metrics"]["prometheusRule"]["extraGroups"]
    tested = yaml.safe_load((chart.CHART / "files" / "rules.yaml").read_text(encoding="utf-8"))
    assert rule["spec"] == {"groups": [*tested["groups"], extra]}


def policy(values: dict, component: str = "router") -> dict:
    return chart.find(chart.render((), values), "NetworkPolicy", f"phi-phi-serve-{component}")["spec"]


def test_dns_may_be_asked_wherever_a_cluster_has_it():
    """NodeLocal DNSCache has an address of the node, OpenShift's DNS pods another port: no selector, both ports."""
    wanted = [{"protocol": protocol, "port": port} for port in (53, 5353) for protocol in ("UDP", "TCP")]
    assert policy({})["egress"][0] == policy({}, "worker")["egress"][0] == {"ports": wanted}


def test_callers_from_outside_get_through_the_network_policy():
    entrances = [
        {"service.type": "LoadBalancer"},
        {"service.type": "NodePort"},
        {"ingress.enabled": True, "ingress.host": "h"},
        {"grpcRoute.enabled": True, "grpcRoute.parentRefs": [{"name": "g"}]},
    ]
    grpc_port = {"protocol": "TCP", "port": 50051}
    assert policy({})["ingress"][0] == {"from": [{"namespaceSelector": {}}], "ports": [grpc_port]}
    clients = [{"ipBlock": {"cidr": "192.0.2.0/24"}}]
    for entrance in entrances:
        assert policy(entrance)["ingress"][0] == {"ports": [grpc_port]}
        assert policy({**entrance, "networkPolicy.clients": clients})["ingress"][0] == {"from": clients, "ports": [grpc_port]}
        assert policy(entrance, "worker")["ingress"][0]["from"] == [{"podSelector": {"matchLabels": policy({})["podSelector"]["matchLabels"]}}]


def test_a_new_worker_is_looked_up_before_an_old_one_goes():
    """Longer than CoreDNS's 30 s of cache and the routers' own pause together."""
    text = (chart.ROOT / "service" / "router" / "replicas" / "replica_pool.h").read_text(encoding="utf-8")
    pause = int(re.search(r"resolve_interval = absl::Seconds\((\d+)\)", text).group(1))
    spec = {name: chart.find(chart.render(), "Deployment", f"phi-phi-serve-{name}")["spec"] for name in ("router", "worker")}
    assert spec["worker"]["minReadySeconds"] > 30 + pause and spec["router"]["minReadySeconds"] > 0


def test_other_checksums_roll_the_pods():
    def annotations(digit):
        values = {"model.source": "hostPath", "weights.hostPath": "/srv", "weights.sha256": digit * 64 + "  phi-1/config.json"}
        return [pod["metadata"].get("annotations") for pod in chart.pod_specs(chart.render((), values)).values() if "spec" in pod][:2]

    before, after = annotations("0"), annotations("1")
    assert all(one and two and one != two for one, two in zip(before, after)) and before == annotations("0")


def test_the_init_container_takes_its_secrets():
    values = {
        "model.source": "initContainer",
        "weights.initContainer": {"image": "registry.example:5000/w@sha256:" + "0" * 64, "pullPolicy": "Always", "env": [{"name": "A", "value": "b"}]},
    }
    spec = chart.find(chart.render((), values), "Deployment", "phi-phi-serve-worker")["spec"]["template"]["spec"]
    [copies] = spec["initContainers"]
    assert copies["imagePullPolicy"] == "Always" and copies["env"] == [{"name": "A", "value": "b"}]


def notes(values: dict) -> str:
    shown = chart.helm("install", "phi", str(chart.CHART), "--dry-run=client", *chart.set_arguments(values))
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.partition("\nNOTES:\n")[2]


def test_notes_say_how_images_get_there_and_what_may_be_missing():
    said = notes({})
    assert "tools/images.sh kind CLUSTER router worker-cpu" in said
    assert "--set router.image.repository=REGISTRY/phi-serve/router --set worker.image.repository=REGISTRY/phi-serve/worker-cpu" in said
    assert "tools/images.sh push REGISTRY router worker-cuda" in notes({"worker.device": "cuda"})
    copied = {"model.source": "initContainer", "weights.initContainer.image": "weights:1"}
    egress = {"networkPolicy.extraEgress": [{"ports": [{"port": 443}]}]}
    assert ["extraEgress" in notes(values) for values in ({}, copied, {**copied, **egress})] == [False, True, False]


def test_it_can_be_a_part_of_another_chart(tmp_path):
    """helm then adds `global` to its values."""
    whole = tmp_path / "whole"
    shutil.copytree(chart.CHART, whole / "charts" / "phi-serve")
    (whole / "Chart.yaml").write_text("apiVersion: v2\nname: whole\nversion: 1.0.0\n", encoding="utf-8")
    for version in chart.HELMS:
        rendered = chart.helm("template", "phi", str(whole), "--kube-version", "1.34.0", "--set", "global.region=x", version=version)
        assert rendered.returncode == 0, rendered.stderr


def test_the_runbooks_are_found_where_the_operator_says():
    values = {"metrics.prometheusRule": {"enabled": True, "runbookBase": "https://git.example/phi/"}}
    rule = chart.find(chart.render(values=values), "PrometheusRule")
    alerts = [rule for group in rule["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    assert alerts and all(
        alert["annotations"]["runbook_url"] == f"https://git.example/phi/docs/runbooks/{alert['alert']}.md" for alert in alerts
    )


def test_gpus_of_a_worker_are_its_ranks():
    spec = chart.find(chart.render(PROFILES["gpu-hpa"]), "Deployment", "phi-phi-serve-worker")["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 2, "memory": "16Gi"}
    assert {"name": "NCCL_SOCKET_IFNAME", "value": "lo"} in spec["containers"][0]["env"]


def test_the_package_installs_the_same(tmp_path):
    packed = chart.helm("package", str(chart.CHART), "--destination", str(tmp_path))
    assert packed.returncode == 0, packed.stderr
    [package] = tmp_path.glob("*.tgz")
    assert chart.documents(chart.helm("template", "phi", str(package), "--namespace", "inference", "--kube-version", "1.34.0").stdout) == chart.render()
