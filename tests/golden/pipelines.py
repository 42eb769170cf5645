"""Cases that run more than one part, and those of the embedded model.

A pipeline here is: clean the prompt, tokenise it, encode it (transformers), zero the rows after
the text and pad with zero rows to the model's text length, sample chunk by chunk
(`reference.py`), decode all frames in one go (diffusers).
"""
import html
import json
import re
import sys

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import UMT5Config, UMT5EncoderModel

import reference
from case import MINI, TOLERANCE, error, model_folder, random, random_weights, write, write_json
from models import diffusers_names, save_sharded, text_encoder, tokenizer_json, vae

PROMPT = "A  red &amp;amp; round ball\nbounces over\tgreen hills "
MINI_PROMPT = "a large red ball bouncing on a checkerboard floor and a small blue star spinning"
WORDS = "a red round green blue ball hills bounces over on floor &".split()
MINI_FROM_CASES = "../../../../models/mini/weights"


# --------------------------------------------------------------------------------------- noise
def noise_cases():
    yield "noise", noise


def noise(name):
    """No part of the model: the numbers that every seed must give, word by word and as normals."""
    draws = [dict(seed=0, chunk=0, step=0, shape=[2, 3, 2, 2]), dict(seed=7, chunk=3, step=2, shape=[5]),
             dict(seed=0x123456789, chunk=1, step=0, shape=[3, 1, 3, 5]),
             dict(seed=2**64 - 1, chunk=2**32 - 1, step=49, shape=[4, 3, 4, 6])]
    out = {}
    for i, draw in enumerate(draws):
        normals, words = reference.noise(**draw)
        out[f"draw.{i}.normals"], out[f"draw.{i}.words"] = normals, words.to(torch.int64)
        draw["seed"] = str(draw["seed"])  # more than a JSON number holds exactly
    many, _ = reference.noise(1, 0, 0, (1_000_000,))
    moments = [many.mean(), many.var() - 1, (many**3).mean(), (many**4).mean() - 3]
    assert all(abs(moment) < 0.03 for moment in moments), moments
    write(name, "noise", {}, out, draws=draws)


# ----------------------------------------------------------------------------------- pipelines
TEXT = dict(d_model=12, d_kv=6, d_ff=20, num_layers=1, num_heads=2, vocab_size=16, relative_attention_num_buckets=32,
            relative_attention_max_distance=128)
VAE = dict(base_dim=1, decoder_base_dim=2, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, attn_scales=[],
           temperal_downsample=[False, True], dropout=0.0, latents_mean=[0.1, -0.3, 0.2, 0.0], latents_std=[1.1, 0.7, 0.9, 1.3])
TRANSFORMER = dict(_class_name="CausalWanMLATransformer3DModel", model_type="t2v", dim=24, ffn_dim=44, num_layers=2,
                   num_heads=2, freq_dim=32, text_dim=12, text_len=14, in_dim=4, out_dim=4, patch_size=[1, 2, 2], eps=1e-6,
                   chunk_frames=3, window_frames=4, qk_norm=True, cross_attn_norm=True)
MLA = dict(TRANSFORMER, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=10, kv_latent_dim=12, rope_theta=100.0,
           rope_axes_dim=[4, 2, 2])
PAPER = dict(TRANSFORMER, q_latent_dim=16, q_norm="latent", q_bias=False, fused_kv_down=False, kv_latent_dim=12,
             qk_nope_head_dim=10, qk_rope_head_dim=8, v_head_dim=12, rope_theta=10000.0, rope_axes_dim=[4, 2, 2],
             rope_freq_dims=[16, 14, 14], sink_frames=1, window_frames=3, rope_positions="window")
