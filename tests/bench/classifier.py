#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How well the classifier knows weights and caches: precision and recall in bytes.

Arguments: the `berth` command, libberth.so, libberth-malloc.so, class_decoder, and what to run:
nothing for all, or a model, a number of steps and ways of using it ("gpt 4 train adam"). The truth
is PyTorch's (classifier_models.py); that of `decoder` and `settlers`, programs in C, is their own.
The last columns are, over all blocks: how often the tag of one changed at most, and how many took
a tag back that they had before.
Exits 77 where no Python with PyTorch is found.
"""

import json
import os
import re
import subprocess
import sys
import tempfile

MODELS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "classifier_models.py")

# Model, steps, ways of using it.
RUNS = [
    ("resnet50", 2, []), ("transformer", 2, []), ("lstm", 2, []),
    ("resnet50", 4, ["fixed"]), ("transformer", 4, ["fixed"]), ("lstm", 4, ["dynamic"]),
    ("resnet50", 2, ["before"]), ("transformer", 2, ["before"]),
    ("mlp", 2, []), ("mlp", 2, ["single"]), ("vgg", 2, []), ("unet", 2, []),
    ("transformer", 6, ["dynamic"]), ("unet", 6, ["dynamic"]), ("resnet50", 6, ["dynamic"]),
    ("gpt", 2, []), ("gpt", 24, []), ("gpt", 24, ["single"]), ("gpt-static", 24, []),
    ("resnet50", 2, ["loaded"]), ("gpt", 12, ["loaded", "bfloat16"]),
    ("mlp", 4, ["bfloat16"]), ("vgg", 3, ["dataset"]), ("gpt", 8, ["dataset"]),
    ("resnet50", 4, ["train"]), ("transformer", 4, ["train"]), ("lstm", 4, ["train"]),
    ("transformer", 4, ["train", "adam"]), ("lstm", 4, ["train", "adam"]),
    ("transformer", 4, ["train", "adam", "dynamic"]),
    ("vgg", 4, ["train", "adam", "keep-gradients"]), ("gpt", 4, ["train", "adam"]),
    ("transformer", 4, ["train", "loaded", "dynamic"]),
    ("vit", 2, []), ("vit", 2, ["loaded"]), ("llama", 2, []), ("llama", 24, []),
    ("llama", 12, ["bfloat16"]), ("gpt-tied", 2, []), ("moe", 2, []), ("mixer", 2, []),
    ("mixer", 2, ["channels-last"]), ("detector", 2, []), ("detector", 8, ["channels-last"]),
    ("recommender", 2, []), ("transducer", 2, []), ("diffusion", 2, []), ("diffusion", 20, []),
    ("quantised", 2, []), ("quantised", 2, ["alone"]), ("quantised", 8, []),
    ("traced", 2, []), ("traced", 3, ["frozen"]), ("several", 4, []), ("swapped", 12, []),
    ("vit-data", 2, []), ("vit-data", 8, ["views"]), ("vit-data", 4, ["uniform"]),
    ("vit-data", 4, ["parts4"]), ("vit-data", 4, ["shuffled"]), ("vit-batches", 6, []),
    ("mlp-data", 8, []), ("mlp-data", 30, []), ("mlp-data", 8, ["views"]),
    ("gpt-data", 4, ["tokens"]),
    ("loader", 2, ["large"]), ("loader", 2, ["shuffled"]), ("loader", 2, ["train", "momentum"]),
    ("listed", 2, []), ("listed", 20, []), ("speech", 2, ["train", "adam"]), ("graph", 4, []),
    ("graph", 4, ["train", "adam"]), ("language", 2, ["adam"]), ("language", 6, ["adam"]),
    ("search", 2, []), ("router", 2, []), ("arrays", 2, []), ("threads", 2, []),
    ("buffers", 2, []), ("buffers", 40, []),
    ("own-arrays", 2, []), ("cells", 2, []), ("restored-file", 2, []), ("sums", 2, []),
    ("mobile", 2, []), ("bert", 2, []), ("bert", 2, ["released"]), ("summariser", 2, []),
    ("vae", 2, []), ("vae", 4, ["train", "adam"]), ("gan", 2, []), ("gan", 4, ["train", "adam"]),
    ("tables", 2, []), ("tables", 2, ["small"]), ("tables", 2, ["large"]),
    ("adapters", 2, []), ("adapters", 4, ["train"]), ("scripted", 2, []), ("streaming", 2, []),
    ("streaming", 2, ["quantised"]),
    ("restored", 2, []), ("restored", 2, ["adopted"]), ("restored", 2, ["kept-file"]),
    ("restored", 2, ["double"]), ("restored", 2, ["kept-state"]), ("from-arrays", 2, []),
    ("lazy", 2, []), ("copied", 2, []), ("copied", 2, ["kept"]), ("initialised", 2, []),
    ("checkpointed", 4, ["adam"]), ("averaged", 4, ["adam"]), ("workers", 2, []),
    ("masked", 2, []), ("hooked", 2, []), ("normed", 2, []), ("siamese", 2, []),
    ("chosen", 2, []), ("requests", 2, []), ("agent", 2, []), ("thin", 2, []), ("speech", 2, []),
    ("residual", 2, []), ("residual", 2, ["channels-last"]), ("residual", 2, ["loaded"]),
    ("resnext", 2, []), ("dense", 2, []), ("convnext", 2, []), ("convnext", 2, ["bfloat16"]),
    ("translate", 2, []), ("translate", 2, ["bfloat16"]), ("listen", 2, []), ("mamba", 2, []),
    ("messages", 2, []), ("reader", 2, []), ("towers", 2, []), ("noise", 2, []),
    ("noise", 2, ["pictures"]), ("merged", 2, []), ("frozen", 2, []), ("frozen", 2, ["alone"]),
    ("frozen", 2, ["trained"]),
    ("frozen", 4, ["alone"]), ("frozen", 6, []),
    ("server", 2, []), ("finder", 2, []), ("rays", 2, []), ("conformer", 2, []), ("flow", 2, []),
    ("bigger", 2, []), ("codes", 2, []), ("numpy-language", 2, []), ("functions", 2, []),
    ("quantised-layers", 2, []), ("quantised-text", 2, []), ("mapped", 2, []),
    ("compiled", 2, []), ("hub-gpt", 2, []), ("hub-llama", 2, []), ("hub-t5", 2, []),
    ("hub-bert", 2, []), ("hub-vit", 2, []), ("hub-whisper", 2, []), ("hub-mamba", 2, []),
    ("hub-clip", 2, []),
    ("learn-residual", 4, []), ("learn-residual", 4, ["adam"]),
    ("learn-residual", 4, ["momentum"]), ("learn-mamba", 4, ["adamw"]),
    ("learn-messages", 4, []), ("learn-reader", 4, []), ("learn-noise", 4, ["adam"]),
    ("learn-flow", 4, ["rmsprop"]), ("teaching", 4, []), ("teaching", 4, ["adam"]),
    ("head-alone", 4, ["adam"]), ("gathered", 4, ["adamw"]), ("mixed", 4, []),
    ("words", 4, ["sparse"]), ("words", 4, ["adam"]), ("policy", 2, ["adam"]),
    ("volumes", 2, []), ("voice", 2, []), ("painter", 2, []), ("tracker", 2, []),
    ("kernels", 2, []), ("hub-deberta", 2, []), ("hub-segments", 2, []),
    ("decoder", 2, []), ("decoder", 2, ["joined"]), ("decoder", 2, ["reserved"]),
    ("decoder", 150, []), ("decoder", 150, ["joined"]), ("decoder", 150, ["reserved"]),
    ("learn-text", 4, ["adam"]), ("learn-text", 4, ["adamw"]), ("learn-text", 8, ["adamw"]),
    ("transformer", 4, ["train", "adamw", "dynamic"]),
    ("lstm", 4, ["train", "adamw", "dynamic"]),
    ("reading", 2, []), ("cleaner", 2, []), ("listening", 2, []), ("scan", 2, []),
    ("faces", 2, []), ("retrieval", 2, []), ("pocket", 2, []), ("speaking", 2, []),
    ("filters", 2, []), ("latents", 2, []), ("hidden", 2, []), ("learn-contrast", 4, ["adam"]),
    ("one-blob", 2, []), ("one-blob", 2, ["copied"]), ("forest", 2, []), ("windows", 2, []),
    ("complex", 2, []),
    ("packed", 2, []), ("meaning", 2, []), ("dictation", 2, []), ("artist", 2, []),
    ("grids", 2, []), ("recurrent", 2, []), ("few-bits", 2, []), ("estimator", 2, []),
    ("arrays-alone", 2, []), ("leaning", 2, []), ("steady-input", 2, []), ("cloud", 2, []),
    ("behind", 2, []), ("behind", 6, []),
    ("reordered", 2, []), ("neighbours", 2, []), ("ranking", 2, []), ("sampler", 2, []),
    ("bytes-alone", 2, []), ("borrowed", 2, []), ("planner", 2, []),
    ("shipped", 2, []), ("transcriber", 2, []), ("viewer", 2, []), ("routed", 2, []),
    ("interpreter", 2, []), ("cast", 2, []),
    ("state-space", 2, []), ("averages", 2, []), ("hearing", 2, []), ("pages", 2, []),
    ("ensemble", 2, []), ("tensors-cast", 2, []), ("personas", 2, []),
    ("settlers", 2, ["vision"]), ("settlers", 2, ["arena"]), ("settlers", 2, ["tagger"]),
    ("learn-packed", 4, ["adam"]), ("learn-leaning", 4, ["adamw"]), ("learn-grids", 4, ["adam"]),
    ("checkpoint", 2, []), ("checkpoint", 2, ["channels-last"]), ("checkpoint", 2, ["bfloat16"]),
    ("sentiment", 2, []), ("sentiment", 4, ["train"]), ("sentiment", 4, ["train", "adam"]),
    ("translator", 2, []), ("translator", 4, ["train"]), ("tagger", 2, []),
    ("tagger", 4, ["train"]), ("tagger", 4, ["train", "adam"]), ("tagger", 4, ["train", "adagrad"]),
    ("epochs", 4, []), ("epochs", 4, ["resnet", "workers"]), ("typist", 2, []),
    ("typist", 2, ["quantised"]), ("typist", 2, ["lstm", "quantised"]), ("typist", 4, ["train"]),
    ("typist", 4, ["train", "lstm", "kept"]), ("pool", 2, []), ("pool", 2, ["traced"]),
    ("pool", 2, ["scripted"]), ("average", 4, []), ("average", 4, ["sgd"]), ("successor", 2, []),
    ("successor", 2, ["again"]), ("vocoder", 2, []), ("vocoder", 2, ["removed"]),
    ("vocoder", 4, ["train"]), ("pruned", 2, []), ("pruned", 2, ["masked"]),
    ("pruned", 4, ["lbfgs"]),
    ("beside", 2, ["loaded"]), ("beside", 2, ["lstm", "served"]), ("beside", 2, ["served"]),
    ("beside", 2, ["vit", "served", "reload"]), ("follower", 2, []), ("follower", 4, ["lstm"]),
    ("follower", 4, ["vit", "adamw"]), ("target", 2, []), ("target", 2, ["lstm"]),
    ("reference", 2, ["vit"]), ("reference", 4, ["lstm"]),
    ("latent", 2, []), ("latent", 2, ["half"]),
    ("upscaler", 2, []), ("beams", 2, []), ("beams", 10, []), ("chat", 2, []),
    ("chat", 2, ["ring"]), ("chat", 10, []), ("chat", 10, ["ring"]), ("stylist", 2, []),
    ("stylist", 2, ["varied"]), ("schedule", 2, []), ("schedule", 10, []),
    ("normed-cells", 2, []), ("projections", 2, []), ("projections", 10, []), ("clicks", 2, []),
    ("clicks", 10, []), ("pair", 2, []), ("pair", 10, []), ("fed", 2, []), ("fed", 10, []),
    ("numpy-cells", 2, []), ("street", 2, []), ("street", 10, []), ("street", 2, ["traced"]),
    ("street", 2, ["scripted"]), ("street", 2, ["fused"]), ("street", 2, ["half"]),
    ("street", 2, ["channels-last"]), ("committee", 2, []), ("committee", 2, ["stacked"]),
    ("experts", 2, []), ("experts", 10, []), ("citations", 2, []), ("citations", 10, []),
    ("seen", 4, []), ("seen", 4, ["adam"]), ("seen", 4, ["adamw", "zeroed"]),
    ("seen", 4, ["recomputed", "nesterov", "scheduled"]), ("read", 4, []),
    ("read", 4, ["adam", "clipped"]), ("read", 4, ["adamw", "gathered"]),
    ("read", 4, ["adamw", "recomputed"]), ("read", 4, ["adam", "averaged"]), ("said", 4, []),
    ("said", 4, ["adam", "clipped", "zeroed"]), ("said", 4, ["adamw"]),
    ("said", 4, ["adam", "gathered"]),
    ("gpt", 40, []), ("llama", 40, []), ("restored", 40, []), ("adapters", 40, []),
    ("chosen", 40, []), ("vit-data", 40, []), ("streaming", 40, []), ("requests", 40, []),
    ("transformer", 40, ["train", "adam"]), ("averaged", 40, ["adam"]),
]

# Architectures of the library transformers (classifier_types.py).
TYPES = ("bert", "roberta", "albert", "electra", "distilbert", "deberta-v2", "mpnet", "funnel",
         "longformer", "big_bird", "reformer", "rembert", "canine", "gpt2", "gpt_neo", "gpt_neox",
         "opt", "bloom", "llama", "mistral", "qwen2", "gemma", "mixtral", "falcon", "phi", "mamba",
         "rwkv", "t5", "bart", "marian", "pegasus", "vit", "swin", "convnext", "resnet", "clip",
         "whisper", "wav2vec2", "segformer", "beit", "dinov2", "hubert", "mamba2",
         "switch_transformers")
RUNS += [(f"type-{kind}", 2, []) for kind in TYPES]
RUNS += [("type-gpt2", 2, ["tokens"]), ("type-gpt2", 2, ["kept", "bfloat16"]),
         ("type-llama", 2, ["kept"]), ("type-bert", 2, ["typed"]), ("type-gpt2", 4, []),
         ("type-bert", 4, ["train", "adamw"]), ("type-gpt2", 4, ["train", "adam"]),
         ("type-vit", 4, ["train"])]

CHANGE = re.compile(r"block \d+ of birth (\d+), \d+ bytes at \S+: (\w+), \w+:")


def pythons():
    names = os.environ.get("BERTH_TORCH_PYTHON", "").split(":") + ["/usr/bin/python3", "python3"]
    return [name for name in names if name]


def find_python():
    for name in pythons():
        try:
            if subprocess.run([name, "-c", "import torch"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, check=False).returncode == 0:
                return name
        except OSError:
            pass
    return None


def ratio(part, whole):
    return "-" if whole == 0 else f"{part / whole:.4f}"


def count_changes(log):
    """Of one block, at most; and how many blocks took a tag back."""
    tags = {}
    for birth, tag in CHANGE.findall(log):
        seen = tags.setdefault(birth, [])
        if not seen or seen[-1] != tag:
            seen.append(tag)
    return (max((len(seen) for seen in tags.values()), default=0),
            sum(len(set(seen)) < len(seen) for seen in tags.values()))


def tagged_bytes(berth, process):
    """What `berth stat` says of a process, by tag."""
    text = subprocess.run([berth, "stat", "--json", str(process)], check=True,
                          stdout=subprocess.PIPE).stdout
    total = {}
    for tier in json.loads(text)["tiers"]:
        for entry in tier["tags"]:
            total[entry["tag"]] = total.get(entry["tag"], 0) + entry["requested"]
    return total


def ask(berth, command, environment, log):
    """What a program tells that waits until somebody has asked about all of it."""
    with subprocess.Popen(command, env=environment, text=True, stderr=log,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdout.readline() != "ready\n":
            sys.exit(f"{' '.join(command)} has failed")
        by_tag = tagged_bytes(berth, process.pid)
        return dict(json.loads(process.communicate("\n")[0]), by_tag=by_tag)


def call(python, command, environment, log):
    """What a program tells that asks by itself; None where it cannot run."""
    result = subprocess.run([python, MODELS] + command, env=environment, stdout=subprocess.PIPE,
                            stderr=log, check=False)
    if result.returncode == 77:
        return None
    if result.returncode != 0:
        log.seek(0)
        print(log.read()[-2000:], file=sys.stderr)
    result.check_returncode()
    return json.loads(result.stdout)


def run(programs, libraries, model, steps, ways):
    python, berth, decoder = programs
    environment = dict(os.environ, LD_PRELOAD=" ".join(libraries), BERTH_CONTROL="always")
    options = environment.get("BERTH_OPTIONS")
    environment["BERTH_OPTIONS"] = ",".join(filter(None, [options, "classifier=on"]))
    environment.setdefault("BERTH_DEBUG", "classifier:debug")
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        if model == "decoder":
            told = ask(berth, [decoder, str(steps)] + ways, environment, log)
        elif model == "settlers":
            told = ask(berth, [os.path.join(os.path.dirname(decoder), "class_settlers")] + ways +
                       [str(steps)], environment, log)
        else:
            told = call(python, [berth, model, str(steps), "2"] + ways, environment, log)
        log.seek(0)
        return told and dict(told, changes=count_changes(log.read()))


def show(model, steps, ways, result):
    if result is None:
        print(f"{' '.join([model] + ways):36} {steps:5} not with this PyTorch", flush=True)
        return
    claimed = result["by_tag"].get("weight", 0)
    claimed_cache = result["by_tag"].get("kv", 0)
    print(f"{' '.join([model] + ways):36} {steps:5} {result['weights'] / 1e6:8.1f} "
          f"{ratio(result['weights_found'], claimed):>9} "
          f"{ratio(result['weights_found'], result['weights']):>9} "
          f"{result['cache'] / 1e6:7.1f} {ratio(result['cache_found'], claimed_cache):>9} "
          f"{ratio(result['cache_found'], result['cache']):>9} "
          f"{result['changes'][0]:>7} {result['changes'][1]:>5}", flush=True)


def main():
    berth, libraries, decoder, chosen = sys.argv[1], sys.argv[2:4], sys.argv[4], sys.argv[5:]
    python = find_python()
    if not python:
        print("no Python with PyTorch was found (Debian: python3-torch)")
        return 77
    print(f"{'model':36} {'steps':>5} {'weights':>8} {'precision':>9} {'recall':>9} "
          f"{'cache':>7} {'precision':>9} {'recall':>9} {'changes':>7} {'back':>5}")
    print(f"{'':36} {'':>5} {'MB':>8} {'':>9} {'':>9} {'MB':>7}")
    runs = RUNS if not chosen else [(chosen[0], int(chosen[1]), chosen[2:])]
    for model, steps, ways in runs:
        show(model, steps, ways, run((python, berth, decoder), libraries, model, steps, ways))
    return 0


if __name__ == "__main__":
    sys.exit(main())
