"""Makes the golden cases: small random models, inputs, and the numbers they must give.

    python -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python make.py                 # all cases
    venv/bin/python make.py text vae        # cases whose name begins so

Expected numbers come from transformers (text), diffusers (VAE, full attention) and from
`reference.py` in float64 (everything with a cache). Before a case is written the script checks
it: `reference.py` against diffusers where both apply, cached against masked attention, float32
against float64 (how much of the tolerance plain rounding uses up), and that each thing a case
pins would be noticed (the output moves by far more than the tolerance when it is changed).

Random numbers come from numpy's generators, whose streams are fixed, so a second run writes the
same bytes. README.md says what each case is for and how a test reads it.
"""
import os
import shutil
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from safetensors.torch import save_file

import reference
from case import CASES, TOLERANCE, error, model_folder, random, random_weights, write, write_json
from models import diffusers_names, diffusers_transformer, save_pt, save_sharded, text_encoder, vae
from pipelines import check_levels, decode_latents, embedded_cases, noise_cases, pipeline_cases

# ---------------------------------------------------------------------------------------- text
TEXT = dict(d_model=24, d_kv=8, d_ff=36, num_layers=2, num_heads=3, vocab_size=40, relative_attention_num_buckets=32,
            relative_attention_max_distance=128)


def text_cases():
    yield "text-one-head", lambda name: text(name, 1, [9], 9, d_model=16, num_heads=1, d_kv=12)
    yield "text-padded-batch", lambda name: text(name, 2, [13, 5, 1], 13)
    yield "text-far-positions", lambda name: text(name, 3, [150, 131], 150, num_heads=2)
    yield "text-few-buckets", lambda name: text(
        name, 4, [31, 30], 31, d_model=20, num_heads=5, d_kv=4, num_layers=3, relative_attention_num_buckets=8,
        relative_attention_max_distance=20, alias=True)
    yield "text-bf16-weights", lambda name: text(name, 5, [11, 7], 12, dtype=torch.bfloat16)


def text(name, seed, lengths, padded, dtype=torch.float32, alias=False, **change):
    encoder, weights, config = text_encoder({**TEXT, **change}, seed, random_weights, dtype)
    generator = np.random.default_rng([seed, 99])
    ids = torch.from_numpy(generator.integers(3, config["vocab_size"], (len(lengths), padded)))
    mask = (torch.arange(padded)[None] < torch.tensor(lengths)[:, None]).long()
    ids = torch.where(mask.bool(), ids, 0)
    out = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    if alias:
        weights = {("encoder.embed_tokens.weight" if k == "shared.weight" else k): v for k, v in weights.items()}
    folder = model_folder(name, "text_encoder")
    write_json(folder / "config.json", config)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    write(name, "text", {"input_ids": ids, "attention_mask": mask}, {"last_hidden_state": out}, rows="attention_mask")


# ----------------------------------------------------------------------------------------- vae
VAE = dict(base_dim=1, decoder_base_dim=2, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, attn_scales=[],
           temperal_downsample=[False, True], dropout=0.0)


def vae_cases():
    yield "vae-three-levels", lambda name: decode(name, 1, (3, 3, 5), base_dim=1, decoder_base_dim=4,
                                                  encoder=True)
    yield "vae-four-levels", lambda name: decode(name, 2, (4, 3, 2), dim_mult=[1, 2, 4, 4],
                                                 temperal_downsample=[False, True, True])
    yield "vae-two-units", lambda name: decode(name, 3, (5, 1, 3), decoder_base_dim=5, num_res_blocks=2,
                                               dim_mult=[1, 2, 2], temperal_downsample=[True, True], z_dim=3)
    yield "vae-early-time", lambda name: decode(name, 4, (4, 3, 3), decoder_base_dim=3, temperal_downsample=[True, False])
    yield "vae-no-time", lambda name: decode(name, 5, (3, 2, 5), dim_mult=[1, 1, 2], decoder_base_dim=4,
                                             temperal_downsample=[False, False])
    yield "vae-one-frame", lambda name: decode(name, 6, (1, 5, 3), dim_mult=[1, 3], temperal_downsample=[True])
    yield "vae-bf16-weights", lambda name: decode(name, 7, (2, 3, 2), decoder_base_dim=4, dtype=torch.bfloat16)


def decode(name, seed, size, dtype=torch.float32, encoder=False, **change):
    config = {**VAE, **change}
    z = config["z_dim"]
    config["latents_mean"] = random([seed, 1], z, scale=0.5).tolist()
    config["latents_std"] = (random([seed, 2], z).abs() + 0.5).tolist()
    decoder, weights, config = vae(config, seed, random_weights, dtype, encoder)
    latents = random([seed, 3], z, *size)
    video = decode_latents(decoder, config, latents)
    inside = ((video.abs() < 1).float().mean()).item()
    assert 0.5 < inside < 0.999, (name, inside)  # some values are clamped, most are not
    folder = model_folder(name, "vae")
    write_json(folder / "config.json", config)
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    write(name, "vae", {"latents": latents}, {"video": video}, also_streamed=True)