DENSE = dict(TRANSFORMER, attention="dense", rope_theta=10000.0, sink_frames=1, window_frames=2, rope_positions="window")
VIDEO = dict(width=24, height=16, fps=16, latent_height=4, latent_width=6, chunk_frames=3)
EVEN = dict(update="euler", shift=3.0, steps=3, first_chunk_steps=4, guidance=1.0, first_chunk_guidance=2.5)
GUIDED = dict(update="euler", shift=5.0, steps=3, first_chunk_steps=3, guidance=3.0, first_chunk_guidance=3.0)
WARPED = dict(update="renoise", shift=5.0, steps=[1000, 750, 500, 250], warp=True)
LISTED = dict(update="renoise", shift=5.0, steps=[1000, 937, 833, 625], warp=False)


def pipeline_cases():
    yield "pipeline-euler", lambda name: pipeline(name, 41, MLA, EVEN, given_noise=True)
    yield "pipeline-euler-seed", lambda name: pipeline(name, 41, MLA, EVEN, model="../pipeline-euler/model")
    yield "pipeline-guided", lambda name: pipeline(name, 42, PAPER, GUIDED, given_noise=True, filmloom=("sampler",))
    yield "pipeline-renoise", lambda name: pipeline(name, 43, DENSE, WARPED, given_noise=True, filmloom=("sampler",))
    yield "pipeline-renoise-seed", lambda name: pipeline(name, 44, PAPER, WARPED, filmloom=("sampler",))
    yield "pipeline-wan-listed", lambda name: pipeline(
        name, 45, dict(DENSE, text_len=512), LISTED, given_noise=True, wan=True,
        filmloom=("window", "rope_positions", "sampler", "video"))


def pipeline(name, seed, config, sampler, given_noise=False, model="model", filmloom=(), wan=False, chunks=3):
    encoder, text_weights, text_config = text_encoder(TEXT, seed, random_weights, torch.float32)
    decoder, vae_weights, vae_config = vae(VAE, seed, random_weights, torch.float32, False)
    weights = random_weights(reference.manifest(reference.resolve(config)), seed)
    tokenizer = tokenizer_json(WORDS, 14)
    if model == "model":
        write_text(name, text_config, text_weights, tokenizer)
        write_vae(name, vae_config, vae_weights)
        write_transformer(name, config, weights, wan)
        write_root(name, config, sampler, filmloom, wan)
    full = dict(guidance=1.0, first_chunk_guidance=1.0, first_chunk_steps=sampler["steps"]) | sampler
    noise_seed = 0x9_8765_4321 + seed
    shape = (chunks, config["in_dim"], config["chunk_frames"], VIDEO["latent_height"], VIDEO["latent_width"])
    draw, noise = draws(full, noise_seed, shape, random([seed, 1004], 12, *shape[1:]) if given_noise else None)
    contexts = [context(encoder, tokenizer, text, config["text_len"]) for text in (PROMPT, "")]

    def run(dtype):
        return reference.sample(reference.Transformer(config, weights, dtype), full, *contexts, chunks, draw)

    x0 = run(torch.float64)
    rounding = error(run(torch.float32), x0)
    assert rounding < 2e-5, (name, rounding)
    pictures = decode_latents(decoder, vae_config, x0.transpose(0, 1).flatten(1, 2)).transpose(0, 1)
    inputs = dict(prompt=torch.tensor(list(PROMPT.encode()), dtype=torch.uint8), seed=torch.tensor(noise_seed),
                  chunks=torch.tensor(chunks))
    if given_noise:
        inputs["noise"] = noise
    write(name, "pipeline", inputs, dict(x0=x0, pictures=pictures), model=model,
          float32_against_float64=float(f"{rounding:.1e}"))


def draws(sampler, seed, shape, given=None):
    """The function `draw(chunk, step)`, and all draws in the order of use."""
    count = lambda steps: 1 if sampler["update"] == "euler" else steps if isinstance(steps, int) else len(steps)
    order = [(chunk, step) for chunk in range(shape[0])
             for step in range(count(sampler["steps" if chunk else "first_chunk_steps"]))]
    if given is None:
        given = torch.stack([reference.noise(seed, chunk, step, shape[1:])[0] for chunk, step in order])
    assert len(given) >= len(order)
    return lambda chunk, step: given[order.index((chunk, step))], given[:len(order)]


