#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decoding speed of berth-infer: natively and under a command, in turn, in one run.

usage: infer_decode.py BERTH-INFER [--model DIR] [--megabytes N] [--tokens N] [--rounds N]
                       [--threads N] [-- WRAPPER...]

Without --model, a model with random bf16 weights of about N megabytes (256) is written to a
temporary folder: larger than the caches, as real ones are. WRAPPER is what is put before the
command, for example `berth run --policy FILE --`; without one, only the native figures are told.
Every run decodes the same tokens; an answer that differs ends the benchmark.
"""

import argparse
import array
import json
import os
import random
import statistics
import struct
import subprocess
import sys
import tempfile

HIDDEN, HEAD_DIM, HEADS, KV_HEADS, INNER, VOCAB = 1024, 64, 16, 4, 2816, 8192
LAYER = [("self_attn.q_proj", HIDDEN, HIDDEN), ("self_attn.k_proj", KV_HEADS * HEAD_DIM, HIDDEN),
         ("self_attn.v_proj", KV_HEADS * HEAD_DIM, HIDDEN), ("self_attn.o_proj", HIDDEN, HIDDEN),
         ("mlp.gate_proj", INNER, HIDDEN), ("mlp.up_proj", INNER, HIDDEN),
         ("mlp.down_proj", HIDDEN, INNER)]
LAYER_BYTES = 2 * sum(rows * cols for _, rows, cols in LAYER)


def shapes(layers):
    yield "model.embed_tokens.weight", [VOCAB, HIDDEN]
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", [HIDDEN]
        yield prefix + "post_attention_layernorm.weight", [HIDDEN]
        for name, rows, cols in LAYER:
            yield f"{prefix}{name}.weight", [rows, cols]
    yield "model.norm.weight", [HIDDEN]


def bf16(value):
    return struct.unpack("<I", struct.pack("<f", value))[0] >> 16


def model_write(folder, megabytes):
    """The speed does not depend on the values, so one random stretch serves all matrices."""
    layers = max(1, round(((megabytes << 20) - 2 * VOCAB * HIDDEN) / LAYER_BYTES))
    generator = random.Random(1)
    stretch = array.array("H", (bf16(generator.gauss(0, 0.03)) for _ in range(1 << 16)))
    ones = array.array("H", [bf16(1.0)] * HIDDEN)
    header, offset = {}, 0
    for name, shape in shapes(layers):
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape in shapes(layers):
            if len(shape) == 1:
                file.write(ones.tobytes())
                continue
            left = 2 * shape[0] * shape[1]
            while left > 0:
                file.write(stretch.tobytes()[:left])
                left -= 2 * len(stretch)
    with open(os.path.join(folder, "config.json"), "w", encoding="ascii") as file:
        json.dump({"model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
                   "num_hidden_layers": layers, "num_attention_heads": HEADS,
                   "num_key_value_heads": KV_HEADS, "vocab_size": VOCAB, "rope_theta": 500000.0,
                   "max_position_embeddings": 4096, "tie_word_embeddings": True}, file)


def decode(command):
    """One run: its answer and its statistics."""
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr.decode()}")
    rows = dict(line.split(": ", 1) for line in done.stderr.decode().splitlines() if ": " in line)
    return done.stdout, {
        "tokens/s": float(rows["decode, median step"].split(", ")[1].split()[0]),
        "GB/s": float(rows["decode reads"].split()[0]),
        "machine GB/s": float(rows["machine reads"].split()[0]),
        "fraction": float(rows["fraction of the machine"]),
        "load s": float(rows["load"].split()[0]),
    }


def table(samples):
    print(f"{'':10}" + "".join(f"{column:>14}" for column in next(iter(samples.values()))[0]))
    for name, rows in samples.items():
        medians = [statistics.median(row[column] for row in rows) for column in rows[0]]
        print(f"{name:10}" + "".join(f"{value:14.3f}" for value in medians))


def measure(arguments, wrapper, model):
    command = [arguments.program, "--model", model, "--prompt-ids", "1,2,3,4,5,6,7,8", "--ids",
               "--ignore-eos", "--max-tokens", str(arguments.tokens), "--stats"]
    if arguments.threads:
        command += ["--threads", str(arguments.threads)]
    variants = {"native": command}
    if wrapper:
        variants["wrapped"] = wrapper + command
    samples = {name: [] for name in variants}
    answers = set()
    for turn in range(arguments.rounds):
        # Each goes first as often as the other.
        for name in sorted(variants, reverse=turn % 2 == 1):
            answer, row = decode(variants[name])
            answers.add(answer)
            samples[name].append(row)
            if len(answers) > 1:
                sys.exit(f"{name}: the answer differs from the one before")
    table(samples)
    if wrapper:
        ratios = [wrapped["tokens/s"] / native["tokens/s"]
                  for native, wrapped in zip(samples["native"], samples["wrapped"])]
        print(f"wrapped over native, median of {len(ratios)} pairs: {statistics.median(ratios):.3f}")


def main():
    line = sys.argv[1:]
    wrapper = line[line.index("--") + 1:] if "--" in line else []
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--model")
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args(line[:line.index("--")] if "--" in line else line)
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.model:
            model_write(folder, arguments.megabytes)
        measure(arguments, wrapper, arguments.model or folder)


if __name__ == "__main__":
    main()
