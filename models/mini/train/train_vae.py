"""Train the small Wan VAE on procedural clips and write it as a diffusers vae/ folder.

    python train_vae.py --out vae --seconds 280
"""
import argparse
import json
import math
import os
import random
import time
import torch
import torch.nn.functional as F
import world
from optim import Muon
from vae import Fast, make_vae
from weights_io import save_vae


def ssim_loss(a, b):
    """1 - SSIM with an 8x8 box window, stride 4; a, b [N,3,H,W] in [-1,1]"""
    pool = lambda x: F.avg_pool2d(x, 8, 4)
    ma, mb = pool(a), pool(b)
    va, vb, ab = pool(a * a) - ma * ma, pool(b * b) - mb * mb, pool(a * b) - ma * mb
    c1, c2 = 0.02 ** 2, 0.06 ** 2
    s = ((2 * ma * mb + c1) * (2 * ab + c2)) / ((ma * ma + mb * mb + c1) * (va + vb + c2))
    return 1 - s.mean()


def recon_loss(x, y):
    """x target, y output, both [B,T,H,W,3]"""
    l1 = (x - y).abs().mean()
    gx = ((x[:, :, :, 1:] - x[:, :, :, :-1]) - (y[:, :, :, 1:] - y[:, :, :, :-1])).abs().mean()
    gy = ((x[:, :, 1:] - x[:, :, :-1]) - (y[:, :, 1:] - y[:, :, :-1])).abs().mean()
    gt = ((x[:, 1:] - x[:, :-1]) - (y[:, 1:] - y[:, :-1])).abs().mean()
    ss = ssim_loss(x.flatten(0, 1).permute(0, 3, 1, 2), y.flatten(0, 1).permute(0, 3, 1, 2))
    return l1 + 0.7 * (gx + gy) + 0.5 * gt + 0.15 * ss, l1


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", required=True)
    ap.add_argument("--seconds", type=float, default=280)
    ap.add_argument("--scale", type=float, default=1.0, help="batch multiplier (tests)")
    ap.add_argument("--lr", type=float, default=3e-3)
    ap.add_argument("--kl", type=float, default=1e-4)
    ap.add_argument("--steps", type=int, default=10 ** 9)
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    dev = "cuda" if torch.cuda.is_available() else "cpu"
    gpu = dev == "cuda"
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.manual_seed(0)
    rng = random.Random(1)
    vae = make_vae().to(dev)
    fast = Fast(vae, fused=gpu)
    # (until this share of the time, clips per step, frames, crop): first small crops around objects, at last whole pictures
    phases = [(0.55, 48, 9, 64), (0.82, 16, 29, 64), (1.01, 8, 25, 128)]
    params = list(vae.parameters())
    is_mu = lambda n, p: p.ndim >= 4 and min(p.shape[0], p[0].numel()) >= 16 and "conv_in" not in n and "conv_out" not in n and "quant" not in n
    mu = [p for n, p in vae.named_parameters() if is_mu(n, p)]
    ad = [p for n, p in vae.named_parameters() if not is_mu(n, p)]
    opts = [Muon(mu, a.lr), torch.optim.AdamW(ad, lr=a.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=gpu)]
    ema = [p.detach().clone() for p in params]
    t0 = time.time()
    step, log, warm = 0, [], None
    dt = torch.bfloat16 if gpu else torch.float32
    while step < a.steps:
        el = time.time() - t0
        frac = el / a.seconds
        if frac >= 1:
            break
        _, bs, frames, crop = next(p for p in phases if frac < p[0])
        bs = max(1, int(bs * a.scale))
        _, _, obj, clip = world.batch(rng, bs)
        start = torch.tensor([rng.random() * 20 for _ in range(bs)])
        with torch.no_grad():
            x = world.render(obj, clip, start, frames, dev, native=True, crop=crop, center=world.focus(rng, obj, start, frames) if crop < world.SIZE else None)
        if step == 10:
            warm = time.time()
        lr = a.lr * min(1, (step + 1) / 100) * (1.0 if frac < 0.35 else 0.5 * (1 + math.cos(math.pi * (frac - 0.35) / 0.65)) * 0.98 + 0.02)
        for o in opts:
            for g in o.param_groups:
                g["lr"] = lr
        mean, logvar = fast.encode(x.to(dt))
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        y = fast.decode(z.to(dt)).float()
        rec, l1 = recon_loss(x, y)
        kl = 0.5 * (mean * mean + logvar.exp() - 1 - logvar).mean()
        loss = rec + a.kl * kl
        for o in opts:
            o.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(ad, 1.0)
        for o in opts:
            o.step()
        d = min(0.998, (step + 1) / (step + 20))
        torch._foreach_lerp_(ema, [p.detach() for p in params], 1 - d)
        if step % 200 == 0 or step in (20, 60):
            if gpu:
                torch.cuda.synchronize()
            mse = F.mse_loss(y.clamp(-1, 1), x).item()
            psnr = 10 * math.log10(4 / max(mse, 1e-9))
            r = dict(step=step, t=round(time.time() - t0, 1), loss=round(loss.item(), 4), l1=round(l1.item(), 4), frames=frames, crop=crop, psnr=round(psnr, 2), kl=round(kl.item(), 3))
            log.append(r)
            print(r, f"{(step - 10) / (time.time() - warm):.2f} it/s" if warm else "", flush=True)
        step += 1
    with torch.no_grad():
        for p, e in zip(params, ema):
            p.copy_(e)
    # latent statistics, held-out quality
    rng = random.Random(12345)
    sums, sq, n, mses, edges = 0, 0, 0, [], []
    with torch.no_grad():
        for k in range(8 if gpu else 1):
            _, caps, obj, clip = world.batch(rng, 16 if gpu else 2)
            x = world.render(obj, clip, torch.rand(len(caps)) * 5, 61 if gpu else 17, dev, native=True)
            mean, logvar = fast.encode(x.to(dt))
            y = fast.decode(mean.to(dt)).float().clamp(-1, 1)
            mses.append(((x - y) ** 2).mean((1, 2, 3, 4)))
            sums, sq, n = sums + mean.double().sum((0, 1, 2, 3)), sq + (mean.double() ** 2).sum((0, 1, 2, 3)), n + mean[..., 0].numel()
            post = torch.exp(0.5 * logvar).mean((0, 1, 2, 3))
    mu = sums / n
    std = (sq / n - mu ** 2).sqrt()
    mse = torch.cat(mses)
    psnr = 10 * torch.log10(4 / mse)
    extra = dict(latents_mean=mu.tolist(), latents_std=std.tolist(), posterior_std=post.tolist(), steps=step, seconds=round(time.time() - t0, 1),
                 heldout_psnr_mean=psnr.mean().item(), heldout_psnr_min=psnr.min().item(), log=log)
    print({k: v for k, v in extra.items() if k != "log"})
    save_vae(a.out, vae, mu, std)
    with open(os.path.join(a.out, "train_log.json"), "w") as f:
        json.dump(extra, f)
    from PIL import Image
    k = min(6, x.shape[0])
    fr = [0, 1, 9, x.shape[1] - 12 if x.shape[1] > 20 else 12, x.shape[1] - 1]
    img = torch.cat([torch.cat([x[i, fr].permute(1, 0, 2, 3).flatten(1, 2), y[i, fr].permute(1, 0, 2, 3).flatten(1, 2)], 0) for i in range(k)], 0)
    Image.fromarray(((img + 1) * 127.5).clamp(0, 255).byte().cpu().numpy()).save(os.path.join(a.out, "vae_recon.png"))


if __name__ == "__main__":
    main()
