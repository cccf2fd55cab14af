"""Writes a model directory that transformers' PhiForCausalLM and phi-serve load unchanged."""

from __future__ import annotations

import json
import os
import pathlib
import shutil

import torch
from safetensors.torch import save_file

from phi_model import PhiNano, PhiNanoConfig


def config_json(config: PhiNanoConfig, end_of_text: int) -> dict:
    return {
        "architectures": ["PhiForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": end_of_text,
        "embd_pdrop": 0.0,
        "eos_token_id": end_of_text,
        "hidden_act": "gelu_new",
        "hidden_size": config.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate_size,
        "layer_norm_eps": config.layer_norm_eps,
        "max_position_embeddings": config.max_position_embeddings,
        "model_type": "phi",
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_attention_heads,
        "partial_rotary_factor": config.partial_rotary_factor,
        "qk_layernorm": False,
        "resid_pdrop": 0.0,
        "rope_scaling": None,
        "rope_theta": config.rope_theta,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }


def _replace(folder: pathlib.Path, name: str, text: str) -> None:
    temporary = folder / f".{name}.new"
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, folder / name)


def save_model(
    model: PhiNano, config: PhiNanoConfig, end_of_text: int, tokenizer: pathlib.Path, folder: pathlib.Path
) -> None:
    """bf16 weights, config, generation config and tokenizer; every file replaced in one rename."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.to(torch.bfloat16).contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, str(folder / ".model.new"), metadata={"format": "pt"})
    (folder / ".model.new").chmod(0o644)
    os.replace(folder / ".model.new", folder / "model.safetensors")
    _replace(folder, "config.json", json.dumps(config_json(config, end_of_text), indent=2) + "\n")
    generation = {"bos_token_id": end_of_text, "eos_token_id": end_of_text}
    _replace(folder, "generation_config.json", json.dumps(generation, indent=2) + "\n")
    shutil.copyfile(tokenizer, folder / ".tokenizer.new")
    os.replace(folder / ".tokenizer.new", folder / "tokenizer.json")