# --------------------------------------------------- transformer: full attention, as in diffusers
WAN = dict(patch_size=[1, 2, 2], num_attention_heads=2, attention_head_dim=14, in_channels=4, out_channels=4,
           text_dim=10, freq_dim=32, ffn_dim=44, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
           eps=1e-6, image_dim=None, added_kv_proj_dim=None, rope_max_seq_len=1024, pos_embed_seq_len=None)


def wan_cases():
    yield "wan-odd-grid", lambda name: wan(name, 1, (3, 6, 10), 7, 812.5)
    yield "wan-one-head", lambda name: wan(name, 2, (1, 2, 6), 1, 1000.0, num_attention_heads=1, attention_head_dim=20,
                                           num_layers=1, cross_attn_norm=False)
    yield "wan-many-heads", lambda name: wan(name, 3, (5, 4, 6), 5, 37.25, num_attention_heads=4, attention_head_dim=12,
                                             ffn_dim=40, num_layers=3, dtype=torch.bfloat16)
    yield "wan-wide-head", lambda name: wan(name, 4, (2, 6, 6), 9, 0.0, num_attention_heads=1, attention_head_dim=34,
                                            ffn_dim=50, num_layers=1, freq_dim=256)
    yield "wan-flat-patch", lambda name: wan(name, 5, (2, 3, 6), 4, 500.0, patch_size=[1, 1, 2], attention_head_dim=10,
                                            num_layers=1)


def ours_of_wan(config):
    """The same model in the words of `reference.py`: one window over everything."""
    return dict(dim=config["num_attention_heads"] * config["attention_head_dim"], ffn_dim=config["ffn_dim"],
                num_layers=config["num_layers"], num_heads=config["num_attention_heads"], attention="dense",
                freq_dim=config["freq_dim"], text_dim=config["text_dim"], in_dim=config["in_channels"],
                out_dim=config["out_channels"], patch_size=config["patch_size"], eps=config["eps"], rope_theta=10000.0,
                qk_norm=True, cross_attn_norm=config["cross_attn_norm"], window_frames=0, sink_frames=0)


