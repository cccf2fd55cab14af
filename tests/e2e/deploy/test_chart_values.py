"""The chart's values: each does something, wrong ones are refused, the schema knows them all, and the README lists them."""

import copy
import json

import jsonschema
import pytest
import yaml

import chart
import chart_checks
import sources

EVERYTHING = ("ci/full-values.yaml",)
MUTUAL_TLS = {"tls.enabled": True, "tls.mutual": True, "tls.routerSecret": "r", "tls.workerSecret": "w"}
# What must be refused: values, and what the message has to name.
REFUSED = [
    ({"router.replicas": 3}, "replicas"),
    ({"worker.image.tag": "latest"}, "tag"),
    ({"worker.tensorParallel": 0}, "tensorParallel"),
    ({"worker.device": "tpu"}, "device"),
    ({"worker.dtype": "int8"}, "dtype"),
    ({"worker.dtype": "float16"}, "worker.dtype"),
    ({"worker.autoscaling.mode": "both"}, "mode"),
    ({"worker.autoscaling.mode": "keda"}, "worker.autoscaling.keda.prometheusAddress"),
    ({"model.source": "download"}, "source"),
    ({"model.source": "existingClaim"}, "weights.existingClaim"),
    ({"model.source": "hostPath"}, "weights.hostPath"),
    ({"model.source": "initContainer"}, "weights.initContainer.image"),
    ({"weights.sha256": "not a checksum"}, "sha256"),
    ({"weights.sha256": "0" * 64 + "  phi-1/config.json"}, "weights.sha256"),
    ({"tls.enabled": True}, "tls.routerSecret"),
    ({"tls.enabled": True, "tls.routerSecret": "r"}, "tls.workerSecret"),
    ({"tls.mutual": True}, "tls.mutual"),
    ({"tls.enabled": True, "tls.certManager.enabled": True}, "tls.certManager.issuerName"),
    ({"tokens.existingSecret": "t"}, "tokens.existingSecret"),
    ({"router.podDisruptionBudget.minAvailable": 1}, "minAvailable"),
    ({"router.podDisruptionBudget.maxUnavailable": 0}, "maxUnavailable"),
    ({"worker.strategy": {"maxSurge": 0, "maxUnavailable": 0}}, "worker.strategy"),
    ({"worker.maxSequences": 300, "worker.maxStepTokens": 256}, "worker.maxStepTokens"),
    ({"service.type": "ExternalName"}, "type"),
    ({"service.port": 0}, "port"),
    ({"ingress.enabled": True}, "ingress.host"),
    ({"grpcRoute.enabled": True}, "grpcRoute.parentRefs"),
    ({"metrics.podMonitor.interval": "often"}, "interval"),
    ({"metrics.prometheusRule.runbookBase": "here: there"}, "runbookBase"),
    ({"router.extraArgs": ["reflection"]}, "extraArgs"),
    ({"router.image.digest": "sha256:12"}, "digest"),
    ({"router.drainTimeoutSeconds": "45s"}, "drainTimeoutSeconds"),
    ({"router.strategy": {"maxSurge": "0%", "maxUnavailable": 0}}, "router.strategy"),
    ({"router.autoscaling": {"enabled": True, "minReplicas": 11}}, "router.autoscaling.minReplicas"),
    ({"worker.autoscaling": {"mode": "hpa", "minReplicas": 9}}, "worker.autoscaling.minReplicas"),
    ({"router.autoscaling.enabled": True}, "router.resources.requests.cpu"),
    ({"tls.certManager": {"enabled": True, "issuerName": "i"}}, "tls.certManager.enabled"),
    ({"tokens.testSecret": "t"}, "tokens.testSecret"),
    ({"router.podLabels": {"app.kubernetes.io/component": "worker"}}, "router.podLabels"),
    ({"worker.podLabels": {"app.kubernetes.io/instance": "x"}}, "worker.podLabels"),
    ({"commonLabels": {"app.kubernetes.io/name": "x"}}, "commonLabels"),
    ({"model.source": "initContainer", "weights.initContainer.image": "registry.example:5000/weights"}, "image"),
    ({"model.source": "initContainer", "weights.initContainer.image": "weights:latest"}, "image"),
    ({"weights.initContainer.pullPolicy": "Sometimes"}, "pullPolicy"),
    ({**MUTUAL_TLS, "ingress.enabled": True, "ingress.host": "h"}, "ingress.annotations"),
    ({"worker.minReadySeconds": 1200}, "worker.minReadySeconds"),
    ({"worker.startupProbe.failureThreshold": 121}, "worker.progressDeadlineSeconds"),
    ({"worker.startupProbe": {"failureThreshold": 120, "initialDelaySeconds": 1}}, "worker.progressDeadlineSeconds"),
    ({"router.startupProbe.successThreshold": 2}, "successThreshold"),
    ({"worker.livenessProbe.successThreshold": 2}, "successThreshold"),
    ({"fullnameOverride": "Foo_Bar"}, "fullnameOverride"),
    ({"nameOverride": "foo."}, "nameOverride"),
    ({"router.image.tag": "a b"}, "tag"),
    ({"router.image.repository": "x:latest"}, "repository"),
    ({"worker.image.repository": "registry.example:5000/x:1"}, "repository"),
    ({"worker.image.repository": "registry.example/phi-serve/worker-cpu", "worker.device": "cuda"}, "worker.image.repository"),
    ({"router.resources.request": {"cpu": 1}}, "request"),
    ({"worker.resources.requests": {"cpu": {"at": "least"}}}, "cpu"),
    ({"ingress.host": "bad_host"}, "host"),
    ({"grpcRoute.hostnames": ["bad_host"]}, "hostnames"),
    ({"tls.certManager.dnsNames": ["bad host"]}, "dnsNames"),
    ({**MUTUAL_TLS, "grpcRoute.enabled": True, "grpcRoute.parentRefs": [{"name": "g"}]}, "grpcRoute.enabled"),
    ({"worker.autoscaling.keda.cooldownPeriod": 300}, "cooldownPeriod"),
    ({"worker.autoscaling.keda.prometheusAddress": "prometheus:9090"}, "prometheusAddress"),
    ({"worker.autoscaling.behavior.scaledown": {}}, "scaledown"),
]
# Something else that the schema takes, where a value is not a flag, a number or a free text. Lists and maps get one entry more.
CHANGED = {
    "extraObjects": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "another"}},
    "imagePullSecrets": {"name": "another"},
    "metrics.prometheusRule.extraGroups": {"name": "another", "rules": []},
    "metrics.prometheusRule.runbookBase": "https://another.example",
    "model.source": "hostPath",
    "weights.initContainer.image": "weights:2",
    "weights.initContainer.pullPolicy": "Always",
    "weights.initContainer.sizeLimit": "1Gi",
    "weights.sha256": "1" * 64 + "  phi-1/config.json",
    "router.logLevel": "debug",
    "worker.logLevel": "debug",
    "worker.device": "cuda",
    "worker.dtype": "float32",
    "worker.shmSizeLimit": "2Gi",
    "worker.autoscaling.mode": "hpa",
    "service.type": "LoadBalancer",
    **{f"{component}.resources": {"limits": {"memory": "9Gi"}} for component in ("router", "worker")},
    "worker.autoscaling.keda.prometheusAddress": "http://another:9090",
    "tls.certManager.issuerKind": "ClusterIssuer",
    "tls.certManager.dnsNames": "another",
    "metrics.podMonitor.interval": "20s",
    "metrics.podMonitor.scrapeTimeout": "5s",
    **{f"{component}.image.pullPolicy": "Always" for component in ("router", "worker")},
    **{f"{component}.image.digest": "sha256:" + "1" * 64 for component in ("router", "worker")},
    **{f"{component}.{part}": "50%" for component in ("router", "worker") for part in ("strategy.maxSurge", "strategy.maxUnavailable")},
    "weights.initContainer.command": "more",
    "weights.initContainer.args": "more",
    "router.extraArgs": "--more",
    "worker.extraArgs": "--more",
    "grpcRoute.hostnames": "another",
}
# What has to be so besides, for a value to matter.
WHERE = {
    "weights.existingClaim": {"model.source": "existingClaim", "weights.existingClaim": "one"},
    "weights.hostPath": {"model.source": "hostPath", "weights.hostPath": "/one"},
    "model.source": {"weights.hostPath": "/srv"},
    "router.replicaCount": {"router.autoscaling.enabled": False},
    "worker.replicaCount": {"worker.autoscaling.mode": "none"},
    "worker.gpuResourceName": {"worker.device": "cuda"},
    "worker.shmSizeLimit": {"worker.device": "cuda"},
    "service.type": {"networkPolicy.enabled": False},
    "grpcRoute.enabled": {"tls.mutual": False, "grpcRoute.parentRefs": [{"name": "g"}]},
    **{f"grpcRoute.{key}": {"tls.mutual": False, "grpcRoute.enabled": True, "grpcRoute.parentRefs": [{"name": "g"}]} for key in ("parentRefs", "hostnames")},
}
# Texts that YAML takes for something else where they are not quoted, and one of their kind that it does not.
AWKWARD = {
    "123": "qqq",
    "true": "qqq",
    "*.example.com": "qqq.example.com",
    "/a: b # c": "/qqq",
    "http://a/ #b": "http://qqq",
    "a: b # c": "qqq",
}


