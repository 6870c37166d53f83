#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train the small Llama-format model that berth-infer ships with.

The text is the King James Version of the Bible, whose copyright has expired,
from the Debian packages bible-kjv (the reader that prints it) and
bible-kjv-text (the text). Any other text can be named with --text: one
paragraph per line, an empty line between documents.

    apt-get install bible-kjv
    pip install "torch>=2.9" tokenizers safetensors numpy
    train.py --bf16 --out DIR

DIR gets config.json, generation_config.json, tokenizer.json, model.safetensors
(bf16) and training.json (what README.md quotes). A checkpoint is kept beside
them while training runs; --resume goes on from there. The same seed gives the
same run on the same machine and version of torch; elsewhere the sums differ
in their last bits and the model is another one of the same quality.
"""

import argparse
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"

# Llama 3's special tokens that a chat runtime may look for.
SPECIAL_TOKENS = [BOS, EOS, "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"]

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# One document in this many is never trained on.
HELD_OUT_EVERY = 25


# --- text -----------------------------------------------------------------


def text_from_package():
    """The chapters as lists of verses, without their numbers and headings."""
    reader = shutil.which("bible")
    if reader is None:
        sys.exit("bible: not found; expected Debian's bible-kjv, or --text FILE")
    command = [reader, "-l0", "gen1:1-rev22:21"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    documents = []
    for line in output.split("\n"):
        verse = re.fullmatch(r"\s+(\d+) (.*\S)\s*", line)
        if verse is None:
            continue
        if verse[1] == "1":
            documents.append([])
        documents[-1].append(re.sub(r"\s+", " ", verse[2]))
    return documents


def text_from_file(path):
    documents = [[]]
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.strip():
            documents[-1].append(line.strip())
        elif documents[-1]:
            documents.append([])
    return [document for document in documents if document]


# --- tokenizer ------------------------------------------------------------


def tokenizer_train(documents, vocab_size):
    """A byte-level BPE with Llama 3's pre-tokenizer; special tokens come last."""
    from tokenizers import AddedToken, Regex, Tokenizer
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(("\n".join(d) for d in documents), trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in SPECIAL_TOKENS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS}:1 $B:1",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    if tokenizer.get_vocab_size() != vocab_size:
        sys.exit(f"the text gives {tokenizer.get_vocab_size()} tokens; expected {vocab_size}")
    return tokenizer


class Stream:
    """Documents as one run of ids, and where a paragraph may be entered.

    Training rows start with the begin token at any paragraph, as a prompt
    does, and run on over the ends of documents.
    """

    def __init__(self, documents, tokenizer):
        import torch

        bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
        ids, starts = [], []
        for document in documents:
            ids.append(bos)
            for index, paragraph in enumerate(document):
                # The newline belongs to the last token of the paragraph
                # before it: the pre-tokenizer keeps punctuation and the
                # newlines after it together.
                last = index == len(document) - 1
                text = paragraph if last else paragraph + "\n"
                starts.append(len(ids))
                ids.extend(tokenizer.encode(text, add_special_tokens=False).ids)
            ids.append(eos)
        self.ids = torch.tensor(ids)
        self.starts = torch.tensor(starts)
        self.bos = bos
        self.chars = sum(len(p) + 1 for d in documents for p in d)

    def batch(self, rows, context, generator):
        """Inputs and targets of rows that each begin at a random paragraph."""
        import torch

        usable = self.starts[self.starts + context < len(self.ids)]
        picks = usable[torch.randint(len(usable), (rows,), generator=generator)]
        body = self.ids[picks[:, None] + torch.arange(context)]
        inputs = torch.cat((torch.full((rows, 1), self.bos), body[:, :-1]), dim=1)
        return inputs, body

    def windows(self, context):
        """The whole stream once, cut into rows: for the held-out loss."""
        count = (len(self.ids) - 1) // context
        inputs = self.ids[: count * context].view(count, context)
        targets = self.ids[1 : count * context + 1].view(count, context)
        return inputs, targets


# --- model ----------------------------------------------------------------


