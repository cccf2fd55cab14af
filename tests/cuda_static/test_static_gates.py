"""What nvcc's own output shows of the kernels that decide the speed, for every architecture that is shipped. It is no measurement:
it shows that nothing spills, that weights come by 128-bit loads and that tensor cores are used where they are meant to be."""
import functools
import os
import pathlib
import re
import subprocess
import tempfile

import pytest
import sass

ROOT = pathlib.Path(__file__).resolve().parents[2]
NVCC = os.environ["PHI_NVCC"]
ARCHITECTURES = ("80", "90", "100")

OCCUPANCY = os.environ["PHI_OCCUPANCY"]  # occupancy.cc: NVIDIA's own calculator

# Threads of a block, blocks that the kernel is written for to share a processor, and bytes of shared memory of a block at
# Phi-1's sizes, at most (TopCandidatesKernel: 2,048 logits; the others: heads of 128). SmallProductKernel has its own below.
BUDGETS = {
    "TileProductKernel": (128, 4, 36864),
    "TileAttentionKernel": (128, 2, 35840),
    "DecodeAttentionKernel": (128, 3, 3620),
    "RowAttentionKernel": (128, 4, 2048),
    "TopCandidatesKernel": (256, 4, 16520),
    # Reads of a row or two, without shared memory.
    "RotaryKernel": (128, 4, 0),
    "EmbedKernel": (256, 4, 0),
    "NormalizeKernel": (128, 4, 0),
    "FinishProductKernel": (256, 4, 0),
    "GatherRowsKernel": (256, 4, 0),
    "SumRanksKernel": (256, 4, 0),
}
SOURCES = sorted(path.stem for path in (ROOT / "kernels/cuda").glob("*.cu"))
TENSOR_CORES = ("TileProductKernel", "TileAttentionKernel")

# SmallProductKernel<T, kRows> at Phi-1's sizes, {(bytes of T, kRows): {inputs: blocks that share a processor}} on sm_80 and on sm_90
# and sm_100, of the two that the grid has for each: 2,048 inputs are the products that make their LayerNorm on the way, whose rows
# lie in shared memory in float32 too, 10,240 those of the out-projection. What is not here does not fit, and goes fewer rows at a time.
SMALL_PRODUCT_THREADS = 256
SMALL_PRODUCT_BLOCKS = {
    "80": {
        (2, 1): {2048: 2, 10240: 2}, (2, 2): {2048: 2, 10240: 2}, (2, 4): {2048: 2, 10240: 2}, (2, 8): {2048: 1, 10240: 1},
        (4, 1): {2048: 2, 10240: 2}, (4, 2): {2048: 2, 10240: 2}, (4, 4): {2048: 2, 10240: 1}, (4, 8): {2048: 1},
    },
    "90": {
        (2, 1): {2048: 2, 10240: 2}, (2, 2): {2048: 2, 10240: 2}, (2, 4): {2048: 2, 10240: 2}, (2, 8): {2048: 2, 10240: 1},
        (4, 1): {2048: 2, 10240: 2}, (4, 2): {2048: 2, 10240: 2}, (4, 4): {2048: 2, 10240: 1}, (4, 8): {2048: 1},
    },
}  # fmt: skip
SMALL_PRODUCT_BLOCKS["100"] = SMALL_PRODUCT_BLOCKS["90"]
# 16-byte loads of weights that a lane has begun before it multiplies, at least: all eight of a turn (two steps of four outputs).
# With eight rows of 16 bits, ptxas keeps its registers for the rows on the older two, and takes the steps one after the other.
LOADS_A_TURN = 8
LOADS_AHEAD = {("80", 2, 8): 4, ("90", 2, 8): 4}


