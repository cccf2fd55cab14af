"""promtool over expressions and over what the rules make of given series."""

import subprocess

import yaml

from sources import rules


def promtool(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=300, check=False)


def parse(tmp_path, expressions: list[str]) -> None:
    """As recording rules, which is how promtool takes an expression."""
    recorded = [{"record": f"parsed:{number}", "expr": expr} for number, expr in enumerate(expressions)]
    file = tmp_path / "parsed.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "parsed", "rules": recorded}]}), encoding="utf-8")
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def run_case(tmp_path, seconds: int, series: list[tuple[str, str]], expected: dict) -> None:
    """Samples and evaluations each `seconds`; `expected` is what promtool compares."""
    case = {"interval": f"{seconds}s", "input_series": [{"series": name, "values": values} for name, values in series], **expected}
    file = tmp_path / "case.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rules.OUTPUT)], "evaluation_interval": f"{seconds}s", "tests": [case]}), encoding="utf-8")
    tested = promtool("test", "rules", str(file))
    assert tested.returncode == 0, tested.stdout + tested.stderr
