# SPDX-License-Identifier: Apache-2.0
"""Architectures for classifier.py that nobody wrote for it: those of the library transformers, by
their model type ("type-bert"), with first values and moderate sizes. Ways: `typed`, made in
bfloat16 at once, or `bfloat16`, cast; `kept`, saved and read again as users do; `plain`, forward
alone where a step would generate a text; `tokens`, a step is a token of one text, whose cache the
program keeps; `grad`, without torch.no_grad(); `train`, with an optimiser's name or none."""

import importlib
import inspect
import tempfile

import torch

from classifier_learners import import_library, optimizer_for
from classifier_loops import learn, trained

# What configurations call their sizes; each type takes those that it knows.
SIZES = {
    "hidden_size": 256, "d_model": 256, "n_embd": 256, "dim": 256, "embed_dim": 256,
    "embedding_size": 256, "emb_dim": 256, "num_hidden_layers": 4, "n_layer": 4, "n_layers": 4,
    "num_layers": 4, "entity_vocab_size": 4000,
    "encoder_layers": 3, "decoder_layers": 3, "num_decoder_layers": 3, "num_encoder_layers": 3,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "num_key_value_heads": 2,
    "encoder_attention_heads": 4, "decoder_attention_heads": 4, "head_dim": 64, "d_kv": 64,
    "intermediate_size": 1024, "d_ff": 1024, "ffn_dim": 1024, "encoder_ffn_dim": 1024,
    "decoder_ffn_dim": 1024, "hidden_dim": 1024, "vocab_size": 8000, "attention_hidden_size": 256,
    "num_local_experts": 4, "num_experts": 4, "moe_intermediate_size": 512,
    "max_position_embeddings": 512, "n_positions": 512, "num_codebooks": 2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1,
}

# What a type needs besides, mostly where one size follows from another.
MORE = {
    "albert": {"embedding_size": 128}, "electra": {"embedding_size": 128},
    "big_bird": {"block_size": 16, "num_random_blocks": 2},
    "longformer": {"attention_window": 32},
    "reformer": {"axial_pos_embds_dim": (64, 192), "axial_pos_shape": (8, 8),
                 "attention_head_size": 64, "feed_forward_size": 1024, "hidden_size": 256,
                 "is_decoder": False, "num_buckets": 8, "attn_layers": ["local", "lsh"] * 2},
    "distilbert": {"hidden_dim": 1024, "dim": 256}, "mobilebert": {"num_hidden_layers": 6},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "codegen": {"rotary_dim": 16}, "gptj": {"rotary_dim": 16}, "rembert": {
        "input_embedding_size": 128, "output_embedding_size": 256},
    "opt": {"word_embed_proj_dim": 256},
    "funnel": {"block_sizes": [2, 2], "d_head": 64, "d_inner": 1024},
    "xlnet": {"d_inner": 1024}, "falcon": {"new_decoder_architecture": False},
    "xglm": {"attention_heads": 4}, "ctrl": {"dff": 1024}, "mpt": {"max_seq_len": 512},
    "rwkv": {"attention_hidden_size": 256}, "mamba2": {"num_heads": 8, "head_dim": 64},
    "perceiver": {"num_latents": 128, "d_latents": 512, "d_model": 256,
                  "num_self_attends_per_block": 4, "max_position_embeddings": 128},
    "whisper": {"max_source_positions": 300}, "speech_to_text": {"input_feat_per_channel": 80},
    "roformer": {"embedding_size": 256}, "convbert": {"embedding_size": 256},
    "squeezebert": {"embedding_size": 256},
}

# Those whose sizes are lists, or follow one from another: as they are published.
PUBLISHED = {"bit", "convnext", "convnextv2", "cvt", "efficientnet", "focalnet", "glpn", "levit",
             "mobilenet_v1", "mobilenet_v2", "mobilevit", "poolformer", "pvt", "regnet", "resnet",
             "segformer", "swin", "swinv2", "van"}

VISION = {"image_size": 128}

# The first of these that knows the type makes it.
KINDS = (("SEQ_TO_SEQ_CAUSAL_LM", "AutoModelForSeq2SeqLM"),
         ("SPEECH_SEQ_2_SEQ", "AutoModelForSpeechSeq2Seq"),
         ("MASKED_LM", "AutoModelForMaskedLM"), ("CAUSAL_LM", "AutoModelForCausalLM"),
         ("IMAGE_CLASSIFICATION", "AutoModelForImageClassification"), ("CTC", "AutoModelForCTC"),
         ("VIDEO_CLASSIFICATION", "AutoModelForVideoClassification"),
         ("SEMANTIC_SEGMENTATION", "AutoModelForSemanticSegmentation"),
         ("AUDIO_CLASSIFICATION", "AutoModelForAudioClassification"))

# With two kinds of inputs.
PAIRS = ("clip", "align", "altclip", "blip", "chinese_clip", "clipseg", "flava", "groupvit",
         "owlvit", "siglip", "xclip", "bridgetower", "vilt")


