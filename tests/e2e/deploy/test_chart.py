"""The Helm chart, rendered by helm 3 and helm 4 and checked by what Kubernetes, the operators and our own rules ask.

Golden renders are made anew by: PHI_UPDATE_GOLDEN=1 pytest tests/e2e/deploy/test_chart.py -k golden
"""

import copy
import hashlib
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

import chart
import chart_checks

HERE = pathlib.Path(__file__).resolve().parent
PROFILES = {
    "default": (),
    "gpu": ("values-gpu.yaml",),
    "full": ("ci/full-values.yaml",),
    "gpu-hpa": ("ci/gpu-hpa-values.yaml",),
}

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
    "policies": [
        {},
        {"networkPolicy.enabled": False, "router.podDisruptionBudget.enabled": False},
        {"networkPolicy.clients": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
    ],
    "monitors": [{}, {"metrics.podMonitor.enabled": True}, {"metrics.prometheusRule.enabled": True, "metrics.grafanaDashboards.enabled": True}],
    "accounts": [{}, {"router.serviceAccount.create": False, "worker.serviceAccount": {"create": True, "name": "mine"}}],
    "entrances": [
        {},
        {"service.type": "LoadBalancer"},
        {"ingress": {"enabled": True, "host": "h", "annotations": {"nginx.ingress.kubernetes.io/proxy-ssl-secret": "inference/own"}}},
        {"grpcRoute.enabled": True, "grpcRoute.parentRefs": [{"name": "g"}], "tls.mutual": False},
    ],
    "names": [{}, {"fullnameOverride": "x"}, {"nameOverride": "a-rather-long-name-that-is-cut-at-forty"}],
}
MATRIX = chart.all_pairs(TOGGLES)


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
    assert chart_checks.check_kubernetes(text, tmp_path, kubernetes) == []
    assert chart_checks.check_custom(chart.documents(text)) == []
    assert chart_checks.check_policies(chart.documents(text)) == []


@pytest.mark.parametrize("row", range(len(MATRIX)))
def test_every_two_toggles_together(row, tmp_path):
    values = {key: value for choice in MATRIX[row].values() for key, value in choice.items()}
    text = chart.render_text((), values)
    assert chart_checks.check_kubernetes(text, tmp_path, "1.37.0") == []
    assert chart_checks.check_custom(chart.documents(text)) == []
    assert chart_checks.check_policies(chart.documents(text)) == []


