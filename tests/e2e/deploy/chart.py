"""Renders deploy/helm/phi-serve with the real helm and reads what comes out."""

import itertools
import json
import pathlib
import random
import subprocess

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy" / "helm" / "phi-serve"
TOOLS = ROOT / "build" / "tools"  # tools/setup.sh puts them there
HELMS = {"helm3": TOOLS / "helm3", "helm4": TOOLS / "helm4"}


def helm(*arguments: str, version: str = "helm4") -> subprocess.CompletedProcess:
    return subprocess.run([str(HELMS[version]), *arguments], capture_output=True, text=True, timeout=120, check=False)


def set_arguments(values: dict[str, object]) -> list[str]:
    return [part for key, value in values.items() for part in ("--set-json", f"{key}={json.dumps(value)}")]


def render_text(files: tuple[str, ...] = (), values: dict[str, object] | None = None, version: str = "helm4", release: str = "phi") -> str:
    arguments = ["template", release, str(CHART), "--namespace", "inference", "--kube-version", "1.34.0"]
    for file in files:
        arguments += ["--values", str(CHART / file)]
    rendered = helm(*arguments, *set_arguments(values or {}), version=version)
    assert rendered.returncode == 0, rendered.stderr
    return rendered.stdout


def documents(text: str) -> list[dict]:
    return [document for document in yaml.safe_load_all(text) if document]


def render(files: tuple[str, ...] = (), values: dict[str, object] | None = None, version: str = "helm4") -> list[dict]:
    return documents(render_text(files, values, version))


def find(objects: list[dict], kind: str, name: str | None = None) -> dict:
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def pod_specs(objects: list[dict]) -> dict[str, dict]:
    """Name to pod template: metadata and spec."""
    pods = {}
    for document in objects:
        if document["kind"] == "Deployment":
            pods[document["metadata"]["name"]] = document["spec"]["template"]
        elif document["kind"] == "Pod":
            pods[document["metadata"]["name"]] = document
    return pods


def all_pairs(toggles: dict[str, list], seed: int = 1) -> list[dict]:
    """Few combinations in which every two values of two toggles meet."""
    names = list(toggles)
    missing = {
        (a, i, b, j)
        for a, b in itertools.combinations(names, 2)
        for i in range(len(toggles[a]))
        for j in range(len(toggles[b]))
    }
    rng = random.Random(seed)
    rows = []

    def covered(row):
        return {(a, row[a], b, row[b]) for a, b in itertools.combinations(names, 2)}

    while missing:
        candidates = [{name: rng.randrange(len(toggles[name])) for name in names} for _ in range(200)]
        best = max(candidates, key=lambda row: len(covered(row) & missing))
        missing -= covered(best)
        rows.append({name: toggles[name][index] for name, index in best.items()})
    return rows
