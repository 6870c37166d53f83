#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make, or check, the reference data that the berth-infer unit tests read.

The expected values come from an independent implementation: torch and
transformers for the decoder, Hugging Face's tokenizers for the tokenizer.
They are committed, so the C tests need none of these packages.

    make_reference.py            writes data/ afresh
    make_reference.py --check    recomputes everything from the committed
                                 folders and compares; exits 77 where the
                                 packages are missing

Each data/<case>/ is a tiny LlamaForCausalLM with random weights, laid out as
Hugging Face lays out a model (config.json and one or more safetensors files),
and an expected.json:

    prompt_ids   the prompt
    greedy_ids   the ids that greedy decoding appends to it
    logits_last  the logits at the last position of the prompt
    logits_rows  the logits at every position (short prompts only)

The weights are rounded to the stored type first and the logits are computed
in f32 from the rounded weights, so a runtime that computes in f32 has nothing
to lose against them but the order of its sums.

data/tokenizer*/ hold a byte-level BPE with Llama 3's pre-tokenizer and
cases.json: text, ids (with the special tokens that the post-processor adds)
and ids_plain (without).

data/shipped/expected.json holds what transformers answers with the model that
the tree ships with, tools/infer/model: a list of {text, prompt_ids, greedy_ids}
and, for the first prompt, logits_last.
"""

import argparse
import json
import pathlib
import sys

from reference_cases import MODEL_CASES
from reference_tokenizers import TOKENIZER_CASES, json_write, tokenizer_check, tokenizers_make

HERE = pathlib.Path(__file__).resolve().parent
SHIPPED_MODEL = HERE.parents[2] / "tools" / "infer" / "model"

EXIT_SKIP = 77

GREEDY_STEPS = 24

# A greedy step whose two best logits nearly tie would test the order of the
# sums and not the model; such a seed is not used.
MARGIN_MIN = 1e-2

# Rows are kept while they fit in about this many numbers.
ROWS_NUMBERS_MAX = 2048


# --- models ---------------------------------------------------------------


def weights_make(case, seed):
    """Random weights by name, as f32 tensors already rounded to the stored type.

    NumPy's PCG64 is specified, so the same seed gives the same weights
    whatever the version of torch. Standard deviations are far above a real
    initialisation: tiny networks with small weights answer nearly the same
    logits to everything, and then no test can fail.
    """
    import numpy
    import torch

    rng = numpy.random.Generator(numpy.random.PCG64(seed))
    shape = case["shape"]
    hidden, inter = shape["hidden"], shape["inter"]
    q_rows = shape["heads"] * shape["head_dim"]
    kv_rows = shape["kv_heads"] * shape["head_dim"]
    stored = getattr(torch, case["dtype"])

    def normal(std, *dims):
        values = rng.standard_normal(dims).astype(numpy.float32) * numpy.float32(std)
        return torch.from_numpy(values).to(stored)

    def norm_weight():
        values = 1.0 + 0.2 * rng.standard_normal(hidden).astype(numpy.float32)
        return torch.from_numpy(values.astype(numpy.float32)).to(stored)

    weights = {"model.embed_tokens.weight": normal(0.5, shape["vocab"], hidden)}
    for layer in range(shape["layers"]):
        prefix = f"model.layers.{layer}."
        weights[prefix + "input_layernorm.weight"] = norm_weight()
        weights[prefix + "self_attn.q_proj.weight"] = normal(0.35, q_rows, hidden)
        weights[prefix + "self_attn.k_proj.weight"] = normal(0.35, kv_rows, hidden)
        weights[prefix + "self_attn.v_proj.weight"] = normal(0.3, kv_rows, hidden)
        weights[prefix + "self_attn.o_proj.weight"] = normal(0.3, hidden, q_rows)
        weights[prefix + "post_attention_layernorm.weight"] = norm_weight()
        weights[prefix + "mlp.gate_proj.weight"] = normal(0.3, inter, hidden)
        weights[prefix + "mlp.up_proj.weight"] = normal(0.3, inter, hidden)
        weights[prefix + "mlp.down_proj.weight"] = normal(0.2, hidden, inter)
    if case.get("bias"):
        for name in [n for n in weights if n.endswith("_proj.weight")]:
            weights[name.replace("weight", "bias")] = normal(0.5, weights[name].shape[0])
    weights["model.norm.weight"] = norm_weight()
    if not case["tied"]:
        weights["lm_head.weight"] = normal(0.3, shape["vocab"], hidden)
    return weights


def config_make(case):
    """config.json as a dict, keys sorted as transformers sorts them."""
    shape = case["shape"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape["hidden"],
        "intermediate_size": shape["inter"],
        "num_attention_heads": shape["heads"],
        "num_hidden_layers": shape["layers"],
        "vocab_size": shape["vocab"],
        "dtype" if case.get("v5") else "torch_dtype": case["dtype"],
    }
    config.update(case["config"])
    return dict(sorted(config.items()))


def model_save(folder, case, weights):
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    json_write(folder / "config.json", config_make(case), indent=2)

    shards = case.get("shards", 1)
    names = list(weights)
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map = {}
    for shard in range(shards):
        file_name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        # Strided on purpose: the tensors of one layer lie in different files.
        part = {name: weights[name] for name in names[shard::shards]}
        save_file(part, folder / file_name, metadata={"format": "pt"})
        weight_map.update({name: file_name for name in part})
    size = sum(t.numel() * t.element_size() for t in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    json_write(folder / "model.safetensors.index.json", index, indent=2)


def config_load(folder):
    """config.json for a transformers that may be older than the spelling that the case has."""
    import transformers

    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "rope_parameters" in raw and int(transformers.__version__.split(".")[0]) < 5:
        rope = raw.pop("rope_parameters")
        raw["rope_theta"] = rope.pop("rope_theta")
        raw["rope_scaling"] = rope
    return transformers.LlamaConfig.from_dict(raw)


def model_load(folder):
    """The folder as transformers reads it, computing in f32."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(
        folder, config=config_load(folder), torch_dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


