"""What nvcc's own output shows of the kernels that decide the speed, for every architecture that is shipped. It is no measurement:
it shows that nothing spills, that weights come by 128-bit loads and that tensor cores are used where they are meant to be."""
import functools
import os
import pathlib
import subprocess

import pytest
import sass

ROOT = pathlib.Path(__file__).resolve().parents[2]
NVCC = os.environ["PHI_NVCC"]
ARCHITECTURES = ("80", "90", "100")

OCCUPANCY = os.environ["PHI_OCCUPANCY"]  # occupancy.cc: NVIDIA's own calculator

# Threads of a block, blocks that the kernel is written for to share a processor, and bytes of shared memory of a block at
# Phi-1's sizes, at most (SmallProductKernel: one row of 10,240 inputs in float32; TopCandidatesKernel: 2,048 logits; the others: heads of 128).
BUDGETS = {
    "SmallProductKernel": (256, 2, 40960),
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
SOURCES = (
    "small_product", "tile_product", "tile_attention", "decode_attention", "row_attention", "top_candidates", "cache", "embed_norm", "finish_product",
)
TENSOR_CORES = ("TileProductKernel", "TileAttentionKernel")


@pytest.fixture(scope="module", params=[(s, a) for s in SOURCES for a in ARCHITECTURES], ids=lambda p: f"{p[0]}-sm_{p[1]}")
def compiled(request, tmp_path_factory):
    """(architecture, ptxas' lines, the cubin's bytes) of one source for one architecture."""
    source, architecture = request.param
    cubin = tmp_path_factory.mktemp("cubin") / f"{source}.cubin"
    command = [NVCC, "-std=c++20", "-O3", "-fmad=false", "--expt-relaxed-constexpr", f"-arch=sm_{architecture}", f"-I{ROOT}",
               "-Xptxas", "-v", "--cubin", "-o", str(cubin), str(ROOT / "kernels/cuda" / f"{source}.cu")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    return architecture, result.stdout + result.stderr, cubin.read_bytes()


def kernel_of(symbol):
    return next(name for name in BUDGETS if name in symbol)


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
    architecture, log, cubin = compiled
    usage = sass.resource_usage(log)
    code = sass.kernels(cubin)
    assert code and set(usage) == set(code)
    for symbol, instructions in code.items():
        name = kernel_of(symbol)
        registers, stack_bytes, spill_bytes = usage[symbol]
        threads, blocks, shared_bytes = BUDGETS[name]
        assert (stack_bytes, spill_bytes) == (0, 0), symbol
        assert sass.count(instructions, sass.LOCAL_LOAD_STORE) == 0, symbol
        assert occupancy(architecture, registers, threads, shared_bytes) >= blocks, (symbol, registers)
        assert (sass.count(instructions, sass.HMMA) > 0) == (name in TENSOR_CORES), symbol
        if name == "SmallProductKernel":
            assert sass.wide_share(instructions) >= 0.95, symbol
        if name in TENSOR_CORES:
            assert sass.count(instructions, sass.ASYNC_COPY) > 0, symbol