def context(encoder, tokenizer, text, length):
    """Rows for the transformer: [length, text_dim], zero after the text."""
    cleaned = re.sub(r"\s+", " ", html.unescape(html.unescape(text))).strip()
    encoding = tokenizer.encode(cleaned)
    ids, mask = torch.tensor([encoding.ids]), torch.tensor([encoding.attention_mask])
    rows = encoder(input_ids=ids, attention_mask=mask).last_hidden_state[0] * mask[0, :, None]
    return torch.nn.functional.pad(rows, (0, 0, 0, length - len(rows)))


def decode_latents(decoder, config, latents):
    """Normalised latents [C, F, H, W] -> [3, P, sH, sW] in [-1, 1]."""
    mean, std = (torch.tensor(config[key]).view(-1, 1, 1, 1) for key in ("latents_mean", "latents_std"))
    return decoder.decode((latents.float() * std + mean)[None]).sample[0]


def write_text(name, config, weights, tokenizer):
    folder = model_folder(name, "text_encoder")
    write_json(folder / "config.json", config)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    folder = model_folder(name, "tokenizer")
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", dict(
        tokenizer_class="PreTrainedTokenizerFast", pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=14, padding_side="right"))


def write_vae(name, config, weights):
    folder = model_folder(name, "vae")
    write_json(folder / "config.json", config)
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})


def write_transformer(name, config, weights, wan):
    folder = model_folder(name, "transformer")
    if not wan:
        write_json(folder / "config.json", config)
        return save_sharded(weights, folder, 1)
    write_json(folder / "config.json", dict(
        _class_name="WanTransformer3DModel", _diffusers_version="0.42.1", patch_size=config["patch_size"],
        num_attention_heads=config["num_heads"], attention_head_dim=config["dim"] // config["num_heads"],
        in_channels=config["in_dim"], out_channels=config["out_dim"], text_dim=config["text_dim"],
        freq_dim=config["freq_dim"], ffn_dim=config["ffn_dim"], num_layers=config["num_layers"], cross_attn_norm=True,
        qk_norm="rms_norm_across_heads", eps=config["eps"], image_dim=None, added_kv_proj_dim=None,
        rope_max_seq_len=1024, pos_embed_seq_len=None))
    save_sharded(diffusers_names(weights), folder, 1)


def write_root(name, config, sampler, filmloom, wan):
    """model_index.json, the scheduler, and of filmloom.json the asked sections."""
    scheduler = model_folder(name, "scheduler")
    write_json(scheduler / "scheduler_config.json", dict(
        _class_name="FlowMatchEulerDiscreteScheduler", _diffusers_version="0.42.1", num_train_timesteps=1000,
        shift=sampler["shift"], use_dynamic_shifting=False))
    library, kind = ("diffusers", "WanTransformer3DModel") if wan else ("videomla", config["_class_name"])
    index = dict(_class_name="WanPipeline" if wan else "VideoMLAPipeline", _diffusers_version="0.42.1",
                 scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"], text_encoder=["transformers", "UMT5EncoderModel"],
                 tokenizer=["transformers", "PreTrainedTokenizerFast"], transformer=[library, kind],
                 vae=["diffusers", "AutoencoderKLWan"])
    if not wan:
        index["video"] = dict(VIDEO)
        if not filmloom:
            index["video"] |= dict(num_inference_steps=sampler["steps"], first_chunk_steps=sampler["first_chunk_steps"],
                                   first_chunk_guidance=sampler["first_chunk_guidance"], guidance_scale=sampler["guidance"])
    write_json(scheduler.parent / "model_index.json", index)
    sections = dict(
        window=dict(sink=config.get("sink_frames", 0), recent=config["window_frames"], chunk=config["chunk_frames"]),
        rope_positions=config.get("rope_positions", "absolute"), sampler=sampler,
        video={key: VIDEO[key] for key in ("width", "height", "fps")})
    if filmloom:
        write_json(scheduler.parent / "filmloom.json", {key: sections[key] for key in filmloom})