def wan(name, seed, size, text_rows, timestep, dtype=torch.float32, **change):
    config = {**WAN, **change}
    ours = ours_of_wan(config)
    weights = random_weights(reference.manifest(reference.resolve(ours)), seed, dtype)
    noisy, context = random([seed, 1], 4, *size), random([seed, 2], text_rows, config["text_dim"])
    model = diffusers_transformer(config, weights)
    velocity = model(noisy[None], torch.tensor([timestep]), context[None]).sample[0]
    check = error(reference.Transformer(ours, weights).velocity(noisy, timestep, context), velocity)
    assert check < 2e-5, (name, check)
    folder = model_folder(name, "transformer")
    write_json(folder / "config.json", {"_class_name": "WanTransformer3DModel", "_diffusers_version": "0.42.1", **config})
    save_file(diffusers_names(weights), folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    inputs = {"context": context, "noisy": noisy, "timestep": torch.tensor(timestep)}
    write(name, "transformer", inputs, {"velocity": velocity}, reference_against_diffusers=float(f"{check:.1e}"))


# ---------------------------------------------------------------- transformer: with a cache, ours
COMMON = dict(_class_name="CausalWanMLATransformer3DModel", model_type="t2v", dim=24, ffn_dim=44, num_layers=2, num_heads=2,
              freq_dim=32, text_dim=10, text_len=7, in_dim=4, out_dim=4, patch_size=[1, 2, 2], eps=1e-6,
              chunk_frames=3, window_frames=6, qk_norm=True, cross_attn_norm=True)
MLA = dict(COMMON, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=10, kv_latent_dim=12, rope_theta=100.0,
           rope_axes_dim=[4, 2, 2])
# The published form (arXiv:2605.30351, section 3 and appendix D), narrower.
PAPER = dict(COMMON, dim=28, num_heads=2, q_latent_dim=20, q_norm="latent", q_bias=False, fused_kv_down=False,
             kv_latent_dim=14, qk_nope_head_dim=12, qk_rope_head_dim=32, v_head_dim=16, rope_theta=10000.0,
             rope_axes_dim=[12, 10, 10], rope_freq_dims=[44, 42, 42], sink_frames=1, window_frames=6,
             rope_positions="window")
DENSE = dict(COMMON, attention="dense", dim=20, num_heads=1, rope_theta=10000.0)
ODD = (6, 10)  # 3 x 5 tokens


def mla_cases():
    yield "mla-embedded-form", lambda name: causal(name, 11, MLA, 4, ODD, 750.0, pins=dict(
        recent=dict(window_frames=5), base=dict(rope_theta=10000.0), sink=dict(sink_frames=1)))
    yield "mla-paper-form", lambda name: causal(name, 12, PAPER, 4, (4, 6), 937.5, pins=dict(
        positions=dict(rope_positions="absolute"), sink=dict(sink_frames=0), recent=dict(window_frames=5),
        denominators=dict(rope_freq_dims=[12, 10, 10])))
    yield "mla-first-chunk", lambda name: causal(name, 13, MLA, 0, ODD, 1000.0)
    yield "mla-partial-window", lambda name: causal(name, 14, dict(PAPER, window_frames=7), 2, ODD, 625.0, pins=dict(
        none=dict(window_frames=2)))
    yield "mla-window-inside-chunk", lambda name: causal(
        name, 15, dict(PAPER, window_frames=4, sink_frames=2, rope_positions="absolute"), 4, (2, 6), 833.25, pins=dict(
            recent=dict(window_frames=3), sink=dict(sink_frames=1), positions=dict(rope_positions="window")))
    yield "mla-one-head-one-frame", lambda name: causal(
        name, 16, dict(MLA, dim=20, num_heads=1, q_norm="none", chunk_frames=1, window_frames=2, num_layers=1, ffn_dim=30),
        4, (2, 6), 250.0, pins=dict(recent=dict(window_frames=1)))
    yield "mla-many-heads-sharded", lambda name: causal(
        name, 17, dict(MLA, dim=48, num_heads=8, qk_nope_head_dim=4, v_head_dim=12, num_layers=3), 3, (4, 4), 875.0,
        dtype=torch.bfloat16, shards=3)
    yield "mla-no-norms", lambda name: causal(
        name, 18, dict(MLA, q_latent_dim=16, q_norm="none", q_bias=True, qk_norm=False, cross_attn_norm=False,
                       sink_frames=1, window_frames=3, chunk_frames=2, rope_positions="window"), 3, ODD, 500.0,
        pins=dict(positions=dict(rope_positions="absolute"), sink=dict(sink_frames=0)))
    yield "mla-query-latent-full-norm", lambda name: causal(
        name, 19, dict(MLA, q_latent_dim=16, q_norm="full", q_bias=True, fused_kv_down=False, sink_frames=3,
                       window_frames=3, rope_positions="window"), 3, (2, 4), 125.0,
        pins=dict(positions=dict(rope_positions="absolute")))
    yield "mla-sink-only", lambda name: causal(
        name, 20, dict(MLA, sink_frames=2, window_frames=0, chunk_frames=2, rope_positions="window"), 3, (4, 2), 687.5,
        pins=dict(recent=dict(window_frames=1), positions=dict(rope_positions="absolute")))
    yield "mla-frame-times", lambda name: causal(name, 21, MLA, 2, (2, 6), [1000.0, 600.0, 40.0])


def dense_cases():
    yield "dense-cache-inside-chunk", lambda name: causal(
        name, 31, dict(DENSE, dim=40, num_heads=2, window_frames=4), 3, ODD, 750.0,
        pins=dict(recent=dict(window_frames=3), sink=dict(sink_frames=1)))
    yield "dense-cache-sink-window", lambda name: causal(
        name, 32, DENSE_SINK, 4, (4, 6), 937.5,
        pins=dict(positions=dict(rope_positions="absolute"), sink=dict(sink_frames=0), recent=dict(window_frames=3)))
    yield "dense-cache-one-frame", lambda name: causal(
        name, 33, dict(DENSE, dim=14, num_heads=1, chunk_frames=1, sink_frames=1, window_frames=2), 5, (2, 6), 500.0,
        pins=dict(positions=dict(rope_positions="window"), recent=dict(window_frames=1)))
    yield "dense-cache-first-chunk", lambda name: causal(name, 34, DENSE, 0, ODD, 1000.0)
    yield "dense-cache-many-heads", lambda name: causal(
        name, 35, dict(DENSE, dim=60, num_heads=6, sink_frames=1, window_frames=5, cross_attn_norm=False,
                       rope_positions="absolute"), 3, (4, 4), 625.0, dtype=torch.bfloat16,
        pins=dict(recent=dict(window_frames=4)))
    # The numbers of dense-cache-sink-window once more, from files of other families.
    for form in ("diffusers", "original-sharded", "pt"):
        yield f"dense-cache-{form}", lambda name, form=form: causal(name, 32, DENSE_SINK, 4, (4, 6), 937.5, form=form)


DENSE_SINK = dict(DENSE, dim=24, num_heads=2, chunk_frames=2, sink_frames=1, window_frames=4, rope_positions="window")


def causal(name, seed, config, chunks, size, timestep, dtype=torch.float32, pins={}, shards=1, form="ours"):
    weights = random_weights(reference.manifest(reference.resolve(config)), seed, dtype)
    channels, frames = config["in_dim"], config["chunk_frames"]
    clean = random([seed, 1001], chunks, channels, frames, *size) if chunks else None
    noisy = random([seed, 1002], channels, frames, *size)
    context = random([seed, 1003], config["text_len"], config["text_dim"])
    context[config["text_len"] // 2:] = 0  # as a short prompt leaves it

    def run(changed={}, dtype=torch.float64):
        model = reference.Transformer({**config, **changed}, weights, dtype)
        for chunk in clean if chunks else ():
            model.commit(chunk, context)
        return {"velocity": model.velocity(noisy, timestep, context), **model.cached()}

    out = run()
    about = check_causal(name, config, weights, clean, noisy, timestep, context, out, run, pins)
    write_transformer(name, config, weights, form, shards)
    inputs = {"context": context, "noisy": noisy, "timestep": torch.tensor(timestep)}
    if chunks:
        inputs["clean"] = clean
    write(name, "transformer", inputs, out, **about)


def check_causal(name, config, weights, clean, noisy, timestep, context, out, run, pins):
    plain = run(dtype=torch.float32)
    rounding = max(error(plain[key], out[key]) for key in out)
    assert rounding < 1e-5, (name, rounding)
    about = dict(float32_against_float64=float(f"{rounding:.1e}"))
    absolute = config.get("rope_positions", "absolute") == "absolute"
    if absolute and clean is not None and not isinstance(timestep, list):
        masked = reference.masked_velocity(config, weights, clean, noisy, timestep, context)
        assert error(masked, out["velocity"]) < 1e-9, name
    if pins:
        moved = {what: error(run(change)["velocity"], out["velocity"]) for what, change in pins.items()}
        assert min(moved.values()) > 20 * TOLERANCE["f32"], (name, moved)
        about["pins"] = {what: float(f"{by:.1e}") for what, by in moved.items()}
    return about


def write_transformer(name, config, weights, form, shards):
    root = model_folder(name, "")
    if form == "ours":
        folder = model_folder(name, "transformer")
        write_json(folder / "config.json", config)
        return save_sharded(weights, folder, shards)
    c = reference.resolve(config)
    window = dict(sink=c.sink_frames, recent=c.window_frames, chunk=c.chunk_frames)
    sampler = dict(update="renoise", shift=5.0, steps=[1000, 750, 500, 250], warp=True)
    write_json(root / "filmloom.json", dict(window=window, rope_positions=c.rope_positions, sampler=sampler,
                                            video=dict(width=48, height=32, fps=16)))
    if form == "diffusers":
        folder = model_folder(name, "transformer")
        write_json(folder / "config.json", {"_class_name": "WanTransformer3DModel", "_diffusers_version": "0.42.1",
                                            **diffusers_config(c)})
        return save_sharded(diffusers_names(weights), folder, 1)
    write_json(root / "config.json", dict(
        _class_name="WanModel", _diffusers_version="0.30.0", model_type="t2v", dim=c.dim, ffn_dim=c.ffn_dim,
        freq_dim=c.freq_dim, in_dim=c.in_dim, out_dim=c.out_dim, num_heads=c.num_heads, num_layers=c.num_layers,
        text_dim=c.text_dim, text_len=c.text_len, eps=c.eps))
    if form == "pt":
        save_pt(weights, root / "model.pt")
    else:
        save_sharded(weights, root, 2)


def diffusers_config(c):
    return {**WAN, "num_attention_heads": c.num_heads, "attention_head_dim": c.head_dim, "in_channels": c.in_dim,
            "out_channels": c.out_dim, "text_dim": c.text_dim, "freq_dim": c.freq_dim, "ffn_dim": c.ffn_dim,
            "num_layers": c.num_layers, "cross_attn_norm": c.cross_attn_norm, "eps": c.eps,
            "patch_size": c.patch_size}


def all_cases():
    groups = (text_cases, vae_cases, wan_cases, mla_cases, dense_cases, noise_cases, pipeline_cases, embedded_cases)
    for group in groups:
        yield from group()


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    reference.check_philox()
    check_levels()
    chosen = sys.argv[1:]
    for name, make in all_cases():
        if not chosen or any(name.startswith(prefix) for prefix in chosen):
            shutil.rmtree(CASES / name, ignore_errors=True)
            make(name)


if __name__ == "__main__":
    main()
