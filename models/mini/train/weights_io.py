"""Reading and writing the diffusers-like folder (`model_index.json`, transformer/, text_encoder/, tokenizer/, vae/, scheduler/)."""
import json
import os

import torch
from safetensors.torch import load_file, save_file

from dit import DIT_CONFIG, CausalDiT
from text import TEXT_CONFIG, TEXT_LEN
from vae import VAE_CONFIG, make_vae

SHIFT, STEPS, FIRST_STEPS, FIRST_GUIDANCE = 3.0, 4, 10, 2.5     # the sampler that the weights are trained for
SHARD_BYTES = 15_000_000


def save_sharded(path, tensors):
    """safetensors shards of at most SHARD_BYTES with an index file."""
    shards, size = [{}], 0
    for k, v in tensors.items():
        b = v.numel() * v.element_size()
        if size + b > SHARD_BYTES and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][k] = v.contiguous()
        size += b
    names = [f"{path}-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    index = {"metadata": {"total_size": sum(v.numel() * v.element_size() for v in tensors.values())}, "weight_map": {}}
    for n, s in zip(names, shards):
        save_file(s, n, metadata={"format": "pt"})
        index["weight_map"].update({k: os.path.basename(n) for k in s})
    with open(path + ".safetensors.index.json", "w") as f:
        json.dump(index, f)


def load_sharded(path):
    with open(path + ".safetensors.index.json") as f:
        names = sorted(set(json.load(f)["weight_map"].values()))
    out = {}
    for n in names:
        out.update(load_file(os.path.join(os.path.dirname(path), n)))
    return out


def load_json(*path):
    with open(os.path.join(*path)) as f:
        return json.load(f)


def load_vae(folder, dev):
    """A vae/ folder (with the encoder) -> the module in float32, latents mean and std."""
    vae = make_vae()
    w = load_file(os.path.join(folder, "diffusion_pytorch_model.safetensors"))
    vae.load_state_dict({k: v.float() for k, v in w.items()})
    st = load_json(folder, "config.json")
    return vae.to(dev).eval(), torch.tensor(st["latents_mean"], device=dev), torch.tensor(st["latents_std"], device=dev)


def load_export(folder, dev="cpu"):
    """The exported folder, read back with nothing but its own files -> tokenizer, text encoder, DiT, VAE, mean, std."""
    from tokenizers import Tokenizer
    from transformers import UMT5Config, UMT5EncoderModel
    tok = Tokenizer.from_file(os.path.join(folder, "tokenizer", "tokenizer.json"))
    enc = UMT5EncoderModel(UMT5Config(**load_json(folder, "text_encoder", "config.json")))
    enc.load_state_dict({k: v.float() for k, v in load_file(os.path.join(folder, "text_encoder", "model.safetensors")).items()}, strict=False)
    dit = CausalDiT(**{k: v for k, v in load_json(folder, "transformer", "config.json").items() if k in DIT_CONFIG})
    dit.load_state_dict({k: v.float() for k, v in load_sharded(os.path.join(folder, "transformer", "diffusion_pytorch_model")).items()})
    return tok, enc.to(dev).eval(), dit.to(dev).eval(), *load_vae(os.path.join(folder, "vae"), dev)


def _dump(path, obj):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(obj, f, indent=2)
        f.write("\n")


def _bf16(v):
    return v.detach().to("cpu", torch.bfloat16).contiguous().clone()


def save_vae(folder, vae, mean, std):
    """A diffusers vae/ folder in bf16, encoder included; mean and std of the latents go to its config."""
    _dump(os.path.join(folder, "config.json"), {
        "_class_name": "AutoencoderKLWan", "_diffusers_version": "0.42.1", **VAE_CONFIG, "latents_mean": mean.tolist(), "latents_std": std.tolist(),
        "is_residual": False, "in_channels": 3, "out_channels": 3, "patch_size": None, "scale_factor_temporal": 4, "scale_factor_spatial": 8})
    save_file({k: _bf16(v) for k, v in vae.state_dict().items()}, os.path.join(folder, "diffusion_pytorch_model.safetensors"), metadata={"format": "pt"})


def save_export(folder, tok, enc_state, dit_state, vae, mean, std):
    """Write the whole folder in bf16; `enc_state` and `dit_state` are state dicts."""
    o = lambda *p: os.path.join(folder, *p)
    _dump(o("model_index.json"), {
        "_class_name": "VideoMLAPipeline", "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"], "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"], "transformer": ["videomla", "CausalWanMLATransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
        "video": {"width": 128, "height": 128, "fps": 16, "latent_height": 16, "latent_width": 16, "chunk_frames": 3, "num_inference_steps": STEPS,
                  "first_chunk_steps": FIRST_STEPS, "first_chunk_guidance": FIRST_GUIDANCE, "guidance_scale": 1.0}})
    _dump(o("transformer", "config.json"), {"_class_name": "CausalWanMLATransformer3DModel", "model_type": "t2v", **DIT_CONFIG, "qk_norm": True,
                                            "cross_attn_norm": True, "rope_interleaved": True, "timestep_scale": 1000})
    save_sharded(o("transformer", "diffusion_pytorch_model"), {k: _bf16(v) for k, v in dit_state.items()})
    save_vae(o("vae"), vae, mean, std)
    _dump(o("text_encoder", "config.json"), {"architectures": ["UMT5EncoderModel"], "model_type": "umt5", "vocab_size": enc_state["shared.weight"].shape[0],
                                             "layer_norm_epsilon": 1e-6, "tie_word_embeddings": True, **TEXT_CONFIG})
    save_file({k: _bf16(v) for k, v in enc_state.items() if k != "encoder.embed_tokens.weight"}, o("text_encoder", "model.safetensors"), metadata={"format": "pt"})
    os.makedirs(o("tokenizer"), exist_ok=True)
    tok.save(o("tokenizer", "tokenizer.json"))
    _dump(o("tokenizer", "tokenizer_config.json"), {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>",
                                                    "model_max_length": TEXT_LEN, "padding_side": "right"})
    _dump(o("scheduler", "scheduler_config.json"), {"_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.42.1", "num_train_timesteps": 1000,
                                                    "shift": SHIFT, "use_dynamic_shifting": False})
    return sum(os.path.getsize(os.path.join(r, f)) for r, _, fs in os.walk(folder) for f in fs)
