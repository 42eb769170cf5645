"""Random models of the libraries' own classes, and model folders in every layout that is read.

Nothing here computes an expected number; it builds what does, and writes files.
"""
import json
from collections import OrderedDict

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from transformers import UMT5Config, UMT5EncoderModel

RENAMES = [  # original Wan name -> diffusers, the first that fits
    ("text_embedding.0.", "condition_embedder.text_embedder.linear_1."),
    ("text_embedding.2.", "condition_embedder.text_embedder.linear_2."),
    ("time_embedding.0.", "condition_embedder.time_embedder.linear_1."),
    ("time_embedding.2.", "condition_embedder.time_embedder.linear_2."),
    ("time_projection.1.", "condition_embedder.time_proj."),
    ("head.modulation", "scale_shift_table"),
    ("head.head.", "proj_out."),
]
LAYER_RENAMES = [
    (".self_attn.", ".attn1."), (".cross_attn.", ".attn2."), (".q.", ".to_q."), (".k.", ".to_k."), (".v.", ".to_v."),
    (".o.", ".to_out.0."), (".norm3.", ".norm2."), (".ffn.0.", ".ffn.net.0.proj."), (".ffn.2.", ".ffn.net.2."),
    (".modulation", ".scale_shift_table"),
]


# --------------------------------------------------------------------------- the libraries' models
def text_encoder(change, seed, random_weights, dtype):
    """transformers' UMT5 encoder in float32, its weights as stored, and its config.json."""
    config = dict(architectures=["UMT5EncoderModel"], model_type="umt5", layer_norm_epsilon=1e-6, dropout_rate=0.0,
                  feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False, pad_token_id=0,
                  eos_token_id=1, decoder_start_token_id=0, tie_word_embeddings=True, **change)
    model = UMT5EncoderModel(UMT5Config(**config, attn_implementation="eager")).eval()
    shapes = {k: list(v.shape) for k, v in model.state_dict().items() if k != "encoder.embed_tokens.weight"}
    weights = random_weights(shapes, seed, dtype)
    for name in weights:
        if name == "shared.weight" or "relative_attention_bias" in name:
            weights[name] = (weights[name].float() * weights[name].shape[1] ** 0.5).to(dtype)  # of about unit size
    loose = model.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    assert not loose.unexpected_keys and set(loose.missing_keys) <= {"encoder.embed_tokens.weight"}, loose
    model.encoder.embed_tokens.weight = model.shared.weight
    return model, weights, config


def vae(change, seed, random_weights, dtype, encoder):
    """diffusers' VAE in float32, its weights as stored (`encoder`: all, else the decoder's), its config.json."""
    change = dict(change, scale_factor_spatial=2 ** (len(change["dim_mult"]) - 1),
                  scale_factor_temporal=2 ** sum(change["temperal_downsample"]))
    model = AutoencoderKLWan(**change).eval()
    weights = random_weights({k: list(v.shape) for k, v in model.state_dict().items()}, seed, dtype)
    for name in weights:
        if name == "decoder.conv_out.weight":
            weights[name] = (weights[name].float() * 0.9).to(dtype)  # most pictures' values inside [-1, 1]
    model.load_state_dict({k: v.float() for k, v in weights.items()})
    if not encoder:
        weights = {k: v for k, v in weights.items() if k.startswith(("decoder.", "post_quant_conv."))}
    return model, weights, {"_class_name": "AutoencoderKLWan", "_diffusers_version": "0.42.1",
                            **{k: v for k, v in model.config.items() if not k.startswith("_")}}


def diffusers_transformer(config, weights):
    """diffusers' transformer in float32 with weights given in original Wan names."""
    model = WanTransformer3DModel(**config).eval()
    model.load_state_dict({k: v.float() for k, v in diffusers_names(weights).items()})
    return model


def diffusers_names(weights):
    out = {}
    for name, tensor in weights.items():
        if name.startswith("blocks."):
            for old, new in LAYER_RENAMES:
                name = name.replace(old, new)
        else:
            for old, new in RENAMES:
                name = new + name.removeprefix(old) if name.startswith(old) else name
        out[name] = tensor
    return out


# ------------------------------------------------------------------------------------------ files
def save_sharded(weights, folder, shards):
    """One safetensors file, or several with an index; a shard boundary may fall inside a layer."""
    usual = "diffusion_pytorch_model"
    if shards == 1:
        return save_file(weights, folder / f"{usual}.safetensors", {"format": "pt"})
    names, places = list(weights), {}
    for shard in range(shards):
        file = f"{usual}-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard * len(names) // shards:(shard + 1) * len(names) // shards]
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
        places |= dict.fromkeys(part, file)
    size = sum(tensor.nbytes for tensor in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
    (folder / f"{usual}.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def save_pt(weights, path):
    """A checkpoint as the Self-Forcing family's training writes it: the weights to use are the
    moving average, beside them others that must not be used; names carry the training wrappers'
    prefixes; one tensor is a transposed view, one shares its storage with another, the ones that
    must not be used are one number spread over their shape."""
    average = OrderedDict()
    shared = torch.cat([weights["blocks.0.ffn.0.bias"], weights["blocks.1.ffn.0.bias"]])
    half = shared.numel() // 2
    for name, tensor in weights.items():
        if name == "blocks.0.cross_attn.k.weight":
            tensor = tensor.T.contiguous().T
        if name == "blocks.0.ffn.0.bias":
            tensor = shared[:half]
        if name == "blocks.1.ffn.0.bias":
            tensor = shared[half:]
        average["model._fsdp_wrapped_module." + name.replace("blocks.1.", "blocks.1._checkpoint_wrapped_module.")] = tensor
    raw = OrderedDict(("model." + name, torch.ones(1).expand(tensor.shape)) for name, tensor in weights.items())
    average["model._fsdp_wrapped_module._cls_pred_branch.0.weight"] = torch.ones(3)
    torch.save({"generator": raw, "generator_ema": average}, path)


def tokenizer_json(words, length):
    """A word-level tokenizer: NFKC, lower case, `</s>` at the end, cut and padded to `length`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=0, pad_token="<pad>")
    return tokenizer