def compile_cubin(source, architecture, cubin):
    command = [NVCC, "-std=c++20", "-O3", "-fmad=false", "--expt-relaxed-constexpr", f"-arch=sm_{architecture}", f"-I{ROOT}",
               "-Xptxas", "-v", "--cubin", "-o", str(cubin), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    return result


@functools.cache
def code_of_16_byte_copies(architecture):
    """How a copy of 16 bytes to shared memory is told from narrower ones: by those of probes.cu."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = pathlib.Path(folder) / "probes.cubin"
        compile_cubin(pathlib.Path(__file__).with_name("probes.cu"), architecture, cubin)
        return sass.copy_widths(sass.kernels(cubin.read_bytes(), architecture)["copy_16"])


@pytest.fixture(scope="module", params=[(s, a) for s in SOURCES for a in ARCHITECTURES], ids=lambda p: f"{p[0]}-sm_{p[1]}")
def compiled(request, tmp_path_factory):
    """(architecture, what its kernels take, their instructions) of one source for one architecture."""
    source, architecture = request.param
    cubin = tmp_path_factory.mktemp("cubin") / f"{source}.cubin"
    result = compile_cubin(ROOT / "kernels/cuda" / f"{source}.cu", architecture, cubin)
    return architecture, sass.resource_usage(result.stdout + result.stderr), sass.kernels(cubin.read_bytes(), architecture)


def kernel_of(symbol):
    return next(name for name in BUDGETS if name in symbol)


def small_product_of(symbol):
    """(bytes of T, kRows) of a SmallProductKernel<T, kRows>; None of others."""
    match = re.search(r"SmallProductKernelI(f|6__half|13__nv_bfloat16)Li(\d)E", symbol)
    return match and (4 if match[1] == "f" else 2, int(match[2]))


def small_product_bytes(element_bytes, rows, inputs):
    """Shared memory of a block, as small_product.cu's SharedBytes has it."""
    of_norm = 4 * (inputs + 2 * 8) if inputs == 2048 else 0  # the row in float32, and two times kNormParts sums
    return rows * (inputs * element_bytes + of_norm)


@functools.cache
def occupancy(architecture, registers, threads, shared_bytes):
    """Blocks that a processor holds at a time."""
    numbers = map(str, (architecture, registers, threads, shared_bytes))
    return int(subprocess.run([OCCUPANCY, *numbers], capture_output=True, text=True, timeout=60, check=True).stdout)


def test_the_calculator_knows_its_limits():
    assert occupancy("90", 32, 256, 0) == 8  # 2,048 threads
    assert occupancy("90", 255, 256, 0) == 1  # 65,536 registers
    assert (occupancy("80", 32, 128, 49152), occupancy("90", 32, 128, 49152)) == (3, 4)  # shared memory


def test_gates(compiled):
    architecture, usage, code = compiled
    assert code and set(usage) == set(code)
    for symbol, instructions in code.items():
        _, stack_bytes, spill_bytes = usage[symbol]
        assert (stack_bytes, spill_bytes) == (0, 0), symbol
        assert sass.count(instructions, sass.LOCAL_LOAD_STORE) == 0, symbol
        if small_product_of(symbol):
            check_small_product(architecture, symbol, usage[symbol][0], instructions)
        else:
            check_other(architecture, symbol, usage[symbol][0], instructions)


def check_small_product(architecture, symbol, registers, instructions):
    """Weights come by 16-byte loads, and so many blocks share a processor as the table says."""
    element_bytes, rows = small_product_of(symbol)
    loop = sass.weight_loop(instructions)
    assert sass.count(instructions, sass.HMMA) == 0, symbol
    assert sass.wide_loads(loop) >= LOADS_A_TURN, symbol
    assert sass.wide_share(loop) >= 0.95, symbol
    assert sass.wide_loads_ahead(loop) >= LOADS_AHEAD.get((architecture, element_bytes, rows), LOADS_A_TURN), symbol
    for inputs, blocks in SMALL_PRODUCT_BLOCKS[architecture][element_bytes, rows].items():
        shared_bytes = small_product_bytes(element_bytes, rows, inputs)
        assert min(2, occupancy(architecture, registers, SMALL_PRODUCT_THREADS, shared_bytes)) == blocks, (symbol, registers, inputs)


def check_other(architecture, symbol, registers, instructions):
    name = kernel_of(symbol)
    threads, blocks, shared_bytes = BUDGETS[name]
    assert occupancy(architecture, registers, threads, shared_bytes) >= blocks, (symbol, registers)
    assert (sass.count(instructions, sass.HMMA) > 0) == (name in TENSOR_CORES), symbol
    if name in TENSOR_CORES:
        # In loops, and none narrower: the loads of single inputs beside them are for rows that do not begin at 16 bytes.
        assert any(sass.count(loop, sass.ASYNC_COPY) for loop in sass.loops(instructions)), symbol
        assert sass.copy_widths(instructions) == code_of_16_byte_copies(architecture), symbol


def test_every_small_product_has_its_budget(compiled):
    architecture, _, code = compiled
    found = {small_product_of(symbol) for symbol in code if "SmallProductKernel" in symbol}
    assert found in (set(), set(SMALL_PRODUCT_BLOCKS[architecture]))


def test_what_does_not_fit_is_not_in_the_table():
    largest = {"80": 163 << 10, "90": 227 << 10, "100": 227 << 10}
    for architecture, table in SMALL_PRODUCT_BLOCKS.items():
        for (element_bytes, rows), blocks in table.items():
            fit = [inputs for inputs in (2048, 10240) if small_product_bytes(element_bytes, rows, inputs) <= largest[architecture]]
            assert list(blocks) == fit, (architecture, element_bytes, rows)
