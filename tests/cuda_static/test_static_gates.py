"""What nvcc's own output shows of the kernels that decide the speed, for every architecture that is shipped. It is no measurement:
it shows that nothing spills, that weights come by 128-bit loads and that tensor cores are used where they are meant to be."""
import os
import pathlib
import subprocess

import pytest
import sass

ROOT = pathlib.Path(__file__).resolve().parents[2]
NVCC = os.environ["PHI_NVCC"]
ARCHITECTURES = ("80", "90", "100")

# Registers a thread may have, so that as many blocks as the kernel is written for share a processor's 65536: threads, blocks.
BUDGETS = {
    "SmallProductKernel": (256, 2),
    "TileProductKernel": (128, 4),
    "TileAttentionKernel": (128, 2),
    "DecodeAttentionKernel": (128, 3),
    "RowAttentionKernel": (128, 4),
    "TopCandidatesKernel": (256, 4),
}
SOURCES = ("small_product", "tile_product", "tile_attention", "decode_attention", "row_attention", "top_candidates")
TENSOR_CORES = ("TileProductKernel", "TileAttentionKernel")


@pytest.fixture(scope="module", params=[(s, a) for s in SOURCES for a in ARCHITECTURES], ids=lambda p: f"{p[0]}-sm_{p[1]}")
def compiled(request, tmp_path_factory):
    """(ptxas' lines, the cubin's bytes) of one source for one architecture."""
    source, architecture = request.param
    cubin = tmp_path_factory.mktemp("cubin") / f"{source}.cubin"
    command = [NVCC, "-std=c++20", "-O3", "-fmad=false", "--expt-relaxed-constexpr", f"-arch=sm_{architecture}", f"-I{ROOT}",
               "-Xptxas", "-v", "--cubin", "-o", str(cubin), str(ROOT / "kernels/cuda" / f"{source}.cu")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr, cubin.read_bytes()


def kernel_of(symbol):
    return next(name for name in BUDGETS if name in symbol)


def test_gates(compiled):
    log, cubin = compiled
    usage = sass.resource_usage(log)
    code = sass.kernels(cubin)
    assert code and set(usage) == set(code)
    for symbol, instructions in code.items():
        name = kernel_of(symbol)
        registers, stack_bytes, spill_bytes = usage[symbol]
        threads, blocks = BUDGETS[name]
        assert (stack_bytes, spill_bytes) == (0, 0), symbol
        assert sass.count(instructions, sass.LOCAL_LOAD_STORE) == 0, symbol
        assert -(-registers // 8) * 8 * threads * blocks <= 65536, (symbol, registers)
        assert (sass.count(instructions, sass.HMMA) > 0) == (name in TENSOR_CORES), symbol
        if name == "SmallProductKernel":
            assert sass.wide_share(instructions) >= 0.95, symbol
        if name in TENSOR_CORES:
            assert sass.count(instructions, sass.ASYNC_COPY) > 0, symbol
