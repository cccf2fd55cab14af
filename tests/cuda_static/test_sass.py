"""The gates themselves: on lists of instructions that are right or wrong by design, and on what nvcc makes of probes.cu."""
import os
import pathlib
import subprocess

import pytest
import sass

NARROW = sass.Instruction(sass.GLOBAL_LOAD[0], 4)
WIDE = sass.Instruction(sass.GLOBAL_LOAD[0], sass.WIDTH_128)
MULTIPLY = sass.Instruction(sass.FFMA[0])
OTHER = sass.Instruction(0x210)


def looping(before, body, after=()):
    """Code with a loop of `body`."""
    back = sass.Instruction(sass.BRANCH[0], 0, len(before))
    return [*before, *body, back, *after]


def test_narrow_loads_around_wide_ones_count():
    loop = sass.weight_loop(looping([], [NARROW] * 50 + [WIDE] * 2 + [NARROW] * 50))
    assert sass.wide_loads(loop) == 2 and sass.wide_share(loop) == 2 / 102


def test_loads_outside_of_the_loop_do_not_count():
    loop = sass.weight_loop(looping([NARROW] * 9, [WIDE] * 8 + [MULTIPLY], [NARROW] * 9))
    assert (sass.wide_loads(loop), sass.wide_share(loop), sass.wide_loads_ahead(loop)) == (8, 1.0, 8)


def test_wide_loads_without_a_loop_are_no_weight_loop():
    for code in ([WIDE] * 8 + [MULTIPLY], looping([WIDE] * 8, [NARROW, MULTIPLY])):
        assert sass.weight_loop(code) == [] and sass.wide_share(sass.weight_loop(code)) == 0.0


def test_the_innermost_loop_is_taken():
    inner = [WIDE] * 8 + [NARROW] + [MULTIPLY]
    code = looping([], [NARROW] * 20 + looping([], inner), [OTHER])
    code[30] = code[30]._replace(target=20)  # where the inner loop begins now
    assert sass.wide_share(sass.weight_loop(code)) == 8 / 9


def test_a_branch_forwards_or_to_itself_is_no_loop():
    code = [WIDE, sass.Instruction(sass.BRANCH[0], 0, 3), OTHER, sass.Instruction(sass.BRANCH[0], 0, 3)]
    assert sass.loops(code) == []


def test_loads_behind_a_multiplication_are_not_ahead():
    assert sass.wide_loads_ahead([WIDE] * 4 + [MULTIPLY] + [WIDE] * 4 + [MULTIPLY]) == 4
    assert sass.wide_loads_ahead([WIDE] * 4) == 0, "nothing is multiplied: not the loop that was looked for"


def test_one_narrow_copy_is_seen():
    copies = [sass.Instruction(sass.ASYNC_COPY[0], 6), OTHER, sass.Instruction(sass.ASYNC_COPY[0], 4)]
    assert sass.copy_widths(copies) == {4, 6} and sass.copy_widths([OTHER]) == set()


@pytest.fixture(scope="module", params=["80", "90", "100"])
def probes(request, tmp_path_factory):
    cubin = tmp_path_factory.mktemp("probes") / "probes.cubin"
    source = pathlib.Path(__file__).with_name("probes.cu")
    command = [os.environ["PHI_NVCC"], "-std=c++20", f"-arch=sm_{request.param}", "--cubin", "-o", str(cubin), str(source)]
    subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return sass.kernels(cubin.read_bytes(), request.param)


def test_a_compiled_loop_is_found(probes):
    loop = sass.weight_loop(probes["loop"])
    assert (sass.wide_loads(loop), sass.count(loop, sass.GLOBAL_LOAD)) == (2, 3)
    assert sass.count(loop, sass.FFMA) == 2 and sass.wide_loads_ahead(loop) == 2
    assert sass.count(probes["loop"], sass.GLOBAL_LOAD) > 3
    assert sass.wide_loads(probes["straight"]) == 2 and sass.weight_loop(probes["straight"]) == []


def test_copies_of_each_width_have_a_code_of_their_own(probes):
    codes = [sass.copy_widths(probes[f"copy_{size}"]) for size in (4, 8, 16)]
    assert all(len(each) == 1 for each in codes) and len(set.union(*codes)) == 3, codes