def test_the_checkers_refuse_broken_manifests(tmp_path):
    objects = chart.render(PROFILES["full"])
    router = "phi-phi-serve-router"

    def broken(change, whole=objects):
        copied = copy.deepcopy(whole)
        change(copied)
        return copied

    def container(of, name=router):
        return chart.find(of, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]

    def kubernetes(of):
        return chart_checks.check_kubernetes(yaml.safe_dump_all(of), tmp_path, "1.37.0")

    assert kubernetes(broken(lambda of: chart.find(of, "Deployment", router)["spec"].update(replicas="two")))
    assert kubernetes(broken(lambda of: container(of).update(livenessProb={})))
    assert chart_checks.check_custom(broken(lambda of: chart.find(of, "PodMonitor", router)["spec"]["podMetricsEndpoints"][0].update(intervall="5s")))
    assert chart_checks.check_policies(broken(lambda of: container(of).update(image="router:latest")))
    assert chart_checks.check_policies(broken(lambda of: container(of).update(command=["/usr/bin/phi-router"])))
    assert chart_checks.check_policies(broken(lambda of: container(of)["ports"][0].update(containerPort=1)))
    assert chart_checks.check_policies(broken(lambda of: chart.find(of, "Deployment", router)["spec"]["template"]["spec"].update(terminationGracePeriodSeconds=30)))
    assert chart_checks.check_policies(broken(lambda of: chart.find(of, "Deployment", router)["spec"]["template"]["spec"].update(volumes=[])))
    assert chart_checks.check_policies(broken(lambda of: chart.find(of, "Service", "phi-phi-serve")["spec"]["selector"].update(x="y")))
    assert chart_checks.check_policies(broken(lambda of: container(of)["securityContext"].update(readOnlyRootFilesystem=False)))
    assert chart_checks.check_policies(broken(lambda of: chart.find(of, "NetworkPolicy", router)["spec"]["ingress"][0]["from"].pop()))
    for kind in ({"hostPath": {"path": "/"}}, {"nfs": {"server": "s", "path": "/"}}):
        assert chart_checks.check_policies(broken(lambda of, kind=kind: chart.find(of, "Pod")["spec"]["volumes"].__setitem__(0, {"name": "tls", **kind})))
    gpu, worker = chart.render(PROFILES["gpu"]), "phi-phi-serve-worker"
    assert chart_checks.check_policies(broken(lambda of: container(of, worker).update(image="phi-serve/worker-cpu:1"), gpu))
    assert chart_checks.check_policies(broken(lambda of: container(of, worker)["securityContext"].update(readOnlyRootFilesystem=True), gpu))
    assert chart_checks.check_policies(broken(lambda of: of.append({"kind": "ClusterRole", "metadata": {"name": "r"}})))
    assert chart_checks.check_policies(broken(lambda of: of.remove(chart.find(of, "NetworkPolicy", router))))


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
        *peers, helm_test = policy({**entrance, "networkPolicy.clients": clients})["ingress"][0]["from"]
        assert peers == clients and helm_test["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"
        assert policy(entrance, "worker")["ingress"][0]["from"] == [{"podSelector": {"matchLabels": policy({})["podSelector"]["matchLabels"]}}]


def test_a_new_worker_is_looked_up_before_an_old_one_goes():
    """Longer than CoreDNS's 30 s of cache and the routers' own pause together."""
    text = (chart.ROOT / "service" / "router" / "replicas" / "name_watch.h").read_text(encoding="utf-8")
    pause = int(re.search(r" interval = absl::Seconds\((\d+)\)", text).group(1))
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


def run_init_containers(spec: dict, volumes: dict[str, pathlib.Path], image: dict[str, pathlib.Path]) -> list[tuple[int, str]]:
    """Their very commands in their order, up to one that fails, with the pod's volumes and folders of the image where this machine has them."""
    done = []
    for container in spec["initContainers"]:
        places = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]} | image
        here = [re.sub("|".join(places), lambda found: str(places[found.group()]), part) for part in [*container["command"], *container.get("args", [])]]
        folder = places.get(container.get("workingDir"), pathlib.Path("/"))
        ran = subprocess.run(here, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        done.append((ran.returncode, ran.stdout + ran.stderr))
        if ran.returncode != 0:
            break
    return done


def test_the_init_containers_copy_and_check_the_weights(tmp_path):
    """A file that is not the one of weights.sha256, or is missing, keeps the pod from starting, and the log names it."""
    content = {"phi-1/config.json": b"{}\n", "phi-1/model.safetensors": bytes(range(256)) * 64}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in content.items())
    objects = chart.render(PROFILES["full"], {"weights.sha256": sums})

    def start(component: str, name: str, files: dict[str, bytes]) -> list[tuple[int, str]]:
        folders = {of: tmp_path / component / name / of for of in ("models", "checksums", "image")}
        for folder in folders.values():
            folder.mkdir(parents=True)
        for path, data in files.items():
            (folders["image"] / path).parent.mkdir(exist_ok=True)
            (folders["image"] / path).write_bytes(data)
        spec = chart.find(objects, "Deployment", f"phi-phi-serve-{component}")["spec"]["template"]["spec"]
        [checksums] = [volume["configMap"]["name"] for volume in spec["volumes"] if volume["name"] == "checksums"]
        for key, text in chart.find(objects, "ConfigMap", checksums)["data"].items():
            (folders["checksums"] / key).write_text(text, encoding="utf-8")
        return run_init_containers(spec, folders, {"/weights": folders["image"]})

    for component in ("router", "worker"):
        assert start(component, "good", content) == [(0, ""), (0, "")]
        for path, data in content.items():
            tampered = bytes([data[0] ^ 1]) + data[1:]
            for name, files in {"tampered": {**content, path: tampered}, "missing": {of: content[of] for of in content if of != path}}.items():
                [copied, (code, said)] = start(component, f"{name}-{pathlib.Path(path).stem}", files)
                assert copied[0] == 0 and code != 0 and path in said, said


