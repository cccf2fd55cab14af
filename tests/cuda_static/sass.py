"""What a cubin's machine code is made of, without a disassembler.

Volta's and later encodings: instructions of 16 bytes, the opcode in the low 12 bits, a load's width at bits 73-75 (4 is 32 bits,
5 is 64, 6 is 128). Opcodes found by compiling probe kernels; those of newer architectures have to be looked at once.
"""
import re
import struct

HMMA = (0x23C,)
GLOBAL_LOAD = (0x381, 0x981)
ASYNC_COPY = (0xFAE,)
LOCAL_LOAD_STORE = (0x983, 0x387)
WIDTH_128 = 6


def kernels(cubin):
    """{kernel symbol: [(opcode, width), ...]} of an ELF file's bytes."""
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
        instructions = [struct.unpack_from("<QQ", cubin, at) for at in range(offset, offset + size, 16)]
        found[name[len(".text."):]] = [(low & 0xFFF, (high >> 9) & 7) for low, high in instructions]
    return found


def count(instructions, opcodes):
    return sum(opcode in opcodes for opcode, _ in instructions)


def wide_share(instructions):
    """Share of 128-bit loads among the global loads from the first of them to the last: in a kernel whose only wide loads are
    those of its weight loop, that is the loop."""
    wide = [at for at, (opcode, width) in enumerate(instructions) if opcode in GLOBAL_LOAD and width == WIDTH_128]
    if not wide:
        return 0.0
    return len(wide) / count(instructions[wide[0]:wide[-1] + 1], GLOBAL_LOAD)


def resource_usage(ptxas_log):
    """{kernel symbol: (registers, stack bytes, spill bytes)} of what `nvcc -Xptxas -v` prints."""
    usage = {}
    pattern = re.compile(
        r"Function properties for (\S+)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads\s+"
        r"ptxas info\s+: Used (\d+) registers")
    for name, stack, stores, loads, registers in pattern.findall(ptxas_log):
        usage[name] = (int(registers), int(stack), int(stores) + int(loads))
    return usage
