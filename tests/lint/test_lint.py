"""tools/lint.sh on trees that break one rule each: it has to refuse them, by file and line."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path):
    """A small tree that keeps every rule."""
    for name in (".clang-format", ".clang-tidy"):
        shutil.copy(ROOT / name, tmp_path / name)
    write(tmp_path, "kernels/add.h", "#pragma once\n\nnamespace phi::kernels {\nint Add(int a, int b);\n}\n")
    write(
        tmp_path,
        "kernels/add.cc",
        '#include "kernels/add.h"\n\nnamespace phi::kernels {\n\nint Add(int a, int b) { return a + b; }\n\n'
        "}  // namespace phi::kernels\n",
    )
    write(tmp_path, "shard/use.cc", '#include "kernels/add.h"\n')
    write(tmp_path, "service/router/serve.cc", '#include "phi/v1/generation.pb.h"\n#include "shard/use.h"\n')
    write(tmp_path, "tools/go.sh", '#!/usr/bin/env bash\nset -e\necho "$1"\n')
    return tmp_path


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def lint(root):
    command = [str(ROOT / "tools/lint.sh"), "--root", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def function_of(lines, head="int Long(int n) {"):
    return head + "\n" + "  n += 1;\n" * (lines - 3) + "  return n;\n}\n"


def test_a_tree_that_keeps_the_rules_passes(tree):
    code, output = lint(tree)
    assert code == 0, output


@pytest.mark.parametrize(
    ("path", "included"),
    [
        ("kernels/bad.cc", "shard/rank.h"),
        ("kernels/bad.cc", "service/api/error.h"),
        ("kernels/bad.cc", "spdlog/spdlog.h"),
        ("shard/bad.cc", "service/api/error.h"),
        ("shard/bad.h", "phi/v1/generation.pb.h"),
        ("shard/bad.cc", "grpcpp/grpcpp.h"),
        ("shard/bad.h", "gloo/context.h"),
        ("service/text/bad.cc", "service/router/admission.h"),
        ("service/text/bad.cc", "phi/v1/generation.pb.h"),
        ("service/worker/bad.cc", "tools/bench/timing.h"),
        ("service/worker/bad.cc", "tests/support/files.h"),
        ("service/telemetry/bad.h", "prometheus/metric_family.h"),
    ],
)
def test_an_include_against_the_direction_is_refused(tree, path, included):
    write(tree, path, f'#include "{included}"\n')
    code, output = lint(tree)
    assert code == 1
    assert f"{path}:1: " in output and included in output


def test_a_file_of_601_lines_is_refused_and_one_of_401_is_named(tree):
    write(tree, "kernels/long.cc", "int a;\n" * 600)
    write(tree, "kernels/longish.cc", "int a;\n" * 401)
    code, output = lint(tree)
    assert code == 0, output
    assert "kernels/long.cc:1: warning: 600 lines" in output
    assert "kernels/longish.cc:1: warning: 401 lines" in output
    write(tree, "kernels/long.cc", "int a;\n" * 601)
    code, output = lint(tree)
    assert code == 1
    assert "kernels/long.cc:1: 601 lines" in output


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "namespace phi {{\n\n{}\n}}  // namespace phi\n",
        "template <typename T>\n{}",
        'constexpr char kBrace[] = "{{";  // {{\n\n{}',
    ],
)
def test_a_function_of_71_lines_is_refused(tree, around):
    write(tree, "kernels/long.cc", around.format(function_of(70)))
    code, output = lint(tree)
    assert code == 0, output
    write(tree, "kernels/long.cc", around.format(function_of(71)))
    code, output = lint(tree)
    assert code == 1
    assert "kernels/long.cc:" in output and "a function of 71 lines" in output


def test_a_long_class_is_no_function(tree):
    write(tree, "kernels/wide.h", "#pragma once\n\nclass Wide {\n" + "  int a();\n" * 90 + "};\n")
    code, output = lint(tree)
    assert code == 0, output


def test_long_and_broken_python_is_refused(tree):
    write(tree, "tools/long.py", "def long():\n" + "    a = 1\n" * 70)
    write(tree, "tools/broken.py", "def broken(:\n")
    code, output = lint(tree)
    assert code == 1
    assert "tools/long.py:1: a function of 71 lines" in output
    assert "tools/broken.py:1: not Python" in output


def test_a_crowded_folder_is_refused(tree):
    for index in range(25):
        write(tree, f"kernels/cpu/k{index}.cc", "int a;\n")
    code, output = lint(tree)
    assert code == 0, output
    write(tree, "kernels/cpu/one_more.cc", "int a;\n")
    code, output = lint(tree)
    assert code == 1
    assert "kernels/cpu:1: 26 files" in output


@pytest.mark.parametrize(
    "text", ["/wo" + "rk/x", "/ho" + "me/me/x", "see sha" + "red/design/API.md", "https://pypi.o" + "rg/simple"]
)
def test_names_of_other_places_are_refused(tree, text):
    write(tree, "docs/note.md", f"first line\nfrom {text}\n")
    code, output = lint(tree)
    assert code == 1
    assert "docs/note.md:2: names " in output


def test_unformatted_code_and_careless_scripts_are_refused(tree):
    write(tree, "kernels/ugly.cc", "int   a ;\n")
    code, output = lint(tree)
    assert code == 1 and "clang-format   FAILED" in output
    (tree / "kernels/ugly.cc").unlink()
    write(tree, "tools/go.sh", "#!/usr/bin/env bash\nrm -rf $1/*\n")
    code, output = lint(tree)
    assert code == 1 and "shellcheck     FAILED" in output


@pytest.mark.parametrize("clock", ["absl::Now()", "std::chrono::system_clock::now()", "mutex_.AwaitWithTimeout(c, t)"])
def test_row71_the_wall_clock_times_nothing(tree, clock):
    write(tree, "service/router/late.cc", f"auto late = {clock};\n")
    code, output = lint(tree)
    assert code != 0 and "service/router/late.cc:1: " in output and "wall clock" in output
    (tree / "service/router/late.cc").rename(tree / "tools/late.cc")
    assert lint(tree)[0] == 0
