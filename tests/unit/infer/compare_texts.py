#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare the tokenizer of berth-infer with Hugging Face's tokenizers, live, on random texts.

    compare_texts.py path/to/berth-infer [--seed N]

The committed cases hold the known traps; this looks for the others, in many
scripts. The seed is printed and repeats the run. Exits 77 where a package is
missing.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import make_reference

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


def prompts_run(binary, folder, texts):
    """The ids that berth-infer makes of each text."""
    log = folder / "logits.jsonl"
    prompts = [argument for text in texts for argument in ("--prompt", text)]
    command = [binary, "--model", folder, "--logits", log, "--max-tokens", "0", *prompts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"berth-infer: exit {done.returncode}: {done.stderr[:2000]}")
    lines = log.read_text(encoding="utf-8").split("\n")
    return [json.loads(line)["prompt_ids"] for line in lines if line]


def tokenizer_compare(binary, name, rng, count, folder):
    """The number of texts whose ids differ."""
    from tokenizers import Tokenizer

    tokenizer_folder_make(folder, name)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    failures = 0
    for first in range(0, count, TEXTS_PER_RUN):
        texts = [text_random(rng) for _ in range(min(TEXTS_PER_RUN, count - first))]
        for text, got in zip(texts, prompts_run(binary, folder, texts), strict=True):
            want = tokenizer.encode(text).ids
            if got != want:
                print(f"{name}: {text!r} gives {got}; expected {want}")
                failures += 1
    print(f"{name}: {count} texts, {failures} differ")
    return failures


def main():
    parser = argparse.ArgumentParser(description="Compare berth-infer's tokenizer with tokenizers.")
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--texts", type=int, default=2000, help="texts per tokenizer")
    args = parser.parse_args()

    missing = make_reference.packages_missing()
    if missing:
        print(f"skipped: Python packages are missing: {' '.join(missing)}")
        return make_reference.EXIT_SKIP

    print(f"seed {args.seed}")
    failures = 0
    with tempfile.TemporaryDirectory(prefix="berth-infer-") as root:
        folder = pathlib.Path(root) / "model"
        for name in make_reference.TOKENIZER_CASES:
            rng = random.Random(args.seed)
            failures += tokenizer_compare(args.binary, name, rng, args.texts, folder)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
