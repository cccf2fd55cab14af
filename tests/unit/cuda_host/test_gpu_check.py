"""tools/gpu_check.sh in a reduced form: to its end on the host harness, in one line where there is no GPU, and its form for GPUs around
programs that are made up."""
import os
import pathlib
import re
import shutil
import stat
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tools/gpu_check.sh"


def run(*arguments, path=None):
    # What ctest tells its tests about reports is not for those that the script runs.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GTEST_", "PHI_TEST_"))}
    if path is not None:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    return subprocess.run([SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=500, check=False, env=environment)


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


PASSES = """echo '<testsuites tests="1" failures="0"><testcase result="completed"/></testsuites>' >"${GTEST_OUTPUT#xml:}\""""


@pytest.fixture
def build(tmp_path):
    """build(label, name=script, ...): the folder of a build with these suites, and what goes with them."""

    def make(label, **suites):
        folder = tmp_path / "build"
        program(folder / "bin/make_checkpoint", 'mkdir -p "$1"')
        for bench in ("gpu_bench", "host_gpu_bench"):
            program(folder / "bin" / bench, 'if [ "$1" = --count ]; then echo 3; else echo "$@"; fi')
        (folder / "CMakeCache.txt").write_text("PHI_SANITIZE:STRING=\n")
        lines = []
        for name, text in suites.items():
            program(folder / "bin" / name, text)
            lines += [f'add_test({name} "{folder / "bin" / name}")', f"set_tests_properties({name} PROPERTIES LABELS {label})"]
        (folder / "CTestTestfile.cmake").write_text("\n".join(lines) + "\n")
        return folder

    return make


@pytest.fixture
def gpu_path(tmp_path):
    """A folder for PATH on a machine that seems to have GPUs."""
    program(tmp_path / "path/nvidia-smi", "echo 'GPU 0: made up'")
    return tmp_path / "path"


def rows_of(report):
    """The cells of the lines about suites."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.splitlines() if re.match(r"\| (cuda|gpu)_", line)]


def test_on_the_host_it_runs_to_its_end(tmp_path):
    report = tmp_path / "report.md"
    result = run("--host", "--build", os.environ["PHI_BUILD"], "--suites", "^cuda_(block_copy|step_cost)_test$", "--report", report)
    assert result.returncode == 0, result.stdout + result.stderr
    text = report.read_text()
    assert text.startswith("# gpu_check: executed on the host\n")
    rows = rows_of(text)
    assert [row[0] for row in rows] == ["cuda_block_copy_test", "cuda_step_cost_test"]
    assert all(int(row[1]) > 0 and int(row[2]) == 0 for row in rows), rows
    assert "- test_the_tokens_are_the_cpus[1]: PASSED" in text
    assert text.count("counted on the host: ") == 4  # two sizes of batch at one and two ranks
    assert "measured" not in text.replace("nothing below is measured", "").replace("none is measured", "")
    assert "modelled: H100 SXM" in text
    assert re.findall(r"^Stage (\w+): done, \d+ s\.$", text, re.M) == ["kernels", "model", "serve", "sanitizer", "bench"]
    assert text.endswith("Everything that ran passed, executed on the host.\n")


def test_a_failed_suite_fails_the_check(tmp_path, build):
    report = tmp_path / "report.md"
    folder = build("cuda_host", cuda_norm_test="exit 1", cuda_product_test=PASSES)
    result = run("--host", "--build", folder, "--stages=kernels,bench", "--report", report)
    assert result.returncode == 1, result.stdout + result.stderr
    text = report.read_text()
    assert [row[:2] for row in rows_of(text)] == [["cuda_norm_test FAILED", "0"], ["cuda_product_test", "1"]]
    assert "Stage kernels: FAILED (cuda_norm_test)" in text and "Stage bench: done" in text
    assert text.endswith("FAILED: cuda_norm_test.\n")


def test_a_suite_that_runs_nothing_fails_and_says_why(tmp_path, build, gpu_path):
    # As gtest does where an environment is skipped: all its cases are said to have passed.
    folder = build("gpu", gpu_norm_test=f"{PASSES}\necho 'no GPU: CUDA driver version is insufficient for CUDA runtime version'")
    report = tmp_path / "report.md"
    result = run("--build", folder, "--stages", "kernels", "--report", report, path=gpu_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert rows_of(report.read_text())[0][0] == (
        "gpu_norm_test RAN NOTHING (no GPU: CUDA driver version is insufficient for CUDA runtime version)")


def test_stages_are_suites_by_name_and_all_of_them(tmp_path, build, gpu_path):
    names = ["gpu_norm_test", "gpu_graphs_test", "gpu_graphs_group_test", "gpu_golden_test", "gpu_new_sm_80_test"]
    folder = build("gpu", **dict.fromkeys(names, PASSES))
    report = tmp_path / "report.md"
    assert run("--build", folder, "--stages=kernels,model", "--report", report, path=gpu_path).returncode == 0
    _, kernels, model = report.read_text().split("\n## ")[:3]
    assert [row[0] for row in rows_of(kernels)] == ["gpu_norm_test", "gpu_graphs_test", "gpu_new_sm_80_test"]
    assert [row[0] for row in rows_of(model)] == ["gpu_graphs_group_test", "gpu_golden_test"]


def test_bench_takes_as_many_ranks_as_cuda_finds(tmp_path, build, gpu_path):
    report = tmp_path / "report.md"
    result = run("--build", build("gpu"), "--stages=bench", "--model", tmp_path, "--report", report, path=gpu_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.findall(r"--ranks (\d+)", report.read_text()) == ["1", "2", "3"]


def test_what_fails_before_the_bench_does_not_end_the_check(tmp_path, build, gpu_path):
    folder = build("gpu")
    program(folder / "bin/make_checkpoint", "echo no space left >&2; exit 1")
    report = tmp_path / "report.md"
    result = run("--build", folder, "--stages=bench", "--report", report, path=gpu_path)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "no space left" in report.read_text() and report.read_text().endswith("FAILED: make_checkpoint.\n")


def test_sanitizers_run_on_kernels_and_on_a_model(tmp_path, build, gpu_path):
    program(gpu_path / "compute-sanitizer", '[ "$2 ${5##*/}" != "racecheck gpu_norm_test" ]')
    folder = build("gpu", **dict.fromkeys(["gpu_norm_test", "gpu_golden_test"], PASSES))
    report = tmp_path / "report.md"
    result = run("--build", folder, "--stages=sanitizer", "--report", report, path=gpu_path)
    assert result.returncode == 1, result.stdout + result.stderr
    text = report.read_text()
    assert text.endswith("FAILED: racecheck of gpu_norm_test.\n")
    for tool in ("memcheck", "synccheck"):
        for name in ("gpu_norm_test", "gpu_golden_test", "gpu_graphs_group_test"):
            assert f"- {tool}, {name}: passed" in text
    assert "racecheck, gpu_golden_test" not in text


def test_what_was_found_stays_where_the_rest_is_cut_off(tmp_path, build, gpu_path):
    folder = build("gpu", gpu_norm_test=PASSES, gpu_golden_test="sleep 60")
    report = tmp_path / "report.md"
    command = ["timeout", "10", SCRIPT, "--build", folder, "--stages=kernels,model", "--report", report]
    environment = {**os.environ, "PATH": f"{gpu_path}:{os.environ['PATH']}"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert done.returncode == 124, done.stdout + done.stderr
    text = report.read_text()
    assert "Stage kernels: done" in text and text.endswith("CUT OFF in the stage model.\n")


def test_packages_that_are_missing_are_named_where_cmake_fails(gpu_path):
    program(gpu_path / "cmake", "echo 'CMake Error at somewhere'; exit 1")
    program(gpu_path / "dpkg-query", '[ "$4" = libgrpc++-dev ] || printf installed')
    result = run(path=gpu_path)
    assert result.returncode == 70 and "CMake Error at somewhere" in result.stderr
    assert result.stderr.endswith("packages that are missing, which tools/setup.sh build installs: libgrpc++-dev\n")


@pytest.mark.parametrize("arguments", [("--stages=kernel",), ("--stages=",), ("--report",), ("--unknown", "1")])
def test_what_it_does_not_know_is_refused(arguments):
    result = run(*arguments)
    assert result.returncode == 64 and "--stages LIST" in result.stderr


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None or os.path.exists("/dev/nvidiactl"), reason="there may be a GPU here")
def test_without_a_gpu_it_ends_in_one_line():
    result = run()
    assert (result.returncode, result.stdout) == (69, "")
    assert result.stderr.startswith("gpu_check: no GPU here") and result.stderr.count("\n") == 1
