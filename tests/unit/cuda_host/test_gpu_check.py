"""tools/gpu_check.sh in a reduced form: to its end on the host harness, and in one line where there is no GPU."""
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tools/gpu_check.sh"


def run(*arguments):
    # What ctest tells its tests about reports is not for those that the script runs.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GTEST_", "PHI_TEST_"))}
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, timeout=400, check=False, env=environment)


def test_on_the_host_it_runs_to_its_end(tmp_path):
    report = tmp_path / "report.md"
    result = run("--host", "--build", os.environ["PHI_BUILD"], "--suites", "^cuda_(block_copy|step_cost)_test$", "--report",
                 str(report))
    assert result.returncode == 0, result.stdout + result.stderr
    text = report.read_text()
    assert text.startswith("# gpu_check: executed on the host\n")
    rows = [line.split("|")[1:] for line in text.splitlines() if line.startswith("| cuda_")]
    assert [row[0].strip() for row in rows] == ["cuda_block_copy_test", "cuda_step_cost_test"]
    assert all(int(row[1]) > 0 and int(row[2]) == 0 for row in rows), rows
    assert text.count("counted on the host: ") == 4  # two sizes of batch at one and two ranks
    assert "measured" not in text.replace("nothing below is measured", "").replace("none is measured", "")
    assert "modelled: H100 SXM" in text
    assert text.endswith("Everything that ran passed, executed on the host.\n")


def test_a_failed_suite_fails_the_check(tmp_path):
    build = tmp_path / "build"
    (build / "bin").mkdir(parents=True)
    (build / "bin/cuda_norm_test").symlink_to("/bin/false")
    for program in ("make_checkpoint", "host_gpu_bench"):
        (build / "bin" / program).symlink_to(pathlib.Path(os.environ["PHI_BUILD"]) / "bin" / program)
    (build / "CMakeCache.txt").write_text("PHI_SANITIZE:STRING=\n")
    (build / "CTestTestfile.cmake").write_text(
        'add_test(cuda_norm_test "/bin/false")\nset_tests_properties(cuda_norm_test PROPERTIES LABELS cuda_host)\n')
    report = tmp_path / "report.md"
    result = run("--host", "--build", str(build), "--report", str(report))
    assert result.returncode == 1, result.stdout + result.stderr
    assert "FAILED: cuda_norm_test." in report.read_text()


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there may be a GPU here")
def test_without_a_gpu_it_ends_in_one_line():
    result = run()
    assert (result.returncode, result.stdout) == (69, "")
    assert result.stderr.startswith("gpu_check: no GPU here") and result.stderr.count("\n") == 1
