#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare berth-infer with transformers and tokenizers, live, on random input.

    compare_live.py path/to/berth-infer [--seed N]

Random tiny models of every stored type and shape go through both decoders,
random texts in many scripts through both tokenizers. The committed reference
data hold the known traps; this looks for the others. The seed is printed and
repeats the run. Exits 77 where a package is missing.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import make_reference

# Of the largest logit. Both sides compute in f32 and differ in the order of their sums.
LOGIT_ERROR_MAX = 1e-4

STEPS = 16

# A greedy step that nearly ties may go either way; the comparison stops there.
MARGIN_MIN = 1e-3

# Fits one argument list of the kernel's smallest limit.
TEXTS_PER_RUN = 400

# First and last code point of the blocks that texts are drawn from.
BLOCKS = [
    (0x20, 0x7E), (0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x36F), (0x370, 0x3FF),
    (0x400, 0x52F), (0x531, 0x58F), (0x591, 0x5F4), (0x600, 0x6FF), (0x900, 0x9FF),
    (0xB80, 0xBFF), (0xE00, 0xE7F), (0x10A0, 0x11FF), (0x1E00, 0x22FF), (0x2460, 0x27BF),
    (0x3000, 0x30FF), (0x3400, 0x3500), (0x4E00, 0x9FFF), (0xA000, 0xA4CF), (0xAC00, 0xD7A3),
    (0xE000, 0xE0FF), (0xF900, 0xFDFF), (0xFE00, 0xFFFF), (0x10000, 0x103FF),
    (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x20100), (0xE0000, 0xE01EF),
]

SPACES = [*" " * 12, *"\n" * 5, *["\r\n"] * 3] + list(
    "\t\t\r\x0b\x0c\x1c\x85\u00a0\u1680\u180e\u2003\u2028\u2029\u202f\u205f\u3000\u200b\ufeff"
)

FRAGMENTS = ["'s", "'S", "'re", "'LL", "'ve", "'m", "'t", "'d", "'\u017f", "'", "''", " ", "  ",
             "<|eot_id|>", "<|begin_of_text|>", "<|eot", "|>", "1", "22", "333", "4444", "\u00b2"]


# --- texts ----------------------------------------------------------------


def part_random(rng):
    kind = rng.randrange(10)
    if kind < 2:
        return "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 5)))
    if kind < 4:
        return rng.choice(FRAGMENTS)
    if kind == 4:
        return "".join(rng.choice("!?.,-_/*()[]{}<>=+'\"") for _ in range(rng.randint(1, 5)))
    if kind == 5:
        return "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 8)))
    first, last = rng.choice(BLOCKS)
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randint(1, 9)))


def text_random(rng):
    # 0xD7A4 to 0xDFFF lie in no block, so every text is valid Unicode.
    return "".join(part_random(rng) for _ in range(rng.randint(1, 14)))


def tokenizer_folder_make(folder, name):
    """A model too small to matter, with a reference tokenizer: the binary wants a whole model."""
    source = make_reference.HERE / "data" / name / "tokenizer.json"
    shape = dict(hidden=8, inter=8, layers=1, heads=1, kv_heads=1, head_dim=8, vocab=1424)
    config = {"max_position_embeddings": 2048, "tie_word_embeddings": True}
    case = {"dtype": "float32", "shape": shape, "tied": True, "config": config}
    make_reference.model_save(folder, case, make_reference.weights_make(case, 1))
    (folder / "tokenizer.json").write_bytes(source.read_bytes())


def tokenizer_compare(binary, name, rng, count, folder):
    """The number of texts whose ids differ."""
    from tokenizers import Tokenizer

    tokenizer_folder_make(folder, name)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    failures = 0
    for first in range(0, count, TEXTS_PER_RUN):
        texts = [text_random(rng) for _ in range(min(TEXTS_PER_RUN, count - first))]
        prompts = [argument for text in texts for argument in ("--prompt", text)]
        answers = binary_run(binary, folder, [*prompts, "--max-tokens", "0"])[1]
        for text, answer in zip(texts, answers, strict=True):
            want = tokenizer.encode(text).ids
            if answer["prompt_ids"] != want:
                print(f"{name}: {text!r} gives {answer['prompt_ids']}; expected {want}")
                failures += 1
    print(f"{name}: {count} texts, {failures} differ")
    return failures


# --- models ---------------------------------------------------------------