def leaves(node, path=()):
    """(dotted path, default) of values.yaml; a map that users fill with keys of their own is one leaf."""
    own_keys = ("podSecurityContext", "containerSecurityContext", "labels", "annotations")
    if isinstance(node, dict) and node and path[-1:] not in [(key,) for key in own_keys]:
        for key, value in node.items():
            yield from leaves(value, path + (key,))
    else:
        yield ".".join(path), node


def something_else(path: str, value):
    if isinstance(value, list):
        return [CHANGED.get(path, {"another": "x"})]
    if path in CHANGED:
        return CHANGED[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return {"another": "x"} if isinstance(value, dict) else f"{'/' if path.endswith('hostPath') else ''}another"


def test_every_value_has_a_use():
    """A change of any one value of values.yaml changes what is rendered where everything is on, or is refused by a template that read it."""
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text(encoding="utf-8"))
    everything = yaml.safe_load((chart.CHART / EVERYTHING[0]).read_text(encoding="utf-8"))

    def effective(path):
        node, given = values, everything
        for key in path.split("."):
            node, given = node[key], (given or {}).get(key)
        return node if given is None else given

    file = str(chart.CHART / EVERYTHING[0])
    unused = []
    for path, _ in leaves(values):
        where = WHERE.get(path, {})
        changed = {**where, path: something_else(path, effective(path))}
        rendered = chart.helm("template", "phi", str(chart.CHART), "--namespace", "inference", "--kube-version", "1.34.0", "--values", file, *chart.set_arguments(changed))
        assert rendered.returncode == 0 or "execution error at" in rendered.stderr, f"{path}: {rendered.stderr}"
        if rendered.stdout == chart.render_text(EVERYTHING, where):
            unused.append(path)
    assert unused == []