def prompt_make(case, seed):
    import numpy

    rng = numpy.random.Generator(numpy.random.PCG64(seed + 1))
    return [int(i) for i in rng.integers(3, case["shape"]["vocab"], case["prompt_len"])]


def model_answer(model, prompt_ids, steps=GREEDY_STEPS):
    """(logits of every prompt position, greedy ids, relative margin of each step).

    Every step recomputes the whole sequence: no KV cache, hence no chance of
    sharing a mistake with one.
    """
    import torch

    ids = list(prompt_ids)
    margins = []
    rows = None
    with torch.no_grad():
        for _ in range(steps):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
            if rows is None:
                rows = logits
            best = torch.topk(logits[-1], 2).values
            scale = logits[-1].abs().max()
            margins.append(float((best[0] - best[1]) / scale))
            ids.append(int(torch.argmax(logits[-1])))
    return rows.numpy(), ids[len(prompt_ids):], margins


def scaling_matters(model, prompt_ids, rows):
    """True if leaving out the scaling of any one band changes the last logits.

    The three bands are: short wavelengths stay, long ones are divided by the
    factor, those between are blended. For the first, dividing it changes the
    result; for the other two, not scaling does.
    """
    import math

    import torch

    rope = model.config.to_dict()["rope_parameters"]
    inv_freq = model.model.rotary_emb.inv_freq
    head_dim = 2 * inv_freq.numel()
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    plain = 1.0 / (rope["rope_theta"] ** exponents)
    wavelengths = 2 * math.pi / plain
    context = rope["original_max_position_embeddings"]
    is_long = wavelengths > context / rope["low_freq_factor"]
    is_short = wavelengths < context / rope["high_freq_factor"]
    wrong = (
        (is_short, plain / rope["factor"]),
        (is_long, plain),
        (~is_long & ~is_short, plain),
        (~is_long & ~is_short, plain / rope["factor"]),
    )
    saved = inv_freq.clone()
    scale = abs(rows[-1]).max()
    ok = True
    for band, values in wrong:
        if not bool(band.any()):
            return False
        inv_freq.copy_(torch.where(band, values, saved))
        with torch.no_grad():
            last = model(input_ids=torch.tensor([prompt_ids]), use_cache=False).logits[0, -1]
        ok = ok and abs(last.numpy() - rows[-1]).max() / scale > 0.05
    inv_freq.copy_(saved)
    return ok


def numbers_round_trip(values):
    """f32 values as the shortest decimals that read back as the same f32."""
    return [float(str(value)) for value in values]


def model_case_make(name, case, out):
    """Writes the case, with the first seed whose answers are worth a test."""
    folder = out / name
    for seed in range(1000, 1200):
        model_save(folder, case, weights_make(case, seed))
        model = model_load(folder)
        prompt_ids = prompt_make(case, seed)
        rows, greedy_ids, margins = model_answer(model, prompt_ids)
        if min(margins) < MARGIN_MIN or len(set(greedy_ids)) < GREEDY_STEPS * 2 // 3:
            continue
        # A runtime stops at an end token; the test of a decoder must not.
        eos = case["config"]["eos_token_id"]
        if not set(greedy_ids).isdisjoint(eos if isinstance(eos, list) else [eos]):
            continue
        if "original_max_position_embeddings" in json.dumps(case["config"]):
            if not scaling_matters(model, prompt_ids, rows):
                continue
        break
    else:
        sys.exit(f"{name}: no seed gives clear answers")

    expected = {
        "seed": seed,
        "prompt_ids": prompt_ids,
        "greedy_ids": greedy_ids,
        "logits_last": numbers_round_trip(rows[-1]),
    }
    if rows.size <= ROWS_NUMBERS_MAX:
        expected["logits_rows"] = [numbers_round_trip(row) for row in rows]
    json_write(folder / "expected.json", expected, separators=(",", ":"))
    print(
        f"{name}: seed {seed}, smallest margin {min(margins):.4f},"
        f" {len(set(greedy_ids))} distinct ids"
    )


