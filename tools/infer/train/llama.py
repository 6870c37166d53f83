# SPDX-License-Identifier: Apache-2.0
"""A Llama decoder in plain PyTorch, as train.py trains it.

Parameter names and shapes are those of Hugging Face's LlamaForCausalLM, so a
state dict saved as safetensors is a model folder's model.safetensors. Config
dicts are what config.json holds.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def rope_inv_freq(config):
    """One angular step per pair of a head's dimensions, with llama3 scaling.

    The scaling leaves wavelengths that fit often into the original context
    alone, divides those that are longer than it, and blends between.
    """
    head_dim = config["head_dim"]
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    plain = 1.0 / (config["rope_theta"] ** exponents)
    scaling = config["rope_scaling"]
    if scaling is None:
        return plain
    if scaling["rope_type"] != "llama3":
        raise ValueError(f"rope_type {scaling['rope_type']!r}; expected 'llama3'")
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * plain / (2 * math.pi)
    keep = ((turns - low) / (high - low)).clamp(0.0, 1.0)
    return plain * (keep + (1.0 - keep) / scaling["factor"])


def rope_apply(x, cos, sin):
    """Rotates the pairs (i, i + head_dim / 2) of x, shaped (batch, heads, time, head_dim)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class RmsNorm(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(config["hidden_size"]))
        self.eps = config["rms_norm_eps"]

    def forward(self, x):
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention: several query heads share one key and value head."""

    def __init__(self, config):
        super().__init__()
        hidden = config["hidden_size"]
        self.heads = config["num_attention_heads"]
        self.kv_heads = config["num_key_value_heads"]
        self.head_dim = config["head_dim"]
        self.q_proj = nn.Linear(hidden, self.heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(hidden, self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(hidden, self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, hidden, bias=False)

    def forward(self, x, cos, sin):
        batch, time, _ = x.shape

        def heads_split(y, heads):
            return y.view(batch, time, heads, self.head_dim).transpose(1, 2)

        q = rope_apply(heads_split(self.q_proj(x), self.heads), cos, sin)
        k = rope_apply(heads_split(self.k_proj(x), self.kv_heads), cos, sin)
        v = heads_split(self.v_proj(x), self.kv_heads)
        group = self.heads // self.kv_heads
        k = k.repeat_interleave(group, dim=1)
        v = v.repeat_interleave(group, dim=1)
        y = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(batch, time, self.heads * self.head_dim))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, inter = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(hidden, inter, bias=False)
        self.up_proj = nn.Linear(hidden, inter, bias=False)
        self.down_proj = nn.Linear(inter, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.input_layernorm = RmsNorm(config)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RmsNorm(config)
        self.mlp = Mlp(config)

    def forward(self, x, cos, sin, drop):
        x = x + F.dropout(self.self_attn(self.input_layernorm(x), cos, sin), drop, self.training)
        return x + F.dropout(self.mlp(self.post_attention_layernorm(x)), drop, self.training)


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = RmsNorm(config)


class Llama(nn.Module):
    """The decoder with a tied head: the embedding is the output matrix too."""

    def __init__(self, config):
        super().__init__()
        if not config["tie_word_embeddings"]:
            raise ValueError("tie_word_embeddings is false; expected true")
        self.config = config
        self.dropout = 0.0
        self.model = Decoder(config)
        angles = torch.outer(
            torch.arange(config["max_position_embeddings"], dtype=torch.float32),
            rope_inv_freq(config),
        )
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def weights_init(self, generator):
        """Normal weights; the deeper the net, the smaller what is added to the residual stream."""
        std = self.config["initializer_range"]
        depth_scale = 1.0 / math.sqrt(2 * self.config["num_hidden_layers"])
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                continue
            scale = depth_scale if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
            nn.init.normal_(weight, std=std * scale, generator=generator)

    def forward(self, ids):
        time = ids.shape[1]
        x = F.dropout(self.model.embed_tokens(ids), self.dropout, self.training)
        cos, sin = self.cos[:time], self.sin[:time]
        for layer in self.model.layers:
            x = layer(x, cos, sin, self.dropout)
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)