@pytest.mark.parametrize("version", chart.HELMS)
def test_wrong_values_are_refused_by_name(version):
    for values, named in REFUSED:
        rendered = chart.helm("template", "phi", str(chart.CHART), *chart.set_arguments(values), version=version)
        assert rendered.returncode != 0, f"{values} was accepted"
        assert named in rendered.stderr, f"{values}: {rendered.stderr}"


def with_value(values: dict, path: str, value) -> dict:
    changed = copy.deepcopy(values)
    *folders, last = path.split(".")
    here = changed
    for key in folders:
        here = here[key]
    here[last] = value
    return changed


def replaced(node, old: str, new: str):
    """A part of a document with another text in its texts and keys."""
    if isinstance(node, dict):
        return {replaced(key, old, new): replaced(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [replaced(value, old, new) for value in node]
    return node.replace(old, new) if isinstance(node, str) else node


@pytest.mark.parametrize("text", AWKWARD)
def test_a_text_stays_a_text(text, tmp_path):
    """Wherever the schema takes the text, all at once, it is rendered as any other one is."""
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = jsonschema.Draft7Validator(json.loads((chart.CHART / "values.schema.json").read_text(encoding="utf-8")))
    texts = [path for path, default in leaves(values) if isinstance(default, str)]
    used = (text, AWKWARD[text])
    given = [path for path in texts if path != "fullnameOverride" and all(schema.is_valid(with_value(values, path, one)) for one in used)]
    assert given
    needed = {"weights.existingClaim": "c", "weights.hostPath": "/w", "tls.routerSecret": "r", "tls.workerSecret": "w", "fullnameOverride": "true"}
    for where in (
        {},
        {"model.source": "existingClaim", "worker.device": "cuda", "tls.certManager.enabled": False},
        {"model.source": "hostPath", "tls.mutual": False, "grpcRoute": {"enabled": True, "parentRefs": [{"name": "g"}]}},
    ):
        awkward, harmless = (chart.render_text(EVERYTHING, {**needed, **dict.fromkeys(given, one), **where}, release="123") for one in used)
        assert chart_checks.check_kubernetes(awkward, tmp_path, "1.37.0") == []
        assert chart_checks.check_custom(chart.documents(awkward)) == []
        assert chart.documents(awkward) == replaced(chart.documents(harmless), AWKWARD[text], text)
        assert all(isinstance(document["metadata"]["name"], str) for document in chart.documents(awkward))


def test_a_release_that_no_service_can_be_called_after_is_refused():
    for release in ("123", "my.release"):
        rendered = chart.helm("template", release, str(chart.CHART))
        assert rendered.returncode != 0 and "fullnameOverride" in rendered.stderr
        assert chart.render_text((), {"fullnameOverride": "phi"}, release=release)


def test_the_schema_knows_every_key():
    """At no level of ours is a key taken that nothing reads."""

    def open_levels(node, path):
        if isinstance(node, dict):
            if "properties" in node and node.get("additionalProperties") is not False:
                yield path
            for key, value in node.items():
                yield from open_levels(value, f"{path}/{key}")

    assert list(open_levels(json.loads((chart.CHART / "values.schema.json").read_text(encoding="utf-8")), "")) == []


def test_the_readme_has_the_table_of_values():
    source = sources.load("values_table", "deploy/helm/values_table.py")
    text = source.README.read_text(encoding="utf-8")
    assert text == source.with_table(text)
