"""Roll-out in PyTorch: prompt -> latents -> pictures -> mp4 and contact sheet, on a CPU or a GPU.

    python rollout.py --weights ../weights --prompt "a red ball bouncing on a checkerboard floor" --seconds 60 --out ball
"""
import argparse
import time

import torch

from vae import Fast, _norm_silu


def shift_time(u, s):
    """The resolution shift of flow-matching times: more of them near 1."""
    return s * u / (1 + (s - 1) * u)


def euler_times(steps, shift):
    """steps + 1 falling times from 1 to 0."""
    return [shift_time(1 - i / steps, shift) for i in range(steps)] + [0.0]


@torch.no_grad()
def rollout(dit, ctx, chunks, steps=4, first_steps=10, shift=3.0, seed=0, null_ctx=None, first_guidance=2.5, guidance=1.0, times=None):
    """ctx [B,48,384] -> normalised latents [B,12,3*chunks,16,16].  Guidance other than 1 mixes in the velocity of the empty prompt
    `null_ctx` [1,48,384]; `times` collects the seconds per chunk."""
    B, dev, cf = ctx.shape[0], ctx.device, dit.cfg["chunk_frames"]
    g = torch.Generator().manual_seed(seed)
    cache, out = dit.new_cache(), []
    one = torch.ones(B, device=dev)
    for i in range(chunks):
        start = time.time()
        x = torch.randn(B, dit.cfg["in_dim"], cf, 16, 16, generator=g).to(dev)
        ts = euler_times(first_steps if i == 0 else steps, shift)
        w = first_guidance if i == 0 else guidance
        for t, nxt in zip(ts[:-1], ts[1:]):
            v = dit.forward_chunk(x, one * t, ctx, cache, i * cf).float()
            if w != 1.0 and null_ctx is not None:
                v0 = dit.forward_chunk(x, one * t, null_ctx.expand(B, -1, -1), cache, i * cf).float()
                v = v0 + w * (v - v0)
            x = x + (nxt - t) * v
        out.append(x)
        dit.forward_chunk(x, 0 * one, ctx, cache, i * cf, write=True)
        if times is not None:
            times.append(time.time() - start)
    return torch.cat(out, 2)


