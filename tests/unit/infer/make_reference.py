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

HERE = pathlib.Path(__file__).resolve().parent
SHIPPED_MODEL = HERE.parents[2] / "tools" / "infer" / "model"

EXIT_SKIP = 77

GREEDY_STEPS = 24

# A greedy step whose two best logits nearly tie would test the order of the
# sums and not the model; such a seed is not used.
MARGIN_MIN = 1e-2

# Rows are kept while they fit in about this many numbers.
ROWS_NUMBERS_MAX = 2048

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

SPECIAL_TOKENS = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|finetune_right_pad_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
]


# --- models ---------------------------------------------------------------

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


def json_write(path, value, **options):
    text = json.dumps(value, ensure_ascii=False, **options)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


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


def model_load(folder):
    """The folder as transformers reads it, computing in f32."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
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


# --- tokenizers -----------------------------------------------------------

# Words that get an entry in the vocabulary and no merges that lead there. The
# real Llama 3 vocabulary has such entries too: with ignore_merges a whole
# pre-token that is in the vocabulary wins, without it nobody ever sees them.
WORDS_WITHOUT_MERGES = ["zyzzyva", " quixotry", " Straßenbahn", "漢字", " хлебозавод", "\t\t\t"]

TOKENIZER_CASES = {
    # As of the first Llama 3 files: merges are strings.
    "tokenizer": {"ignore_merges": False, "merges": "strings", "post": "template"},
    # As of Llama 3.2 written by a present tokenizers: merges are pairs.
    "tokenizer_ignore_merges": {"ignore_merges": True, "merges": "pairs", "post": "sequence"},
}


def tokenizer_texts():
    """The texts of cases.json: what a runtime is likely to get wrong."""
    texts = [
        "",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "a",
        " a",
        "a ",
        "  a  ",
        "   leading spaces",
        "trailing spaces   ",
        "two  spaces   three    four",
        "tab\tand\t\ttabs\t\t\tand more",
        "line\nline\n\nline\n\n\nend\n",
        "dos\r\nlines\r\n\r\nend\r\n",
        "lone\rcarriage\r\rreturns",
        "spaces before newline  \n  and after",
        "space newline mix \n \n  \n",
        "\n\n  indented\n\tby tab\n",
        "mixed \t \n\t \r\n x",
        "no-break\u00a0space\u00a0\u00a0twice",
        "\u00a0 leading no-break",
        "ideographic\u3000space\u3000\u3000twice",
        "thin\u2009space, hair\u200aspace, narrow\u202fspace, ogham\u1680space",
        "line\u2028separator paragraph\u2029separator next\u0085line",
        "zero\u200bwidth\u200bspace, word\u2060joiner, \ufeffbom",
        # Once a space to Unicode, no longer.
        "mongolian  \u180e  vowel \u180e\n separator   \u180e",
        "vertical\x0btab form\x0cfeed \x1c\x1d\x1e\x1f separators",
        "soh\x01byte and bell\x07 and escape\x1b[0m and delete\x7f",
        "It's what they're saying: I'm sure we've seen what he'd do, they'll say 'tis.",
        "IT'S WHAT THEY'RE SAYING: I'M SURE WE'VE SEEN WHAT HE'D DO, THEY'LL SAY 'TIS.",
        "'s't're've'm'll'd'x'S'T'RE'VE'M'LL'D'X",
        "rock'n'roll o'clock l'été d'accord dell'arte",
        "curly it\u2019s and they\u2019ll",
        # Under Unicode's simple case folding the long s is an s.
        "it'\u017f the long s; and 'r\u0065 'l\u006c",
        "''''s ''ll 's's's",
        "1", "12", "123", "1234", "12345", "123456", "1234567",
        "1234567 12 3456 7",
        "3.14159, 1,000,000.50, -42, +7, 1e-10, 0x1F, 2026-11-20T09:57:38Z",
        "a1b22c333d4444e55555",
        "\u00b2\u00b3\u00b9 \u00bd\u00bc\u00be \u2167 \u2460\u2461\u2462\u2463 \u0663\u0664\u0665\u0666 \u096a\u096b\u096c\u096d",
        "x\u00b2+y\u00b2=z\u00b2",
        "!?... --- *** ///// ((())) [[]] {} <> <<< >>> != == => -> :: ;;",
        "hello,world!foo?bar:baz;qux",
        "hello , world ! foo",
        "!!!\n\n???\r\n...\n",
        " !\n ?\n",
        "end.\nBegin.\n\n(paren)\n",
        "snake_case camelCase PascalCase kebab-case SCREAMING_CASE",
        "_leading __double trailing_ a_b_c",
        "int main(void)\n{\n    return printf(\"%s\\n\", argv[0]);\n}\n",
        "def f(x):\n\treturn x ** 2  # comment\n",
        "{\"key\": [1, 2.5, null, true], \"s\": \"\\u00e9\"}",
        "<html><body class=\"x\">&amp;</body></html>",
        "https://example.org/path?query=1&b=%20#fragment user@example.com",
        "$HOME ~/.config C:\\Windows\\System32",
        "The weights are loaded once and read often; the cache is written at every step.",
        "the the the the the the",
        "Die Größe der Gewichte übersteigt häufig den Speicher der Grafikkarte; ÄÖÜäöüß.",
        "Straßenbahn Straßenbahn Donaudampfschifffahrtsgesellschaft",
        "L'allocateur réserve la mémoire à l'avance, où qu'elle se trouve: ça marche très bien.",
        "El niño comió piñas ¿verdad? ¡Sí! El pingüino también.",
        "A memória é alocada; não há atenção, coração, ações.",
        "Zażółć gęślą jaźń. Příliš žluťoučký kůň úpěl ďábelské ódy.",
        "Öküz, ığdır, İstanbul, şeker, çiçek, ğ.",
        "Η μνήμη δεν αρκεί ποτέ. Το μοντέλο διαβάζει τα βάρη. ΟΔΥΣΣΕΥΣ",
        "\u1f08\u03c1\u03c7\u1f74 \u1f25\u03bc\u03b9\u03c3\u03c5 \u03c0\u03b1\u03bd\u03c4\u03cc\u03c2",
        "Память быстра, но её мало. Веса лежат далеко. Съешь ещё этих мягких булок.",
        "хлебозавод и хлебозавод",
        "Пам'ять швидка, але її мало. Ґанок, їжак, єнот.",
        "内存总是不够用。模型的权重很大，激活值很小。",
        "漢字 漢字、漢字。",
        "記憶は足りない。カタカナとひらがなと漢字が混ざる。ﾊﾝｶｸ、１２３４５。",
        "메모리는 항상 부족하다. 가중치는 크고 활성값은 작다.",
        "\u1112\u1161\u11ab\u1100\u1173\u11af (decomposed Hangul)",
        "الذاكرة لا تكفي أبدا. الأوزان كبيرة، والتنشيطات صغيرة. ١٢٣٤٥",
        "السَّلَامُ عَلَيْكُمْ",
        "הזיכרון אף פעם לא מספיק. שָׁלוֹם",
        "स्मृति कभी पर्याप्त नहीं होती। भार बड़े हैं। क्षत्रिय ज्ञान",
        "মেমরি কখনো যথেষ্ট নয়। நினைவகம் போதாது. స్మృతి చాలదు.",
        "หน่วยความจำไม่เคยพอ น้ำหนักมีขนาดใหญ่",
        "Bộ nhớ không bao giờ đủ. Trọng số rất lớn. Tiếng Việt có dấu.",
        "მეხსიერება არასოდეს კმარა. Հիշողությունը երբեք չի բավարարում:",
        "\U0001f600\U0001f602\U0001f923 smile \u2764\ufe0f heart \U0001f44d\U0001f3fd thumbs",
        "family \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 flag \U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7 rainbow \U0001f3f3\ufe0f\u200d\U0001f308",
        "keycap 1\ufe0f\u20e3 2\ufe0f\u20e3 #\ufe0f\u20e3",
        "e\u0301 n\u0303 a\u030a o\u0308 combining; \u0301 alone; q\u0323\u0307",
        "Z\u0351\u036b\u0343a\u0322\u031bl\u0348\u0352g\u034bo\u0317\u030d",
        "\u00c5 \u212b A\u030a; \ufb01 \ufb02 ligatures; \u01c6 \u01f1",
        "\U0001d4d7\U0001d4ee\U0001d4f5\U0001d4f5\U0001d4f8 math \U00010348 gothic \U0002070e han extension",
        "\ue000\uf8ff private \U000f0000\U0010fffd planes",
        "\ufffd replacement \ufffe\uffff noncharacters \U0010ffff",
        "\u0378 unassigned \u2fe0",
        "\u200e\u200f\u202a\u202e\u2066\u2069 bidi marks",
        "\u20ac100 \u00a350 \u00a51000 \u20b9500 \u20bf1 10% 5\u2030 \u00b0C \u00b5m \u2126",
        "\u2200x\u2208\u211d: \u2211\u221a\u222b \u2260 \u2264 \u221e \u2192 \u21d2",
        "\u201cquoted\u201d \u2018single\u2019 \u00abguillemets\u00bb \u2013 en \u2014 em \u2026",
        "w" * 600,
        "incomprehensibilities" * 12,
        "0" * 50,
        " " * 70 + "x",
        "\n" * 40,
        "-" * 90,
        "\u00e9" * 33 + "\U0001f600" * 9,
        "zyzzyva zyzzyva quixotry quixotry\t\t\tx",
        "<|begin_of_text|>",
        "<|begin_of_text|>Hello<|end_of_text|>",
        "<|start_header_id|>user<|end_header_id|>\n\nHi there!<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "a<|eot_id|>b <|eot_id|> c  <|eot_id|>  d",
        "<|eot_id|><|eot_id|><|eot_id",
        "<|<|eot_id|>|> <|eot_id |> <|EOT_ID|> <|eot_id|",
        "don<|eot_id|>'t 123<|eot_id|>456",
        "<|unknown_token|> <|reserved_special_token_0|> <|reserved_special_token_1|>",
    ]
    return texts


def tokenizer_train(texts):
    """A small BPE, trained on the texts themselves and data/corpus.txt."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1400,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def bytes_to_vocab(text):
    """The text as byte-level BPE writes it in a vocabulary (space is U+0120)."""
    from tokenizers import pre_tokenizers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(part for part, _ in level.pre_tokenize_str(text))


