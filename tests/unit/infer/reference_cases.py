# SPDX-License-Identifier: Apache-2.0
"""The models of make_reference.py: which differ in what a reader of config.json must get right."""

LLAMA3_SCALING = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    # Small, so that a short prompt is far beyond it.
    "original_max_position_embeddings": 64,
    "rope_type": "llama3",
}

# What a case leaves out of `config` is left out of config.json too: files in
# the wild do, and a reader must know the defaults. `shape` is what the weights
# are made from and is always complete.
MODEL_CASES = {
    "f32_gqa_untied": {
        "dtype": "float32",
        "prompt_len": 12,
        "shape": dict(hidden=32, inter=80, layers=2, heads=4, kv_heads=2, head_dim=8, vocab=128),
        "tied": False,
        "config": {
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "max_position_embeddings": 256,
            "mlp_bias": False,
            "num_key_value_heads": 2,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "use_cache": True,
        },
    },
    # The layout of the real Llama-3.2 files, eos list and all.
    "f32_tied_llama3": {
        "dtype": "float32",
        "prompt_len": 232,
        "shape": dict(hidden=64, inter=96, layers=2, heads=4, kv_heads=2, head_dim=16, vocab=128),
        "tied": True,
        "config": {
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 120,
            "eos_token_id": [121, 122, 123],
            "head_dim": 16,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "max_position_embeddings": 2048,
            "mlp_bias": False,
            "num_key_value_heads": 2,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": LLAMA3_SCALING,
            "rope_theta": 500000.0,
            "tie_word_embeddings": True,
            "use_cache": True,
        },
    },
    # The spelling of transformers 5: rope_parameters holds theta as well, and
    # torch_dtype is called dtype.
    "bf16_tied_llama3_v5": {
        "dtype": "bfloat16",
        "prompt_len": 208,
        "shape": dict(hidden=64, inter=128, layers=2, heads=8, kv_heads=2, head_dim=8, vocab=160),
        "tied": True,
        "v5": True,
        "config": {
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "head_dim": 8,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "max_position_embeddings": 2048,
            "mlp_bias": False,
            "num_key_value_heads": 2,
            "pad_token_id": None,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_parameters": {**LLAMA3_SCALING, "rope_theta": 10000.0},
            "tie_word_embeddings": True,
            "use_cache": True,
        },
    },
    "bf16_tied": {
        "dtype": "bfloat16",
        "prompt_len": 9,
        "shape": dict(hidden=48, inter=112, layers=3, heads=6, kv_heads=3, head_dim=8, vocab=144),
        "tied": True,
        "config": {
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "max_position_embeddings": 128,
            "num_key_value_heads": 3,
            "rms_norm_eps": 1e-06,
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
        },
    },
    "f16_untied_sharded": {
        "dtype": "float16",
        "prompt_len": 10,
        "shards": 3,
        "shape": dict(hidden=64, inter=104, layers=2, heads=4, kv_heads=1, head_dim=16, vocab=192),
        "tied": False,
        "config": {
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "max_position_embeddings": 256,
            "num_key_value_heads": 1,
            "rms_norm_eps": 1e-05,
            "rope_theta": 100000.0,
            "tie_word_embeddings": False,
        },
    },
    # heads * head_dim is 96, hidden is 40: q_proj widens and o_proj narrows.
    "f32_head_dim": {
        "dtype": "float32",
        "prompt_len": 14,
        "shape": dict(hidden=40, inter=72, layers=2, heads=4, kv_heads=2, head_dim=24, vocab=136),
        "tied": True,
        "config": {
            "bos_token_id": 1,
            "eos_token_id": 2,
            "head_dim": 24,
            "hidden_act": "silu",
            "max_position_embeddings": 256,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
        },
    },
    # attention_bias gives all four projections a bias, o_proj too.
    "f32_bias": {
        "dtype": "float32",
        "prompt_len": 13,
        "bias": True,
        "shape": dict(hidden=32, inter=64, layers=2, heads=4, kv_heads=2, head_dim=8, vocab=128),
        "tied": True,
        "config": {
            "attention_bias": True,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "max_position_embeddings": 128,
            "mlp_bias": True,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
        },
    },
    # As sparse as a config of the first Llama days: no num_key_value_heads,
    # no head_dim, no rope_theta, no tie_word_embeddings, no rms_norm_eps
    # (1e-06 is the default).
    "f32_mha_defaults": {
        "dtype": "float32",
        "prompt_len": 11,
        "shape": dict(hidden=32, inter=88, layers=2, heads=4, kv_heads=4, head_dim=8, vocab=128),
        "tied": False,
        "config": {
            "bos_token_id": 1,
            "eos_token_id": 2,
            "max_position_embeddings": 128,
        },
    },
}