def model_case_check(name, out):
    """The number of differences between the committed case and a live run."""
    import numpy

    folder = out / name
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    rows, greedy_ids, _ = model_answer(model_load(folder), expected["prompt_ids"])
    want = numpy.array(expected.get("logits_rows", [expected["logits_last"]]), numpy.float32)
    got = rows if "logits_rows" in expected else rows[-1:]
    error = float(abs(got - want).max() / abs(want).max())
    failures = 0
    if error > 1e-4:
        print(f"{name}: logits differ by {error:.2e} relative to the largest; expected at most 1e-4")
        failures += 1
    if greedy_ids != expected["greedy_ids"]:
        print(f"{name}: greedy ids {greedy_ids}; expected {expected['greedy_ids']}")
        failures += 1
    if not failures:
        print(f"{name}: agrees, largest logit error {error:.1e}")
    return failures


# --- the shipped model ----------------------------------------------------

SHIPPED_PROMPTS = [
    "In the beginning",
    "And the king said unto his servants,",
    "Blessed are they that",
    "The ship went out of the harbour, and",
]

SHIPPED_STEPS_MAX = 64

# A trained model has no seed to choose: its answer is taken up to the first
# step that nearly ties.
SHIPPED_MARGIN_MIN = 2e-4


def shipped_make(out):
    from tokenizers import Tokenizer

    model = model_load(SHIPPED_MODEL)
    tokenizer = Tokenizer.from_file(str(SHIPPED_MODEL / "tokenizer.json"))
    answers = []
    for text in SHIPPED_PROMPTS:
        prompt_ids = tokenizer.encode(text).ids
        rows, greedy_ids, margins = model_answer(model, prompt_ids, SHIPPED_STEPS_MAX)
        ties = [step for step, margin in enumerate(margins) if margin < SHIPPED_MARGIN_MIN]
        ends = [s + 1 for s, i in enumerate(greedy_ids) if i == model.config.eos_token_id]
        greedy_ids = greedy_ids[: min([*ties, *ends, SHIPPED_STEPS_MAX])]
        answers.append({"text": text, "prompt_ids": prompt_ids, "greedy_ids": greedy_ids})
        if len(answers) == 1:
            answers[0]["logits_last"] = numbers_round_trip(rows[-1])
        print(f"shipped: {len(greedy_ids)} ids: {tokenizer.decode(prompt_ids + greedy_ids)!r}")
    (out / "shipped").mkdir(parents=True, exist_ok=True)
    json_write(out / "shipped" / "expected.json", answers, separators=(",", ":"))


def shipped_check(out):
    import numpy
    from tokenizers import Tokenizer

    model = model_load(SHIPPED_MODEL)
    tokenizer = Tokenizer.from_file(str(SHIPPED_MODEL / "tokenizer.json"))
    answers = json.loads((out / "shipped" / "expected.json").read_text(encoding="utf-8"))
    failures = 0
    for answer in answers:
        prompt_ids, want = answer["prompt_ids"], answer["greedy_ids"]
        rows, greedy_ids, _ = model_answer(model, prompt_ids, len(want))
        logits = numpy.array(answer.get("logits_last", rows[-1]), numpy.float32)
        error = float(abs(rows[-1] - logits).max() / abs(logits).max())
        if tokenizer.encode(answer["text"]).ids != prompt_ids or greedy_ids != want or error > 1e-4:
            print(f"shipped: {answer['text']!r} gives {greedy_ids}; expected {want}")
            failures += 1
    if not failures:
        print(f"shipped: {len(answers)} prompts agree")
    return failures


# --- main -----------------------------------------------------------------


def packages_missing():
    missing = []
    for package in ("numpy", "safetensors", "tokenizers", "torch", "transformers"):
        try:
            __import__(package)
        except ImportError:
            missing.append(package)
    return missing


def main():
    parser = argparse.ArgumentParser(
        description="Make, or check, the reference data of the berth-infer unit tests.",
        epilog="With neither --only nor --check everything under --out is written afresh.",
    )
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "data", help="the data folder")
    parser.add_argument("--check", action="store_true", help="compare instead of write; 77: skipped")
    parser.add_argument(
        "--only", choices=[*MODEL_CASES, "shipped", "tokenizers"], help="this case and no other"
    )
    args = parser.parse_args()

    missing = packages_missing()
    if missing:
        print(f"skipped: Python packages are missing: {' '.join(missing)}")
        return EXIT_SKIP if args.check else 1

    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    names = [name for name in MODEL_CASES if args.only in (None, name)]
    with_shipped = args.only in (None, "shipped")
    with_tokenizers = args.only in (None, "tokenizers")
    if not args.check:
        for name in names:
            model_case_make(name, MODEL_CASES[name], args.out)
        if with_shipped:
            shipped_make(args.out)
        if with_tokenizers:
            tokenizers_make(args.out)
        return 0
    failures = sum(model_case_check(name, args.out) for name in names)
    if with_shipped:
        failures += shipped_check(args.out)
    if with_tokenizers:
        failures += sum(tokenizer_check(name, args.out) for name in TOKENIZER_CASES)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
