"""tools/capacity: its memory is the worker's, its speeds say that they are modelled and follow from bytes; and docs/operations.md agrees
with it, with the exit codes, the alerts and the chart.
"""

import json
import re
import subprocess

import phi_programs
import pytest
import sources
import yaml

ROOT = phi_programs.ROOT
GUIDE = ROOT / "docs" / "operations.md"
CAPACITY = phi_programs.BIN / "capacity"


def capacity(*flags):
    done = subprocess.run([str(CAPACITY), *map(str, flags)], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def rows(*flags):
    """The table, by its column titles."""
    code, out, err = capacity(*flags)
    assert code == 0, err
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line.startswith("|")]
    return [dict(zip(table[0], map(float, row))) for row in table[2:]]


def test_memory_is_what_a_worker_plans(started):
    """One GPU's plan beside the worker's own for CPUs: layouts pad differently, by little."""
    worker = started(phi_programs.Worker(phi_programs.NANO, 2, "--max_sequences=8", "--max_step_tokens=128", dtype="bfloat16"))
    worker.wait_ready()
    [row] = rows("--model", phi_programs.NANO, "--tensor_parallel", 2, "--max_sequences", 8, "--max_step_tokens", 128)
    tokens = 16 * sum(worker.metric(f'phi_kv_blocks{{state="{state}"}}') for state in ("free", "cached", "owned"))
    assert row["KV tokens"] == tokens == 8 * json.loads((phi_programs.NANO / "config.json").read_text())["max_position_embeddings"]
    for column, kind in (("weights a GPU, GB", "weights"), ("KV cache a GPU, GB", "kv_cache")):
        planned = worker.metric(f'phi_device_memory_bytes{{rank="0",kind="{kind}"}}')
        assert row[column] * 1e9 == pytest.approx(planned, rel=0.05, abs=5e6)


def test_phi_1_by_hand():
    """1,418,270,720 parameters of two bytes (and a few in four); 24 layers x 2 x 2048 x 2 bytes a token; 2.6 GB read a token on one GPU."""
    one, two, four = rows("--device", "h100", "--tensor_parallel", "1,2,4")
    assert one["weights a GPU, GB"] == pytest.approx(2.84, abs=0.01)
    assert one["KV cache a GPU, GB"] * 1e9 / one["KV tokens"] == pytest.approx(196608, rel=0.001)
    assert two["KV cache a GPU, GB"] == pytest.approx(one["KV cache a GPU, GB"] / 2, abs=0.01)
    read = (1418270720 - 51200 * 2048) * 2 + 576 * 196608
    launches = (3 * 24 + 2) * 1.3e-6
    assert one["one stream, ms a token"] / 1e3 == pytest.approx(read / (0.85 * 3.35e12) + launches, abs=1e-5)
    assert one["one stream, ms a token"] > two["one stream, ms a token"] > four["one stream, ms a token"] > one["one stream, ms a token"] / 4
    assert one["tokens/s"] < two["tokens/s"] < 2 * one["tokens/s"], "two replicas of one GPU give more than one of two"


def test_less_memory_holds_fewer_tokens():
    plenty, little = rows("--tensor_parallel", 1)[0], rows("--tensor_parallel", 1, "--memory_gb", 8)[0]
    assert little["KV tokens"] < plenty["KV tokens"] and little["batch"] < plenty["batch"]


@pytest.mark.parametrize(
    "flags, code, says",
    [
        (("--memory_gb", 3), 71, "MiB are free"),
        (("--tensor_parallel", 33), 65, "1 to 32"),
        (("--device", "abacus"), 64, "abacus"),
        (("--preset", "gpt"), 65, "gpt"),
        (("--model", "/nowhere"), 65, "/nowhere"),
    ],
)
def test_refusals(flags, code, says):
    found, _, err = capacity(*flags)
    assert found == code and says in err


def test_every_speed_is_labelled():
    assert "MODELLED, not measured" in capacity()[1]


def test_the_guide_shows_what_the_tool_says():
    """Where this fails: paste the tool's table between the marks."""
    text = GUIDE.read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- begin: capacity (.*?) -->\n(.*?)<!-- end: capacity -->", text, re.S)
    assert len(blocks) == 2
    for flags, shown in blocks:
        table = "".join(f"{line}\n" for line in capacity(*flags.split())[1].splitlines() if line.startswith("|"))
        assert shown == table, f"{flags}:\n{table}"
    profile = yaml.safe_load((ROOT / "deploy/helm/phi-serve/values-gpu.yaml").read_text(encoding="utf-8"))["worker"]
    assert f"--max_sequences={profile['maxSequences']} --max_step_tokens={profile['maxStepTokens']}" in capacity()[1], "as values-gpu.yaml"


def section(text, title):
    return re.search(rf"^#+ {title}$(.*?)(?=^#+ |\Z)", text, re.M | re.S).group(1)


def test_the_guide_has_every_exit_code_and_alert():
    guide = GUIDE.read_text(encoding="utf-8")
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    codes = re.search(r"<!-- begin: exit-codes -->(.*?)<!-- end", api, re.S).group(1)
    assert set(re.findall(r"^\| (\d+) ", codes, re.M)) | {"137"} == set(re.findall(r"^\| (\d+) ", section(guide, "By exit code"), re.M))
    alerts = {alert.name: alert.severity for alert in sources.rules.alerts(sources.rules.Times(1.0))}
    found = re.findall(r"^\| \[(\w+)\]\(runbooks/(\w+)\.md\) \| (\w+) \|", section(guide, "By alert"), re.M)
    assert {name: severity for name, _, severity in found} == alerts and all(name == page for name, page, _ in found)


def test_the_guide_names_what_exists():
    guide = GUIDE.read_text(encoding="utf-8")
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    help_text = "".join(capacity("--help")[1:])
    for flag in set(re.findall(r"--[a-z]+_[a-z_]+", guide)):
        assert f"`{flag}`" in api or flag in help_text, flag
    for name in set(re.findall(r"\bphi_[a-z_]+", guide)):
        assert f"`{name}`" in api, name
    for link in set(re.findall(r"\]\(([^)#]+)\)", guide)):
        assert (GUIDE.parent / link).exists(), link
    values = yaml.safe_load((ROOT / "deploy/helm/phi-serve/values.yaml").read_text(encoding="utf-8"))
    for key in set(re.findall(r"`((?:worker|router|tls|tokens|weights|networkPolicy|model)\.[A-Za-z0-9.]+)(?:=\w+)?`", guide)):
        here = values
        for part in key.split("."):
            assert part in here, key
            here = here[part]