def test_every_container_says_what_a_quota_counts():
    given = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    pods = chart.pod_specs(chart.render(PROFILES["full"], {"router.resources": given, "worker.resources": given}))
    containers = [container for pod in pods.values() for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", [])]
    assert len(containers) == 7 and all(container["resources"] == given for container in containers)


def test_helm_test_runs_where_the_routers_do_and_sees_no_more_than_it_uses():
    tls = {"tls.enabled": True, "tls.routerSecret": "r", "tls.workerSecret": "w", "tokens.existingSecret": "t"}
    placed = {"router.nodeSelector": {"pool": "cpu"}, "router.tolerations": [{"key": "pool", "operator": "Exists"}]}

    def smoke(values: dict) -> dict:
        return chart.find(chart.render((), {**placed, **values}), "Pod")["spec"]

    assert smoke({})["nodeSelector"] == placed["router.nodeSelector"] and smoke({})["tolerations"] == placed["router.tolerations"]
    assert smoke(tls)["volumes"] == [{"name": "tls", "secret": {"secretName": "r", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}]
    assert smoke({**tls, "tls.mutual": True})["volumes"] == [{"name": "tls", "secret": {"secretName": "r"}}]
    asks = ["call generate" in smoke(values)["containers"][0]["args"][0] for values in ({}, tls, {**tls, "tokens.testSecret": "one"})]
    assert asks == [True, False, True]


def test_scaling_down_is_slow_and_a_lost_metric_changes_nothing():
    """KEDA takes its `fallback` where it has one, fewer replicas than there are included; `cooldownPeriod` is about none at all."""
    default = yaml.safe_load((chart.CHART / "values.yaml").read_text(encoding="utf-8"))
    behavior = {component: default[component]["autoscaling"]["behavior"] for component in ("router", "worker")}
    assert all(of["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}] for of in behavior.values())
    scaled = {"router.autoscaling.enabled": True, "router.resources.requests": {"cpu": 1}, "worker.autoscaling.mode": "hpa"}
    for component in ("router", "worker"):
        assert chart.find(chart.render((), scaled), "HorizontalPodAutoscaler", f"phi-phi-serve-{component}")["spec"]["behavior"] == behavior[component]
    keda = chart.find(chart.render(PROFILES["full"]), "ScaledObject")["spec"]
    assert keda["advanced"] == {"horizontalPodAutoscalerConfig": {"behavior": behavior["worker"]}}
    assert not {"fallback", "cooldownPeriod"} & set(keda) and keda["triggers"][0]["metadata"]["ignoreNullValues"] == "false"


def test_a_certificate_names_every_host_that_is_called():
    values = {
        "tls": {"enabled": True, "certManager": {"enabled": True, "issuerName": "i", "dnsNames": ["phi.example.org", "a.example.net"]}},
        "ingress": {"enabled": True, "host": "*.example.com"},
        "grpcRoute": {"enabled": True, "parentRefs": [{"name": "g"}], "hostnames": ["a.example.net", "b.example.net"]},
    }

    def names(component: str, changed: dict) -> list[str]:
        return chart.find(chart.render((), {**values, **changed}), "Certificate", f"phi-phi-serve-{component}")["spec"]["dnsNames"]

    own = [name for service in ("phi-phi-serve", "phi-phi-serve-headless") for name in (service, f"{service}.inference.svc")]
    assert names("router", {}) == [*own, "phi.example.org", "a.example.net", "*.example.com", "b.example.net"]
    assert names("router", {"ingress.enabled": False, "grpcRoute.enabled": False}) == [*own, "phi.example.org", "a.example.net"]
    assert names("worker", {}) == ["phi-phi-serve-worker", "phi-phi-serve-worker.inference.svc"]


def test_a_root_is_read_only_as_the_device_or_the_value_says():
    def read_only(values: dict) -> bool:
        spec = chart.find(chart.render((), values), "Deployment", "phi-phi-serve-worker")["spec"]["template"]["spec"]
        return spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"]

    key = "worker.containerSecurityContext.readOnlyRootFilesystem"
    assert [read_only({"worker.device": device}) for device in ("cpu", "cuda")] == [True, False]
    assert [read_only({"worker.device": device, key: said}) for device, said in (("cpu", False), ("cuda", True))] == [False, True]


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


def test_notes_say_how_to_call():
    """As the service is called: its port, and what TLS and tokens ask for; phictl's own address needs no flag."""
    assert 'address = "127.0.0.1:50051"' in (chart.ROOT / "tools" / "phictl" / "client.h").read_text(encoding="utf-8")
    flags = (chart.ROOT / "tools" / "phictl" / "client.cc").read_text(encoding="utf-8")
    said = notes({"service.port": 443})
    assert "port-forward service/phi-phi-serve 50051:443\n" in said and "phictl generate 'def" in said
    tls = {"tls.enabled": True, "tls.routerSecret": "mine", "tls.workerSecret": "w"}
    called = {}
    for name, values in {"tls": tls, "mutual": {**tls, "tls.mutual": True}, "tokens": {**tls, "tokens.existingSecret": "t"}}.items():
        said = notes(values)
        assert "get secret mine " in said and "127.0.0.1 phi-phi-serve" in said
        called[name] = re.findall(r" (--[a-z-]+)", re.search("phictl generate.*", said).group())
    assert called == {
        "tls": ["--address", "--tls-ca"],
        "mutual": ["--address", "--tls-ca", "--tls-cert", "--tls-key"],
        "tokens": ["--address", "--tls-ca", "--token-file"],
    }
    assert all(f'"{flag}"' in flags for used in called.values() for flag in used)


def test_notes_say_what_the_values_leave_to_the_reader():
    tls = {"tls.enabled": True, "tls.routerSecret": "r", "tls.workerSecret": "w"}
    route = {"grpcRoute.enabled": True, "grpcRoute.parentRefs": [{"name": "g"}]}
    assert ["BackendTLSPolicy" in notes(values) for values in (route, tls, {**tls, **route})] == [False, False, True]
    tokens = {**tls, "tokens.existingSecret": "t"}
    assert ["tokens.testSecret" in notes(values) for values in (tls, tokens, {**tokens, "tokens.testSecret": "one"})] == [False, True, False]
    assert ": 2 replica(s) of" in notes({}) and "behind 2 router(s)" in notes({})
    scaled = notes({"worker.autoscaling.mode": "hpa", "router.autoscaling.enabled": True, "router.resources.requests": {"cpu": 1}})
    assert ": 2 to 8 replica(s) of" in scaled and "behind 2 to 10 router(s)" in scaled
    few = {"worker.autoscaling": {"mode": "hpa", "minReplicas": 1}, "router.replicaCount": 1}
    assert re.findall(r"WARNING: one .*\((.*)\)", notes(few)) == ["router.replicaCount", "worker.autoscaling.minReplicas"]


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
