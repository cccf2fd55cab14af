"""Random checkpoints for the end-to-end tests, with a tokenizer of any number of ids."""

import hashlib
import json
import pathlib
import subprocess

from phi_programs import BIN

END_OF_TEXT = "<|endoftext|>"


def _byte_characters():
    """GPT-2's printable stand-ins of the 256 bytes (openai/gpt-2 encoder.py, bytes_to_unicode)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    stand_ins = iter(range(0x100, 0x200))
    return [chr(byte) if byte in plain else chr(next(stand_ins)) for byte in range(256)]


def write_tokenizer(path, num_ids):
    """A byte-level BPE of `num_ids` ids: the bytes, merged pairs of them, and <|endoftext|> as the last."""
    bytes_ = _byte_characters()
    vocabulary = {character: index for index, character in enumerate(bytes_)}
    merges = []
    for index in range(num_ids - 257):
        left, right = bytes_[ord("A") + index // 64], bytes_[ord("!") + index % 64]
        merges.append(f"{left} {right}")
        vocabulary[left + right] = len(vocabulary)
    end = {"id": num_ids - 1, "content": END_OF_TEXT, "single_word": False, "lstrip": False, "rstrip": False,
           "normalized": False, "special": True}  # fmt: skip
    vocabulary[END_OF_TEXT] = num_ids - 1
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
             "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": merges}  # fmt: skip
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [end], "normalizer": None,
                 "pre_tokenizer": byte_level, "post_processor": byte_level, "decoder": byte_level, "model": model}  # fmt: skip
    pathlib.Path(path).write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


# A context so long that nothing ends by itself, and steps so short that a prompt takes hundreds of them.
LONG_CONTEXT = {"preset": "tiny", "hidden_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 64,
                "intermediate_size": 512, "num_hidden_layers": 4, "max_position_embeddings": 8192}  # fmt: skip


def make_checkpoint(folder, shape, seed=0, num_real_tokens=None, config_style="rope_parameters"):
    """The folder of a checkpoint made by make_checkpoint; `shape` in config.json's words (or make_checkpoint's presets)."""
    flags = [f"--seed={seed}", f"--config_style={config_style}", "--quiet"]
    if num_real_tokens is not None:
        tokenizer = folder.parent / f"{folder.name}-tokenizer.json"
        write_tokenizer(tokenizer, num_real_tokens)
        flags.append(f"--tokenizer={tokenizer}")
    for name, value in shape.items():
        if isinstance(value, bool):
            flags += [f"--{name}"] if value else []
        else:
            flags.append(f"--{name}={value}")
    subprocess.run([str(BIN / "make_checkpoint"), str(folder), *flags], check=True)
    return folder


def weights_sha256(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