def post_processor_make(kind, bos_id):
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [
            {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 1}},
            {"Sequence": {"id": "B", "type_id": 1}},
        ],
        "special_tokens": {
            "<|begin_of_text|>": {
                "id": "<|begin_of_text|>",
                "ids": [bos_id],
                "tokens": ["<|begin_of_text|>"],
            }
        },
    }
    if kind == "template":
        return template
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": False,
        "use_regex": True,
    }
    return {"type": "Sequence", "processors": [byte_level, template]}


def tokenizer_json_make(trained, case):
    """tokenizer.json as Llama 3's is built: the special tokens follow the vocabulary."""
    root = json.loads(trained.to_str())
    vocab = root["model"]["vocab"]
    for word in WORDS_WITHOUT_MERGES:
        entry = bytes_to_vocab(word)
        if entry in vocab:
            sys.exit(f"{word!r} is reached by merges; choose a rarer word")
        vocab[entry] = len(vocab)
    root["added_tokens"] = [
        {
            "id": len(vocab) + index,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, content in enumerate(SPECIAL_TOKENS)
    ]
    root["post_processor"] = post_processor_make(case["post"], len(vocab))
    root["model"]["ignore_merges"] = case["ignore_merges"]
    if case["merges"] == "strings":
        root["model"]["merges"] = [" ".join(pair) for pair in root["model"]["merges"]]
    return root


def tokenizer_cases_make(tokenizer, texts):
    cases = []
    for text in texts:
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        # Byte-level BPE loses nothing; if this fails the tokenizer is not one.
        if tokenizer.decode(plain, skip_special_tokens=False) != text:
            sys.exit(f"{text!r} does not survive encoding and decoding")
        cases.append({"text": text, "ids": tokenizer.encode(text).ids, "ids_plain": plain})
    return cases


def tokenizers_make(out):
    from tokenizers import Tokenizer

    texts = tokenizer_texts()
    corpus = (out / "corpus.txt").read_text(encoding="utf-8").split("\n")
    rare = [word.strip() for word in WORDS_WITHOUT_MERGES if word.strip()]
    rare += ["<|", "\u180e"]
    learnt = [t for t in texts if not any(w in t for w in rare)]
    trained = tokenizer_train(learnt + corpus)
    answers = []
    for name, case in TOKENIZER_CASES.items():
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        json_write(folder / "tokenizer.json", tokenizer_json_make(trained, case), indent=1)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        cases = tokenizer_cases_make(tokenizer, texts)
        lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
        (folder / "cases.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8", newline="\n")
        answers.append([c["ids"] for c in cases])
        print(f"{name}: {tokenizer.get_vocab_size()} tokens, {len(cases)} texts")
    if answers[0] == answers[1]:
        sys.exit("ignore_merges makes no difference to any text")


def tokenizer_check(name, out):
    from tokenizers import Tokenizer

    folder = out / name
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    failures = 0
    for case in cases:
        plain = tokenizer.encode(case["text"], add_special_tokens=False).ids
        if plain != case["ids_plain"] or tokenizer.encode(case["text"]).ids != case["ids"]:
            print(f"{name}: {case['text']!r} gives {plain}; expected {case['ids_plain']}")
            failures += 1
    if not failures:
        print(f"{name}: {len(cases)} texts agree")
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