def check_levels():
    """Even steps against diffusers' scheduler."""
    for steps, shift in ((4, 3.0), (10, 5.0)):
        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
        scheduler.set_timesteps(sigmas=[1 - k / steps for k in range(steps)])
        ours = torch.tensor([level for _, level in reference.levels(steps, shift)] + [0.0])
        assert error(ours, scheduler.sigmas) < 1e-6
        assert error(1000 * ours[:-1], scheduler.timesteps) < 1e-6
    listed = reference.levels([1000, 937, 833, 625], 5.0, warp=False)
    warped = reference.levels([1000, 750, 500, 250], 5.0)
    assert all(abs(a[1] - b[1]) < 1e-3 for a, b in zip(listed, warped))


# --------------------------------------------------------------------------- the embedded model
def embedded_cases():
    yield "embedded-text", embedded_text
    yield "embedded-first-chunk", lambda name: embedded_transformer(name, 51, 0, 1000.0)
    yield "embedded-full-window", lambda name: embedded_transformer(name, 52, 8, 692.25)
    yield "embedded-training-code", lambda name: embedded_training_code(name, 53, 9, 687.5)
    yield "embedded-vae", embedded_vae
    yield "embedded-pipeline", embedded_pipeline


def embedded(part):
    """A part's config.json and its weights in float32."""
    config = json.loads((MINI / part / "config.json").read_text())
    weights = {}
    for file in sorted((MINI / part).glob("*.safetensors")):
        weights |= load_file(file)
    return config, {name: tensor.float() for name, tensor in weights.items()}


def embedded_encoder():
    config, weights = embedded("text_encoder")
    encoder = UMT5EncoderModel(UMT5Config(**config, attn_implementation="eager")).eval()
    encoder.load_state_dict(weights, strict=False)
    encoder.encoder.embed_tokens.weight = encoder.shared.weight
    return encoder, Tokenizer.from_file(str(MINI / "tokenizer/tokenizer.json"))


def embedded_text(name):
    encoder, tokenizer = embedded_encoder()
    batch = tokenizer.encode_batch([MINI_PROMPT, "a ring", ""])
    ids, mask = torch.tensor([e.ids for e in batch]), torch.tensor([e.attention_mask for e in batch])
    out = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    write(name, "text", {"input_ids": ids, "attention_mask": mask}, {"last_hidden_state": out}, model=MINI_FROM_CASES,
          rows="attention_mask")


def embedded_transformer(name, seed, chunks, timestep):
    config, weights = embedded("transformer")
    rows = context(*embedded_encoder(), MINI_PROMPT, config["text_len"])
    size = (config["in_dim"], config["chunk_frames"], 16, 16)
    clean, noisy = random([seed, 1], chunks, *size, scale=0.8), random([seed, 2], *size)
    outs = []
    for dtype in (torch.float64, torch.float32):
        model = reference.Transformer(config, weights, dtype)
        for chunk in clean:
            model.commit(chunk, rows)
        outs.append(model.velocity(noisy, timestep, rows))
    inputs = {"context": rows, "noisy": noisy, "timestep": torch.tensor(timestep)} | ({"clean": clean} if chunks else {})
    write(name, "transformer", inputs, {"velocity": outs[0]}, model=MINI_FROM_CASES,
          float32_against_float64=float(f"{error(outs[1], outs[0]):.1e}"))


