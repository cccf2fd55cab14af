"""The modules of deploy/, which is no package."""

import importlib.util
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[3]


def load(name: str, path: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


# By folder, as dashboards.py itself finds the rules.
sys.path[:0] = [str(ROOT / "deploy" / folder) for folder in ("prometheus", "grafana")]
dashboards = importlib.import_module("dashboards")
rules = importlib.import_module("rules")