def case_random(rng):
    """A case as make_reference.py describes them."""
    kv_heads, group, head_dim = rng.randint(1, 3), rng.randint(1, 4), 2 * rng.randint(2, 18)
    shape = dict(
        # transformers insists on a multiple, whatever head_dim says.
        hidden=kv_heads * group * rng.randint(3, 12),
        inter=rng.randint(9, 150),
        layers=rng.randint(1, 3),
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=rng.randint(70, 300),
    )
    case = {
        "dtype": rng.choice(["float32", "bfloat16", "float16"]),
        "prompt_len": rng.randint(1, 90),
        "shards": rng.randint(1, 4),
        "shape": shape,
        "tied": rng.random() < 0.5,
        "bias": rng.random() < 0.3,
        "v5": rng.random() < 0.5,
    }
    case["config"] = {
        "attention_bias": case["bias"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": head_dim,
        "max_position_embeddings": 512,
        "mlp_bias": case["bias"],
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": rng.choice([1e-5, 1e-6]),
        "tie_word_embeddings": case["tied"],
        **rope_random(rng, case["v5"]),
    }
    return case


def rope_random(rng, is_v5):
    theta = rng.choice([1000.0, 10000.0, 500000.0])
    low = rng.choice([1.0, 1.5])
    scaling = None
    if rng.random() < 0.6:
        scaling = {
            "factor": rng.choice([4.0, 8.0, 32.0]),
            "high_freq_factor": low + rng.choice([1.0, 3.0]),
            "low_freq_factor": low,
            "original_max_position_embeddings": rng.choice([16, 32, 64]),
            "rope_type": "llama3",
        }
    if is_v5:
        return {"rope_parameters": {**(scaling or {"rope_type": "default"}), "rope_theta": theta}}
    return {"rope_scaling": scaling, "rope_theta": theta}


def binary_run(binary, folder, arguments, isa=None):
    """(the lines on stdout, the answers of --logits)"""
    log = folder / "logits.jsonl"
    command = [binary, "--model", folder, "--logits", log, "--threads", "2", *arguments]
    environment = {**os.environ, "BERTH_INFER_ISA": isa} if isa else None
    done = subprocess.run(
        [str(a) for a in command], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode != 0:
        sys.exit(f"berth-infer: exit {done.returncode}: {done.stderr[:2000]}")
    lines = log.read_text(encoding="utf-8").split("\n")
    return done.stdout.split("\n"), [json.loads(line) for line in lines if line]


def isas_here():
    """The instruction sets that this CPU can be asked to run."""
    flags = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    wanted = {"avx2": {"avx2", "fma", "f16c"}, "avx512": {"avx512f", "avx512bw", "avx512vl"}}
    return ["scalar", *(isa for isa, needed in wanted.items() if needed <= set(flags))]


def model_compare(binary, seed, folder):
    """The number of instruction sets that give another answer than transformers."""
    import numpy

    rng = random.Random(seed)
    case = case_random(rng)
    make_reference.model_save(folder, case, make_reference.weights_make(case, seed))
    prompt_ids = make_reference.prompt_make(case, seed)
    model = make_reference.model_load(folder)
    rows, greedy_ids, margins = make_reference.model_answer(model, prompt_ids, STEPS)
    clear = next((i for i, margin in enumerate(margins) if margin < MARGIN_MIN), STEPS)
    failures = 0
    for isa in isas_here():
        arguments = ["--prompt-ids", ",".join(map(str, prompt_ids)), "--ids", "--ignore-eos"]
        lines, answers = binary_run(binary, folder, [*arguments, "--max-tokens", STEPS], isa)
        got = numpy.array(answers[0]["logits_last"], numpy.float32)
        error = float(abs(got - rows[-1]).max() / abs(rows[-1]).max())
        ids = [int(i) for i in lines[0].replace(",", " ").split()]
        if error > LOGIT_ERROR_MAX or ids[:clear] != greedy_ids[:clear]:
            print(f"model of seed {seed}, {isa}: logit error {error:.1e}, ids {ids};"
                  f" expected {greedy_ids}, clear for {clear}: {case}")
            failures += 1
    return failures


def main():
    parser = argparse.ArgumentParser(description="Compare berth-infer with the Python packages.")
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--texts", type=int, default=2000, help="texts per tokenizer")
    parser.add_argument("--models", type=int, default=12)
    args = parser.parse_args()

    missing = make_reference.packages_missing()
    if missing:
        print(f"skipped: Python packages are missing: {' '.join(missing)}")
        return make_reference.EXIT_SKIP

    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"seed {args.seed}")
    failures = 0
    with tempfile.TemporaryDirectory(prefix="berth-infer-") as root:
        folder = pathlib.Path(root) / "model"
        for name in make_reference.TOKENIZER_CASES:
            rng = random.Random(args.seed)
            failures += tokenizer_compare(args.binary, name, rng, args.texts, folder)
        for index in range(args.models):
            failures += model_compare(args.binary, args.seed + index, folder)
    print(f"{args.models} models compared; {failures} differences in all")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
