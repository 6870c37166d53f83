#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""berth-infer against transformers on random models, live.

    random_models.py BERTH-INFER [SEED [COUNT]]

Each round draws a LlamaForCausalLM (sizes, grouped heads, biases, dtype, RoPE scaling, tied or
untied head, one file or shards), saves it as transformers does, and compares logits (within 1e-3
of the largest) and greedy tokens with every instruction set. A greedy token is compared only where
the best two logits do not nearly tie. Exits 77 where torch or transformers is missing.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
try:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

STEPS = 12
TOLERANCE = 1e-3
TIE = 2e-3


def rope_draw(draw, head_dim):
    kind = draw.choice(["default", "linear", "llama3"])
    if kind == "default":
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": draw.choice([2.0, 3.5])}
    low = draw.choice([1.0, 1.5])
    return {"rope_type": "llama3", "factor": draw.choice([4.0, 32.0]), "low_freq_factor": low,
            "high_freq_factor": low * draw.choice([2, 4]),
            "original_max_position_embeddings": draw.choice([32, 128])}


def config_draw(draw):
    kv_heads = draw.choice([1, 2, 3])
    heads = kv_heads * draw.choice([1, 2, 3, 9])
    head_dim = draw.choice([2, 6, 8, 16, 20, 64])
    return LlamaConfig(
        hidden_size=heads * draw.choice([1, 3, 8, 11]), intermediate_size=draw.choice([7, 48, 130]),
        num_hidden_layers=draw.choice([1, 2, 3]), num_key_value_heads=kv_heads,
        num_attention_heads=heads, head_dim=head_dim,
        vocab_size=draw.choice([50, 129, 300]), max_position_embeddings=1024,
        rms_norm_eps=draw.choice([1e-6, 1e-5, 1e-3]), rope_theta=draw.choice([1e4, 5e5]),
        rope_scaling=rope_draw(draw, head_dim), tie_word_embeddings=draw.random() < 0.5,
        attention_bias=draw.random() < 0.3, mlp_bias=draw.random() < 0.3,
        bos_token_id=1, eos_token_id=2)


def model_draw(draw, folder):
    """Saves a model in one of the three dtypes; what comes back computes in f32."""
    torch.manual_seed(draw.randrange(1 << 30))
    model = LlamaForCausalLM(config_draw(draw))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    dtype = draw.choice([torch.float32, torch.float16, torch.bfloat16])
    model.to(dtype)
    model.save_pretrained(folder, max_shard_size=draw.choice(["1GB", "30KB"]))
    # Loaded afresh: .to(dtype) rounded RoPE's frequencies too, which no file holds.
    return LlamaForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval(), dtype


def answer(model, prompt):
    """Logits after the prompt, greedy tokens, and the first step whose best two nearly tie."""
    ids, tie = list(prompt), STEPS
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1]
        row = logits
        for step in range(STEPS):
            best = torch.topk(row, 2).values
            if tie == STEPS and best[0] - best[1] < TIE * row.abs().max():
                tie = step
            ids.append(int(row.argmax()))
            row = model(torch.tensor([ids])).logits[0, -1]
    return logits.tolist(), ids[len(prompt):][:tie]


def compare(program, folder, prompt, logits, greedy, isa):
    path = os.path.join(folder, "logits")
    done = subprocess.run(
        [program, "--model", folder, "--prompt-ids", ",".join(map(str, prompt)), "--ids",
         "--ignore-eos", "--max-tokens", str(STEPS), "--logits", path],
        capture_output=True, text=True, env={**os.environ, "BERTH_INFER_ISA": isa})
    if "as far as this CPU has it" in done.stderr:
        return None
    if done.returncode != 0:
        return done.stderr
    have = json.loads(pathlib.Path(path).read_text("ascii"))["logits_last"]
    error = max(abs(a - b) for a, b in zip(have, logits, strict=True)) / max(map(abs, logits))
    if not error <= TOLERANCE:
        return f"logits differ by {error:g} of the largest"
    ids = [int(i) for i in done.stdout.split()]
    return None if ids[:len(greedy)] == greedy else f"tokens {ids}; expected {greedy}"


def main(program, seed="1", count="12"):
    logging.disable_progress_bar()
    print(f"seed {seed}, {count} models")
    failures = 0
    for number in range(int(count)):
        draw = random.Random(f"{seed}/{number}")
        with tempfile.TemporaryDirectory() as folder:
            model, dtype = model_draw(draw, folder)
            prompt = [draw.randrange(model.config.vocab_size)
                      for _ in range(draw.choice([1, 5, 70, 140, 300]))]
            logits, greedy = answer(model, prompt)
            for isa in "scalar", "avx2", "avx512":
                wrong = compare(program, folder, prompt, logits, greedy, isa)
                if wrong:
                    failures += 1
                    print(f"model {number}, {dtype}, {isa}, {len(prompt)} tokens: {wrong}")
                    print(model.config)
    if not failures:
        print("all agree")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
