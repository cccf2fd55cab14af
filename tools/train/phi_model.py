"""The Phi architecture as a compact torch module, with parameter names of Hugging Face.

Source: transformers, modeling_phi.py (PhiForCausalLM): one LayerNorm per layer feeds attention and
MLP in parallel, both with biases; rotary embedding on the first part of each head; gelu_new; an
untied head with a bias. `state_dict()` keys equal those of PhiForCausalLM, so an export is a copy.
Attention is written out: at these sizes its backward on a CPU is faster than the fused kernel's.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class PhiNanoConfig:
    """Sizes, in the words of config.json."""

    vocab_size: int = 2048
    hidden_size: int = 256
    intermediate_size: int = 1024
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    max_position_embeddings: int = 512
    partial_rotary_factor: float = 0.5
    rope_theta: float = 10000.0
    layer_norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def rotary_dim(self) -> int:
        return int(self.head_dim * self.partial_rotary_factor)


class RotaryTable(nn.Module):
    """cos and sin, [max_position_embeddings, rotary_dim / 2] each; not saved."""

    def __init__(self, config: PhiNanoConfig):
        super().__init__()
        exponents = torch.arange(0, config.rotary_dim, 2, dtype=torch.float32) / config.rotary_dim
        frequencies = 1.0 / config.rope_theta**exponents
        angles = torch.outer(torch.arange(config.max_position_embeddings).float(), frequencies)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rotates the first rotary_dim channels of x, [batch, heads, length, head_dim]."""
        half = self.cos.shape[1]
        length = x.shape[2]
        cos, sin = self.cos[:length].to(x.dtype), self.sin[:length].to(x.dtype)
        first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)


class PhiAttention(nn.Module):
    def __init__(self, config: PhiNanoConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: torch.Tensor, rotary: RotaryTable, mask: torch.Tensor) -> torch.Tensor:
        batch, length, width = x.shape

        def heads(projection: nn.Linear) -> torch.Tensor:
            return projection(x).view(batch, length, self.num_heads, -1).transpose(1, 2)

        q, k, v = rotary(heads(self.q_proj)), rotary(heads(self.k_proj)), heads(self.v_proj)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + mask
        mixed = torch.softmax(scores, dim=-1, dtype=v.dtype) @ v
        return self.dense(mixed.transpose(1, 2).reshape(batch, length, width))


class PhiMlp(nn.Module):
    def __init__(self, config: PhiNanoConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))


class PhiDecoderLayer(nn.Module):
    def __init__(self, config: PhiNanoConfig):
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = PhiAttention(config)
        self.mlp = PhiMlp(config)

    def forward(self, x: torch.Tensor, rotary: RotaryTable, mask: torch.Tensor) -> torch.Tensor:
        normed = self.input_layernorm(x)
        return x + self.self_attn(normed, rotary, mask) + self.mlp(normed)


class PhiModel(nn.Module):
    def __init__(self, config: PhiNanoConfig):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            PhiDecoderLayer(config) for _ in range(config.num_hidden_layers)
        )
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.rotary = RotaryTable(config)

    def forward(self, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.embed_tokens(token_ids)
        for layer in self.layers:
            x = layer(x, self.rotary, mask)
        return self.final_layernorm(x)


class PhiNano(nn.Module):
    """token_ids [batch, length] int64 -> logits [batch, length, vocab_size].

    document_ids [batch, length]: a position attends to earlier positions of the same document.
    """

    def __init__(self, config: PhiNanoConfig):
        super().__init__()
        self.config = config
        self.model = PhiModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.apply(self._init)
        residual_scale = (2 * config.num_hidden_layers) ** -0.5
        for layer in self.model.layers:
            layer.self_attn.dense.weight.data.mul_(residual_scale)
            layer.mlp.fc2.weight.data.mul_(residual_scale)

    @staticmethod
    def _init(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, token_ids: torch.Tensor, document_ids: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.model(token_ids, _attention_mask(document_ids)))


def _attention_mask(document_ids: torch.Tensor) -> torch.Tensor:
    """0 where attention is allowed and a very negative number elsewhere, [batch, 1, length, length]."""
    length = document_ids.shape[1]
    allowed = document_ids[:, :, None] == document_ids[:, None, :]
    allowed &= torch.ones(length, length, dtype=torch.bool).tril()
    mask = torch.zeros(allowed.shape, dtype=torch.bfloat16).masked_fill_(~allowed, -1e9)
    return mask[:, None]