def config_make(args, tokenizer):
    """config.json. llama3 scaling is on, so that the shipped model exercises it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.token_to_id(BOS),
        "eos_token_id": tokenizer.token_to_id(EOS),
        "head_dim": args.dim // args.heads,
        "hidden_act": "silu",
        "hidden_size": args.dim,
        "initializer_range": 0.02,
        "intermediate_size": args.inter,
        "max_position_embeddings": args.positions,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": args.heads,
        "num_hidden_layers": args.layers,
        "num_key_value_heads": args.kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 4.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 256,
            "rope_type": "llama3",
        },
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": args.vocab,
    }


def loss_sum(model, inputs, targets, autocast):
    import torch
    import torch.nn.functional as F

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = model(inputs)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum")


def held_out_loss(model, stream, context, autocast):
    """Nats per token and bits per character over the whole held-out stream."""
    import torch

    inputs, targets = stream.windows(context)
    model.eval()
    total = 0.0
    with torch.no_grad():
        for row in range(0, len(inputs), 8):
            part = slice(row, row + 8)
            total += loss_sum(model, inputs[part], targets[part], autocast).item()
    model.train()
    nats = total / targets.numel()
    return nats, nats / math.log(2) * len(stream.ids) / stream.chars


def sample(model, tokenizer, prompt, length, temperature, generator):
    """A continuation of the prompt; temperature 0 is greedy."""
    import torch

    ids = tokenizer.encode(prompt).ids
    model.eval()
    with torch.no_grad():
        for _ in range(length):
            logits = model(torch.tensor([ids[-model.config["max_position_embeddings"]:]]))[0, -1]
            if temperature == 0:
                best = int(logits.argmax())
            else:
                chances = torch.softmax(logits / temperature, dim=-1)
                best = int(torch.multinomial(chances, 1, generator=generator))
            if best == model.config["eos_token_id"]:
                break
            ids.append(best)
    model.train()
    return tokenizer.decode(ids, skip_special_tokens=True)


def learning_rate_at(step, steps, warmup):
    """The fraction of the peak: a linear rise, then half a cosine to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def optimizers_make(model, args):
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms.

    In 200 steps Muon gets to 3.85 nats/token where AdamW alone gets to 4.25.
    """
    import torch

    inner = [p for n, p in model.named_parameters() if p.dim() == 2 and ".layers." in n]
    embed = [p for n, p in model.named_parameters() if p.dim() == 2 and ".layers." not in n]
    norms = [p for p in model.parameters() if p.dim() < 2]
    adamw = torch.optim.AdamW(
        [
            {"params": embed, "weight_decay": args.weight_decay},
            {"params": norms, "weight_decay": 0.0},
        ],
        lr=args.lr,
        betas=(0.9, 0.95),
    )
    # Scaled so that an update is as large as AdamW's at the same rate.
    muon = torch.optim.Muon(
        inner,
        lr=args.matrix_lr,
        weight_decay=args.weight_decay,
        momentum=0.95,
        adjust_lr_fn="match_rms_adamw",
    )
    for optimizer in (adamw, muon):
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return [adamw, muon]


# --- files ----------------------------------------------------------------


def file_replace(path, write):
    """Writes beside the file and renames, so that a reader never sees half of one."""
    fresh = path.with_name(path.name + ".new")
    write(fresh)
    os.replace(fresh, path)


def json_write(path, value):
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    file_replace(path, lambda fresh: fresh.write_text(text, encoding="utf-8"))


def model_export(out, model, tokenizer, report):
    import torch
    from safetensors.torch import save_file

    weights = {name: p.detach().to(torch.bfloat16) for name, p in model.named_parameters()}
    config = model.config
    json_write(out / "config.json", config)
    json_write(
        out / "generation_config.json",
        {
            "bos_token_id": config["bos_token_id"],
            "do_sample": True,
            "eos_token_id": config["eos_token_id"],
            "temperature": 0.8,
            "top_p": 0.95,
        },
    )
    file_replace(
        out / "model.safetensors",
        lambda fresh: save_file(weights, fresh, metadata={"format": "pt"}),
    )
    file_replace(out / "tokenizer.json", lambda fresh: tokenizer.save(str(fresh)))
    json_write(out / "training.json", report)


def package_version(name):
    query = ["dpkg-query", "-W", "-f", "${Version}", name]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    return answer.stdout if answer.returncode == 0 else "unknown"


# --- training -------------------------------------------------------------


class Run:
    """Everything that a training run holds between two steps."""

    def __init__(self, args):
        import torch

        self.args = args
        torch.manual_seed(args.seed)
        self.generator = torch.Generator().manual_seed(args.seed)
        documents = text_from_file(args.text) if args.text else text_from_package()
        train = [d for i, d in enumerate(documents) if i % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
        held_out = [d for i, d in enumerate(documents) if i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1]
        self.tokenizer = tokenizer_train(train, args.vocab)
        self.train, self.held_out = Stream(train, self.tokenizer), Stream(held_out, self.tokenizer)

        from llama import Llama

        self.model = Llama(config_make(args, self.tokenizer))
        self.model.weights_init(self.generator)
        self.model.dropout = args.dropout
        self.optimizers = optimizers_make(self.model, args)
        self.step = 0
        self.best = None

    def one_step(self):
        import torch

        args = self.args
        factor = learning_rate_at(self.step, args.steps, args.warmup)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        inputs, targets = self.train.batch(args.rows, args.context, self.generator)
        loss = loss_sum(self.model, inputs, targets, args.bf16) / targets.numel()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    def state_save(self, path):
        import torch

        state = {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "step": self.step,
            "best": self.best,
        }
        file_replace(path, lambda fresh: torch.save(state, fresh))

    def state_load(self, path):
        import torch

        state = torch.load(path)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        self.step, self.best = state["step"], state["best"]

    def report(self, nats, bits):
        import tokenizers
        import torch

        args = self.args
        unsaid = ("out", "text", "resume")
        return {
            "text": str(args.text or f"bible-kjv-text {package_version('bible-kjv-text')}"),
            "characters": self.train.chars + self.held_out.chars,
            "tokens_trained_on": len(self.train.ids),
            "tokens_held_out": len(self.held_out.ids),
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "step": self.step,
            "tokens_seen": self.step * args.rows * args.context,
            "held_out_nats_per_token": round(nats, 4),
            "held_out_bits_per_character": round(bits, 4),
            "arguments": {k: v for k, v in vars(args).items() if k not in unsaid},
            "torch": torch.__version__,
            "tokenizers": tokenizers.__version__,
        }

    def look(self, since):
        """Measures, prints, and exports the model if it is the best so far."""
        import torch

        nats, bits = held_out_loss(self.model, self.held_out, self.args.context, self.args.bf16)
        print(f"step {self.step}: held-out {nats:.4f} nats/token, {bits:.4f} bits/character,"
              f" {time.monotonic() - since:.0f} s", flush=True)
        if self.best is None or nats < self.best:
            self.best = nats
            model_export(self.args.out, self.model, self.tokenizer, self.report(nats, bits))
        generator = torch.Generator().manual_seed(self.args.seed)
        print("  | " + sample(self.model, self.tokenizer, "And", 60, 0.8, generator)
              .replace("\n", "\n  | "), flush=True)
        self.state_save(self.args.out / "checkpoint.pt")


def arguments_parse():
    parser = argparse.ArgumentParser(
        description="Train the small Llama-format model that berth-infer ships with."
    )
    add = parser.add_argument
    add("--out", type=pathlib.Path, required=True, help="the folder to write the model to")
    add("--text", type=pathlib.Path, help="a text instead of Debian's bible-kjv-text")
    add("--steps", type=int, default=2000)
    add("--look-every", type=int, default=250, help="steps between looks at the held-out text")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add("--seed", type=int, default=1611)
    add("--threads", type=int, default=2)
    add("--vocab", type=int, default=2048)
    add("--dim", type=int, default=256)
    add("--inter", type=int, default=688)
    add("--layers", type=int, default=4)
    add("--heads", type=int, default=8)
    add("--kv-heads", type=int, default=4)
    add("--positions", type=int, default=1024, help="max_position_embeddings")
    add("--context", type=int, default=512, help="tokens in a training row")
    add("--rows", type=int, default=8, help="rows in a step")
    add("--lr", type=float, default=4e-3, help="AdamW's peak rate: embedding, norms")
    add("--matrix-lr", type=float, default=6e-3, help="Muon's peak rate: the layers' matrices")
    add("--warmup", type=int, default=60)
    add("--weight-decay", type=float, default=0.1)
    add("--dropout", type=float, default=0.1)
    add("--bf16", action="store_true", help="multiply in bf16: twice as fast where the CPU has it")
    return parser.parse_args()


def main():
    args = arguments_parse()
    try:
        import safetensors  # noqa: F401
        import tokenizers  # noqa: F401
        import torch
    except ImportError as error:
        wanted = "pip install 'torch>=2.9' tokenizers safetensors numpy"
        sys.exit(f"{error.name}: not found; expected {wanted}")
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    run = Run(args)
    if args.resume:
        run.state_load(args.out / "checkpoint.pt")
    print(f"{sum(p.numel() for p in run.model.parameters())} parameters,"
          f" {len(run.train.ids)} tokens to train on, {len(run.held_out.ids)} held out", flush=True)
    since = time.monotonic()
    while run.step < args.steps:
        loss = run.one_step()
        if run.step % 50 == 0:
            print(f"step {run.step}: loss {loss:.4f}, {time.monotonic() - since:.0f} s", flush=True)
        if run.step % args.look_every == 0 or run.step == args.steps:
            run.look(since)
    return 0


if __name__ == "__main__":
    sys.exit(main())