class StreamDecoder:
    """Streaming decode, equal to diffusers' whole-clip decode: every causal convolution sees two frames back, and this class keeps
    those two frames per convolution."""

    def __init__(self, vae):
        self.vae, self.cache = vae, {}

    def _past(self, key, x, n):
        old = self.cache.get(key)
        if old is None:
            old = x.new_zeros(x.shape[0], n, *x.shape[2:])
        full = torch.cat([old, x], 1)
        self.cache[key] = full[:, -n:]
        return full

    @torch.no_grad()
    def decode(self, z, first):
        """z [B,t,h,w,z] denormalised latents of the next chunk -> frames [B, T, H, W, 3] in [-1,1]"""
        f = Fast(self.vae)
        me = self

        def cat3(x, key):
            p = me._past(key, x, 2)
            return torch.cat([p[:, :-2], p[:, 1:-1], p[:, 2:]], -1)

        def conv3(c, x):
            return f.conv2(cat3(x, id(c)), f.w3(c), c.bias, padding=1)

        def norm_conv3(norm, c, x):
            return conv3(c, _norm_silu(x, norm.gamma, norm.scale))

        def res(m, x):
            h = x if m.conv_shortcut.__class__.__name__ == "Identity" else f.conv1(m.conv_shortcut, x)
            return norm_conv3(m.norm2, m.conv2, norm_conv3(m.norm1, m.conv1, x)) + h

        def up(m, x):
            if m.mode == "upsample3d":
                head, tail = (x[:, :1], x[:, 1:]) if first else (None, x)
                if tail.shape[1]:
                    c = m.time_conv
                    y = torch.nn.functional.linear(cat3(tail, id(c)), c.weight[..., 0, 0].permute(0, 2, 1).flatten(1), c.bias)
                    B, T, H, W, C2 = y.shape
                    tail = y.view(B, T, H, W, 2, C2 // 2).permute(0, 1, 4, 2, 3, 5).reshape(B, T * 2, H, W, C2 // 2)
                    x = tail if head is None else torch.cat([head, tail], 1)
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            return f.conv2(x, m.resample[1].weight, m.resample[1].bias, padding=1)

        d = self.vae.decoder
        x = conv3(d.conv_in, f.conv1(self.vae.post_quant_conv, z))
        x = res(d.mid_block.resnets[0], x)
        x = res(d.mid_block.resnets[1], f.attn(d.mid_block.attentions[0], x))
        for b in d.up_blocks:
            for r in b.resnets:
                x = res(r, x)
            if b.upsamplers is not None:
                x = up(b.upsamplers[0], x)
        return norm_conv3(d.norm_out, d.conv_out, x).clamp(-1, 1)


@torch.no_grad()
def decode_video(vae, z, mean, std, times=None, cf=3):
    """z [B,C,F,16,16] normalised -> uint8 [B,T,128,128,3] on the CPU, chunk by chunk"""
    dec, out = StreamDecoder(vae), []
    z = z.permute(0, 2, 3, 4, 1) * std + mean
    for i in range(0, z.shape[1], cf):
        start = time.time()
        y = dec.decode(z[:, i:i + cf].contiguous(), i == 0)
        out.append(((y + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu())
        if times is not None:
            times.append(time.time() - start)
    return torch.cat(out, 1)


def contact_sheet(video, path, every=32, columns=10):
    """uint8 [T,H,W,3] -> picture file with one frame every `every` frames"""
    from PIL import Image
    fr = video[::every]
    n, H, W, _ = fr.shape
    lines = (n + columns - 1) // columns
    img = torch.zeros(lines, columns, H, W, 3, dtype=torch.uint8)
    img.view(-1, H, W, 3)[:n] = fr
    Image.fromarray(img.permute(0, 2, 1, 3, 4).reshape(lines * H, columns * W, 3).numpy()).save(path)


def main():
    from text import encode_text, tokenize
    from weights_io import FIRST_GUIDANCE, FIRST_STEPS, SHIFT, STEPS, load_export
    ap = argparse.ArgumentParser()
    ap.add_argument("--weights", required=True, help="exported folder")
    ap.add_argument("--prompt", action="append", required=True)
    ap.add_argument("--seconds", type=float, default=60)
    ap.add_argument("--steps", type=int, default=STEPS)
    ap.add_argument("--first_steps", type=int, default=FIRST_STEPS)
    ap.add_argument("--shift", type=float, default=SHIFT)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--first_guidance", type=float, default=FIRST_GUIDANCE)
    ap.add_argument("--guidance", type=float, default=1.0)
    ap.add_argument("--out", default="out")
    a = ap.parse_args()
    dev = "cuda" if torch.cuda.is_available() else "cpu"
    tok, enc, dit, vae, mean, std = load_export(a.weights, dev)
    with torch.no_grad():
        ctx = dit.context(encode_text(enc, *tokenize(tok, a.prompt, dev)))
        null_ctx = dit.context(encode_text(enc, *tokenize(tok, [""], dev)))
    dit_s, vae_s = [], []
    z = rollout(dit, ctx, round(a.seconds * 16 / 12), a.steps, a.first_steps, a.shift, a.seed, null_ctx, a.first_guidance, a.guidance, dit_s)
    video = decode_video(vae, z, mean, std, vae_s)
    mean_s = lambda s: sum(s[1:]) / max(1, len(s) - 1)
    print(f"{len(a.prompt)} prompt(s), {video.shape[1]} pictures; per chunk: DiT {mean_s(dit_s):.3f} s, VAE {mean_s(vae_s):.3f} s")
    for i in range(len(a.prompt)):
        name = f"{a.out}_{i}" if len(a.prompt) > 1 else a.out
        contact_sheet(video[i], name + ".png")
        import imageio
        imageio.mimwrite(name + ".mp4", video[i].numpy(), fps=16, quality=8, macro_block_size=1)


if __name__ == "__main__":
    main()
