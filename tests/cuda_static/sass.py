"""What a cubin's machine code is made of, without a disassembler.

Volta's and later encodings: instructions of 16 bytes, the opcode in the low 12 bits, the width of a load at bits 73-75 (4 is 32
bits, 5 is 64, 6 is 128), a branch's distance in fours of bytes from the next instruction on at bits 34-81, and from sm_90 on with
8 more bits below them at 16-23. How wide a copy to shared memory is stands at bits 73-75 too, in codes that depend on the
architecture. probes.cu is compiled to see that all this is so.
"""
import collections
import re
import struct

HMMA = (0x23C,)
FFMA = (0x223, 0x423, 0x823, 0xC23)  # by where the second factor is
GLOBAL_LOAD = (0x381, 0x981)
ASYNC_COPY = (0xFAE,)
LOCAL_LOAD_STORE = (0x983, 0x387)
BRANCH = (0x947,)
WIDTH_128 = 6

# `width`: bits 73-75; `target`: the index of the instruction that a branch goes to, None for all others.
Instruction = collections.namedtuple("Instruction", "opcode width target", defaults=(0, None))


def _target(index, low, high, architecture):
    distance = (low >> 34) | (high & 0x3FFFF) << 30
    if distance >> 47:
        distance -= 1 << 48
    if int(architecture) >= 90:
        distance = distance << 8 | low >> 16 & 0xFF
    assert distance % 4 == 0, f"instruction {index} is no branch to an instruction: {low:016x} {high:016x}"
    return index + 1 + distance // 4


def _decode(index, words, architecture):
    low, high = words
    opcode = low & 0xFFF
    return Instruction(opcode, high >> 9 & 7, _target(index, low, high, architecture) if opcode in BRANCH else None)


def kernels(cubin, architecture):
    """{kernel symbol: [Instruction, ...]} of an ELF file's bytes."""
    (section_offset,) = struct.unpack_from("<Q", cubin, 40)
    entry_bytes, count, names_index = struct.unpack_from("<HHH", cubin, 58)

    def section(index):
        at = section_offset + index * entry_bytes
        name, _, _, _, offset, size = struct.unpack_from("<IIQQQQ", cubin, at)
        return name, offset, size

    _, names_offset, _ = section(names_index)
    found = {}
    for index in range(count):
        name_at, offset, size = section(index)
        end = cubin.index(b"\0", names_offset + name_at)
        name = cubin[names_offset + name_at:end].decode()
        if not name.startswith(".text."):
            continue
        words = [struct.unpack_from("<QQ", cubin, at) for at in range(offset, offset + size, 16)]
        code = [_decode(at, pair, architecture) for at, pair in enumerate(words)]
        assert all(each.target is None or 0 <= each.target < len(code) for each in code), name
        found[name[len(".text."):]] = code
    return found


def count(instructions, opcodes):
    return sum(each.opcode in opcodes for each in instructions)


def wide_loads(instructions):
    return sum(each.opcode in GLOBAL_LOAD and each.width == WIDTH_128 for each in instructions)


def loops(instructions):
    """The instructions of each loop: from the target of a branch backwards to the branch."""
    return [instructions[each.target:at + 1] for at, each in enumerate(instructions)
            if each.target is not None and each.target < at]


def weight_loop(instructions):
    """The innermost loop with 128-bit loads in it; empty where there is none."""
    return min(filter(wide_loads, loops(instructions)), key=len, default=[])


def wide_share(loop):
    """Share of 128-bit loads among a loop's global loads."""
    loads = count(loop, GLOBAL_LOAD)
    return wide_loads(loop) / loads if loads else 0.0


def wide_loads_ahead(loop):
    """128-bit loads of a loop that are under way before its first multiplication."""
    first = next((at for at, each in enumerate(loop) if each.opcode in FFMA), 0)
    return wide_loads(loop[:first])


def copy_widths(instructions):
    """The codes of width of the copies to shared memory."""
    return {each.width for each in instructions if each.opcode in ASYNC_COPY}


def resource_usage(ptxas_log):
    """{kernel symbol: (registers, stack bytes, spill bytes)} of what `nvcc -Xptxas -v` prints."""
    usage = {}
    pattern = re.compile(
        r"Function properties for (\S+)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\s+"
        r"ptxas info\s+: Used (\d+) registers")
    for name, stack, stores, loads, registers in pattern.findall(ptxas_log):
        usage[name] = (int(registers), int(stack), int(stores) + int(loads))
    return usage