def make_config(hub, kind):
    config_class = hub.models.auto.configuration_auto.CONFIG_MAPPING[kind]
    known = inspect.signature(config_class.__init__).parameters
    also = getattr(config_class, "attribute_map", {})
    wanted = {} if kind in PUBLISHED else dict(SIZES, **VISION)
    given = {name: size for name, size in wanted.items()
             if name in known and name not in also
             and (type(known[name].default) is int or name.endswith("_token_id")
                  or name in ("num_key_value_heads", "head_dim"))}
    if "hidden_act" in known and "hidden_dim" in given and "dim" not in known:
        del given["hidden_dim"]
    return config_class(**{**given, **MORE.get(kind, {})})


def make_model(hub, kind, ways):
    auto, config = hub.models.auto.modeling_auto, make_config(hub, kind)
    name = next((maker for part, maker in KINDS if kind not in PAIRS
                 and kind in getattr(auto, f"MODEL_FOR_{part}_MAPPING_NAMES")), "AutoModel")
    maker = getattr(hub, name)
    numbers = {"torch_dtype": torch.bfloat16} if "typed" in ways else {}
    model = maker.from_config(config, **numbers)
    if "kept" in ways:
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            del model
            model = maker.from_pretrained(folder, **numbers)
    if getattr(config, "is_encoder_decoder", False) and model.can_generate():
        model.generation_config.decoder_start_token_id = 1
    return model.to(torch.bfloat16) if "bfloat16" in ways else model


def part_of(config, name, default):
    """Its own, or of a part of it."""
    for some in (config, getattr(config, "vision_config", None),
                 getattr(config, "text_config", None), getattr(config, "backbone_config", None)):
        value = getattr(some, name, None)
        if value is not None:
            return value
    return default


def pictures(config):
    size = part_of(config, "image_size", 224)
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    shape = (2, part_of(config, "num_channels", 3)) + sides
    frames = part_of(config, "num_frames", 0)
    return torch.randn(shape[:1] + (frames,) + shape[1:] if frames else shape)


def words(config, step, count=4, length=32):
    return torch.randint(5, min(part_of(config, "vocab_size", 8000), 8000), (count, length + step))


def features(config, name, step):
    bins = part_of(config, "num_mel_bins", 0) or part_of(config, "input_feat_per_channel", 80)
    if name == "input_values" and part_of(config, "num_mel_bins", 0):
        return torch.randn(2, part_of(config, "max_length", 1024), bins)
    if name == "input_values":
        return torch.randn(2, 16000 + 800 * step)
    if config.model_type == "whisper":
        return torch.randn(2, bins, 2 * config.max_source_positions)
    return torch.randn(2, 200 + 8 * step, bins)


def make_inputs(model, kind, step):
    config, name = model.config, model.main_input_name
    if name == "pixel_values" or kind in PAIRS:
        given = {"pixel_values": pictures(config)}
        if kind in PAIRS:
            given["input_ids"] = words(config, step, 2, 12)
    elif name in ("input_values", "input_features"):
        given = {name: features(config, name, step)}
    elif kind == "reformer":
        given = {"input_ids": words(config, 0, 4, 64)}
    elif kind == "perceiver":
        given = {"inputs": words(config, 0, 4, 128) % 200}
    else:
        given = {"input_ids": words(config, step)}
    if "decoder_input_ids" in inspect.signature(model.forward).parameters and \
            config.is_encoder_decoder:
        given["decoder_input_ids"] = words(config, step, len(next(iter(given.values()))), 12)
    dtype = next(model.parameters()).dtype
    return {key: x.to(dtype) if x.is_floating_point() else x for key, x in given.items()}


def generate(model, kind, step):
    given = make_inputs(model, kind, step)
    given.pop("decoder_input_ids", None)
    if "input_ids" in given:
        given["attention_mask"] = torch.ones_like(given["input_ids"])
    return model.generate(**given, max_new_tokens=8, min_new_tokens=8, do_sample=False)


def is_writer(model, kind):
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    return model.can_generate() and any(
        type(model).__name__ in (name if isinstance(name, tuple) else (name,)) for name in (
            auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind),
            auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.get(kind),
            auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES.get(kind)))


def token_by_token(model):
    """The prompt at first; the program keeps what the model hands it."""
    state = {}

    def step_of(step):
        tokens = words(model.config, 0, 2, 48 if step == 0 else 1)
        told = model(input_ids=tokens, past_key_values=state.get("past"), use_cache=True)
        state["past"], state["said"] = told.past_key_values, told.logits[:, -1].argmax(-1)
    return step_of


def loss_of(told):
    for value in told.values():
        if torch.is_tensor(value) and value.is_floating_point():
            return value.float().pow(2).mean()
    raise ValueError("nothing to learn from")


def of_type(kind):
    def make_it(ways):
        hub = import_library()
        model = make_model(hub, kind, ways).eval()
        if "train" in ways:
            optimizer = optimizer_for(model.parameters(), ways)

            def step_of(step):
                model.train()
                learn(optimizer, lambda: loss_of(model(**make_inputs(model, kind, step))))
            return [model], trained(step_of)
        if "tokens" in ways:
            step_of = token_by_token(model)
        elif "plain" in ways or not is_writer(model, kind):
            def step_of(step):
                model(**make_inputs(model, kind, step))
        else:
            def step_of(step):
                generate(model, kind, step)
        return [model], trained(step_of) if "grad" in ways else step_of
    return make_it