def embedded_training_code(name, seed, chunks, timestep):
    """The velocity from the code that trained the weights (`models/mini/train/dit.py`, float32),
    with its own cache. Its frames are smaller than the model's, its window is full and has moved."""
    sys.path.append(str(MINI.parent / "train"))
    from dit import DIT_CONFIG, CausalDiT
    config, weights = embedded("transformer")
    rows = context(*embedded_encoder(), MINI_PROMPT, config["text_len"])
    count, size = config["chunk_frames"], (config["in_dim"], config["chunk_frames"], 8, 6)
    clean, noisy = random([seed, 1], chunks, *size, scale=0.8), random([seed, 2], *size)

    def run(**changed):
        model = CausalDiT(**{key: config[key] for key in DIT_CONFIG} | changed).eval()
        model.load_state_dict(weights)
        cache, text = model.new_cache(), model.context(rows[None])
        for i, chunk in enumerate(clean):
            model.forward_chunk(chunk[None], torch.zeros(1), text, cache, i * count, write=True)
        return model.forward_chunk(noisy[None], torch.tensor([timestep / 1000]), text, cache, chunks * count)[0]

    velocity = run()
    plain = reference.Transformer(config, weights)
    for chunk in clean:
        plain.commit(chunk, rows)
    check = error(plain.velocity(noisy, timestep, rows), velocity)
    assert check < 1e-5, (name, check)
    changes = dict(recent=dict(window_frames=config["window_frames"] - count), base=dict(rope_theta=10000.0))
    moved = {what: error(run(**change), velocity) for what, change in changes.items()}
    assert min(moved.values()) > 20 * TOLERANCE["f32"], (name, moved)
    inputs = {"context": rows, "noisy": noisy, "timestep": torch.tensor(timestep), "clean": clean}
    write(name, "transformer", inputs, {"velocity": velocity}, model=MINI_FROM_CASES,
          reference_against_training_code=float(f"{check:.1e}"),
          pins={what: float(f"{by:.1e}") for what, by in moved.items()})


def embedded_vae(name):
    """On a corner of sampled frames, so that the pictures stay few."""
    config, weights = embedded("vae")
    decoder = AutoencoderKLWan(**{k: v for k, v in config.items() if not k.startswith("_")}).eval()
    decoder.load_state_dict(weights)
    latents = embedded_sample(1)[0][0][:, :, 5:11, 4:10].float()
    write(name, "vae", {"latents": latents}, {"video": decode_latents(decoder, config, latents)}, model=MINI_FROM_CASES,
          also_streamed=True)


def embedded_pipeline(name):
    x0, rounding, seed = embedded_sample(2)
    inputs = dict(prompt=torch.tensor(list(MINI_PROMPT.encode()), dtype=torch.uint8), seed=torch.tensor(seed),
                  chunks=torch.tensor(2))
    write(name, "pipeline", inputs, dict(x0=x0), model=MINI_FROM_CASES, float32_against_float64=float(f"{rounding:.1e}"))


def embedded_sample(chunks):
    """x0 by the embedded model's own steps and guidance, how far float32 is off, the seed."""
    config, weights = embedded("transformer")
    video = json.loads((MINI / "model_index.json").read_text())["video"]
    shift = json.loads((MINI / "scheduler/scheduler_config.json").read_text())["shift"]
    sampler = dict(update="euler", shift=shift, steps=video["num_inference_steps"], guidance=video["guidance_scale"],
                   first_chunk_steps=video["first_chunk_steps"], first_chunk_guidance=video["first_chunk_guidance"])
    encoder, tokenizer = embedded_encoder()
    contexts = [context(encoder, tokenizer, text, config["text_len"]) for text in (MINI_PROMPT, "")]
    seed = 3
    draw, _ = draws(sampler, seed, (chunks, config["in_dim"], config["chunk_frames"], 16, 16))
    run = lambda dtype: reference.sample(reference.Transformer(config, weights, dtype), sampler, *contexts, chunks, draw)
    x0 = run(torch.float64)
    return x0, error(run(torch.float32), x0), seed
