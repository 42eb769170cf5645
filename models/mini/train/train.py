"""Train the DiT and the text encoder jointly: flow matching on chunks, teacher forcing mixed with the model's own roll-outs.

    python train.py --vae weights/vae --out OUT --seconds 1400 --weights weights     # start from an exported folder
    python train.py --vae weights/vae --out OUT --seconds 1400 --resume              # go on from OUT/state.pt

Without --weights it starts from nothing.  The schedule is a share of --seconds; OUT/state.pt keeps float32 weights, EMA,
optimiser and the time already used, so a killed run goes on where it was.  README.md says why each part is there.
"""
import argparse
import json
import math
import os
import random
import time

import torch
import torch._dynamo
from safetensors.torch import load_file

import world
from dit import DIT_CONFIG, CausalDiT, dense_attend, dense_mask, rope_tables, train_mask_fn
from optim import Muon
from rollout import euler_times, shift_time
from text import EOS, PAD, UNK, encode_text, grow_embedding, make_text_encoder, make_tokenizer, tokenize
from vae import Fast
from weights_io import FIRST_STEPS, SHIFT, STEPS, load_sharded, load_vae, save_export

CF = DIT_CONFIG["chunk_frames"]
WINDOW = DIT_CONFIG["window_frames"] // CF


def arguments():
    ap = argparse.ArgumentParser()
    ap.add_argument("--vae", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--weights", default="", help="exported folder to start from")
    ap.add_argument("--resume", action="store_true", help="go on from OUT/state.pt")
    ap.add_argument("--seconds", type=float, default=1400, help="length of the whole schedule, start-up included")
    ap.add_argument("--steps", type=int, default=10 ** 9)
    ap.add_argument("--batch", type=int, default=14, help="clips per step")
    ap.add_argument("--chunks", type=int, default=12, help="chunks per clip")
    ap.add_argument("--first_batch", type=int, default=512, help="first chunks of other clips per step")
    ap.add_argument("--first_weight", type=float, default=1.0)
    ap.add_argument("--lr", type=float, default=1.2e-3)
    ap.add_argument("--wd", type=float, default=0.02)
    ap.add_argument("--ema", type=float, default=0.998)
    ap.add_argument("--object_weight", type=float, default=5.0, help="extra loss weight on objects at t = 0")
    ap.add_argument("--counts", type=float, nargs=3, default=(0.5, 0.3, 0.2), help="shares of clips with one, two, three objects")
    ap.add_argument("--first_counts", type=float, nargs=3, default=(0.6, 0.25, 0.15), help="the same for the first chunks")
    ap.add_argument("--turning", type=float, default=0.15, help="share of single objects made to spin, with a shape whose angle can be seen")
    ap.add_argument("--grid", type=float, default=0.6, help="share of samples at the sampler's own times")
    ap.add_argument("--own_from", type=float, default=0.35, help="progress from which contexts are the model's own")
    ap.add_argument("--own", type=float, default=0.5, help="share of steps with such contexts")
    ap.add_argument("--own_batches", type=int, default=16, help="batches per roll-out")
    ap.add_argument("--self_step", type=float, default=0.2, help="share of steps that start from the model's own Euler step")
    ap.add_argument("--buffer", type=int, default=16384)
    ap.add_argument("--first_buffer", type=int, default=131072)
    ap.add_argument("--prefill", type=int, default=2048)
    ap.add_argument("--first_prefill", type=int, default=16384)
    ap.add_argument("--gen", type=int, default=3, help="fresh clips per step")
    ap.add_argument("--first_gen", type=int, default=32, help="fresh first chunks per step")
    ap.add_argument("--checkpoint_every", type=float, default=240)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--no_compile", action="store_true")
    return ap.parse_args()


# --------------------------------------------------------------------------------------------- data
class Buffer:
    """A ring of latent clips on the device: rendered, encoded and captioned on the fly, refreshed at every step."""

    def __init__(self, fast, mean, std, tok, latents, size, dev, seed, dtype, counts, turning):
        self.fast, self.mean, self.std, self.tok, self.dev, self.dtype = fast, mean, std, tok, dev, dtype
        self.latents, self.size, self.rng, self.counts, self.turning = latents, size, random.Random(seed), counts, turning
        self.n = self.at = self.made = 0
        self.z = torch.zeros(size, mean.numel(), latents, 16, 16, dtype=torch.bfloat16 if dev == "cuda" else torch.float32, device=dev)
        self.mask = torch.zeros(size, latents, 16, 16, dtype=torch.bool, device=dev)
        self.ids = torch.zeros(size, 48, dtype=torch.long, device=dev)

    @torch.no_grad()
    def add(self, count):
        """Replace the oldest `count` clips; at the end of the ring a few less."""
        count = min(count, self.size - self.at)
        _, captions, obj, clip = world.batch(self.rng, count, True, self.counts, self.turning)
        x = world.render(obj, clip, torch.zeros(count), 1 + 4 * (self.latents - 1), self.dev, native=True, dtype=self.dtype)
        mu, _ = self.fast.encode(x)
        ids, _ = tokenize(self.tok, captions)
        s = slice(self.at, self.at + count)
        self.z[s] = ((mu - self.mean) / self.std).permute(0, 4, 1, 2, 3)
        self.mask[s] = world.object_mask(obj, self.latents, self.dev)
        self.ids[s] = ids.to(self.dev, non_blocking=True)
        self.n, self.made, self.at = max(self.n, s.stop), self.made + count, s.stop % self.size

    def sample(self, count):
        """-> latents [B,C,F,H,W] float32, object mask [B,F,H,W], token ids [B,48]"""
        j = torch.randint(self.n, (count,), device=self.dev)
        return self.z[j].float(), self.mask[j], self.ids[j]


def augment_ids(ids, p_drop, p_unk=0.02):
    """Drop the whole caption sometimes; replace single words by <unk>, so that unknown words in a prompt do no harm."""
    hit = torch.rand(ids.shape, device=ids.device) < p_unk
    ids = torch.where(hit & (ids > UNK), UNK, ids)
    empty = torch.full_like(ids, PAD)
    empty[:, 0] = EOS
    ids = torch.where(torch.rand(ids.shape[0], 1, device=ids.device) < p_drop, empty, ids)
    return ids, (ids != PAD).long()


def draw_times(shape, steps, share, dev):
    """Flow times in (0, 1]: with probability `share` one of the sampler's own, else anywhere."""
    grid = torch.tensor(euler_times(steps, SHIFT)[:-1], device=dev, dtype=torch.float32)
    anywhere = shift_time(torch.rand(shape, device=dev), SHIFT).clamp(1e-3, 1)
    return torch.where(torch.rand(shape, device=dev) < share, grid[torch.randint(steps, shape, device=dev)], anywhere)


def noised(x, t, eps):
    """(1-t) x + t eps with t [B] or [B,M] broadcast over the rest."""
    t = t.view(*t.shape, *([1] * (x.ndim - t.ndim)))
    return (1 - t) * x + t * eps


# --------------------------------------------------------------------------------------------- the model and its two forwards
class Model:
    """DiT, text encoder and the compiled training forwards."""

    def __init__(self, a, tok, dev):
        self.dit, self.enc = CausalDiT().to(dev), make_text_encoder(tok.get_vocab_size()).to(dev)
        self.dev, self.ids = dev, list(range(a.chunks))
        self.attend = dense_attend(dense_mask(a.chunks, self.ids, 64 * CF, WINDOW, dev)) if dev == "cpu" else self._flex(a.chunks)
        self.block, self.first_block = self._blocks(dev == "cuda" and not a.no_compile)

    def _flex(self, chunks):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        size = 2 * chunks * 64 * CF
        mask = create_block_mask(train_mask_fn(chunks, self.ids, 64 * CF, WINDOW, self.dev), None, None, size, size, device=self.dev)

        def attend(att, q, c, kr):
            k, v = att.expand(c, kr)
            y = flex_attention(q.transpose(1, 2), k.to(q.dtype).transpose(1, 2), v.to(q.dtype).transpose(1, 2), block_mask=mask)
            return y.transpose(1, 2).flatten(2)
        self._check_flex(attend, chunks, size)
        return attend

    @torch.no_grad()
    def _check_flex(self, attend, chunks, size):
        with torch.autocast(self.dev, torch.bfloat16):
            att = self.dit.blocks[0].self_attn
            r = lambda *s: torch.randn(1, size, *s, device=self.dev, dtype=torch.bfloat16)
            q, c, kr = r(att.h, 64), r(att.dc), r(att.dr)
            got = torch.compile(attend)(att, q, c, kr).float()
            want = dense_attend(dense_mask(chunks, self.ids, 64 * CF, WINDOW, self.dev))(att, q, c, kr).float()
        err = ((got - want).norm() / want.norm()).item()
        print("flex attention against dense, relative error:", err, flush=True)
        assert err < 2e-2, "flex_attention gives wrong results here; run with --no_compile on a CPU to compare"

    def _blocks(self, compiled):
        plain = dense_attend()
        main = lambda blk, x, e0, ctx, cos, sin: blk(x, e0, ctx, cos, sin, self.attend)
        first = lambda blk, x, e0, ctx, cos, sin: blk(x, e0, ctx, cos, sin, plain)
        if compiled:
            main, first = torch.compile(main, dynamic=False), torch.compile(first, dynamic=False)
        return main, first

    def context(self, ids, mask):
        return self.dit.context(encode_text(self.enc, ids, mask))

    def velocity(self, clean, noisy, t, ctx):
        """clean [B,C,F,H,W], noisy [B,N,C,3,H,W], t [B,N] -> [B,N,C,3,H,W]"""
        run = lambda blk, x, e0, ctx, cos, sin, _: self.block(blk, x, e0, ctx, cos, sin)
        return self.dit.forward_train(clean, noisy, t, self.ids, ctx, None, run).float()

    def first_velocity(self, noisy, t, ctx):
        """First chunks alone: noisy [B,C,3,H,W], t [B] -> [B,C,3,H,W]"""
        frames, h, w = noisy.shape[2], noisy.shape[3] // 2, noisy.shape[4] // 2
        x = self.dit.patchify(noisy).float()
        cos, sin = rope_tables(torch.arange(frames), h, w, self.dit.cfg, noisy.device)
        e, e0 = self.dit.time_embed(t[:, None])
        for blk in self.dit.blocks:
            x = self.first_block(blk, x, e0, ctx, cos, sin)
        return self.dit.unpatchify(self.dit.head(x, e).float(), frames, h, w)

    def named_parameters(self):
        return list(self.dit.named_parameters()) + [("text." + n, p) for n, p in self.enc.named_parameters()]

    def load(self, folder):
        """An exported folder, its vocabulary possibly shorter than today's."""
        self.dit.load_state_dict({k: v.float() for k, v in load_sharded(os.path.join(folder, "transformer", "diffusion_pytorch_model")).items()})
        state = {k: v.float() for k, v in load_file(os.path.join(folder, "text_encoder", "model.safetensors")).items()}
        with open(os.path.join(folder, "tokenizer", "tokenizer.json")) as f:
            vocab = json.load(f)["model"]["vocab"]
        state["shared.weight"] = grow_embedding(state["shared.weight"], sorted(vocab, key=vocab.get))
        self.enc.load_state_dict(state, strict=False)


# --------------------------------------------------------------------------------------------- contexts of the model's own making
@torch.no_grad()
def own_rollout(dit, z, ctx):
    """The model's own version of the clips z [B,C,F,H,W]: chunk by chunk, each from a noised ground truth (t = 1: from nothing but
    noise), each on top of what it made itself, with the sampler that is used later.  The first chunk keeps enough of the truth to say
    where things are and how they are turned, but its outlines are the model's own, so that later chunks learn to put them right."""
    free = random.random() < 0.15                                    # all from pure noise: errors add up as in a real roll-out
    cache, out = dit.new_cache(), []
    zero = torch.zeros(z.shape[0], device=z.device)
    for i in range(z.shape[2] // CF):
        truth = z[:, :, i * CF:(i + 1) * CF]
        times = euler_times(STEPS if i else FIRST_STEPS, SHIFT)
        k = random.choice([5, 6, 7]) if i == 0 else 0 if free else random.choices([0, 1, 2, 3], [0.3, 0.25, 0.25, 0.2])[0]
        x = noised(truth, zero + times[k], torch.randn_like(truth))
        for t, nxt in zip(times[k:-1], times[k + 1:]):
            x = x + (nxt - t) * dit.forward_chunk(x, zero + t, ctx, cache, i * CF).float()
        dit.forward_chunk(x, zero, ctx, cache, i * CF, write=True)
        out.append(x)
    return torch.cat(out, 2)


def disturb(clean, own):
    """Context as it is met later, never quite clean: noise per chunk, and a constant shift of the latents (a tint)."""
    B, _, F = clean.shape[:3]
    dev = clean.device
    sigma = torch.rand(B, F // CF, device=dev) * (0.12 if own else 0.25) * (torch.rand(B, F // CF, device=dev) < 0.7)
    sigma = sigma.repeat_interleave(CF, 1)[:, None, :, None, None]
    clean = (1 - sigma) * clean + sigma * torch.randn_like(clean)
    tint = 0.06 * torch.randn(B, clean.shape[1], 1, 1, 1, device=dev) * (torch.rand(B, 1, 1, 1, 1, device=dev) < 0.3)
    return clean + tint


class Contexts:
    """Hands out batches (truth, object mask, token ids, context), the context being the truth or the model's own roll-out."""

    def __init__(self, a, model, buffer):
        self.a, self.model, self.buffer, self.pool = a, model, buffer, []

    def next(self, progress):
        if progress < self.a.own_from or random.random() >= self.a.own:
            z, mask, ids = self.buffer.sample(self.a.batch)
            return z, mask, ids, z, False
        if not self.pool:
            z, mask, ids = self.buffer.sample(self.a.batch * self.a.own_batches)
            with torch.no_grad(), torch.autocast(self.model.dev, torch.bfloat16, enabled=self.model.dev == "cuda"):
                own = own_rollout(self.model.dit, z, self.model.context(ids, (ids != PAD).long()))
            self.pool = list(zip(*(x.split(self.a.batch) for x in (z, mask, ids, own))))
        return *self.pool.pop(), True


# --------------------------------------------------------------------------------------------- losses
def weighted(square, t, mask, extra):
    """Squared error with more weight on objects as t falls (at t = 1 a place that depends on the answer would bias the mean)."""
    e = lambda a, n: a.view(*a.shape, *([1] * (square.ndim - n)))
    w = 1 + extra * (1 - e(t, t.ndim)) * mask
    return (square * w).mean() / w.mean()


def clip_loss(a, model, batch):
    """-> loss, plain error per chunk [N]"""
    z, mask, ids, clean, own = batch
    B, N = z.shape[0], z.shape[2] // CF
    ids, tmask = augment_ids(ids, p_drop=0.04)
    chunk = lambda x: x.unflatten(2, (N, CF)).transpose(1, 2)                       # B,N,C,3,H,W
    truth, clean = chunk(z), disturb(clean, own)
    t = draw_times((B, N), STEPS, a.grid, z.device)
    t[:, 0] = draw_times((B,), FIRST_STEPS, a.grid, z.device)
    eps = torch.randn_like(truth)
    ctx = model.context(ids, tmask)
    noisy, target = noised(truth, t, eps), eps - truth
    if own and random.random() < a.self_step / max(a.own, 1e-6):
        t, noisy, target = own_step(model, clean, truth, eps, t, noisy, target, ctx.detach())
    v = model.velocity(clean, noisy, t, ctx)
    square = (v - target).pow(2)
    m = mask.unflatten(1, (N, CF))[:, :, None].float()
    return weighted(square, t, m, a.object_weight), square.detach().mean((0, 2, 3, 4, 5))


@torch.no_grad()
def own_velocity(model, *args):
    """Velocity without gradients.  Autocast must not cache the weights it casts here: the cached copies carry no gradient, and
    the training forward that follows would use them."""
    with torch.autocast(model.dev, torch.bfloat16, enabled=model.dev == "cuda", cache_enabled=False):
        return model.velocity(*args)


@torch.no_grad()
def own_step(model, clean, truth, eps, t, noisy, target, ctx):
    """One Euler step of the model's own from the sampler's times, in all chunks but the first: trains it to undo its own error."""
    grid = torch.tensor(euler_times(STEPS, SHIFT), device=t.device, dtype=torch.float32)
    k = torch.randint(STEPS - 1, t.shape, device=t.device)
    t1, t2 = grid[k], grid[k + 1]
    e = lambda x: x[..., None, None, None, None]
    x1 = noised(truth, t1, eps)
    x2 = x1 + e(t2 - t1) * own_velocity(model, clean, x1, t1, ctx)
    later = (torch.arange(t.shape[1], device=t.device) > 0).expand(t.shape)
    pick = lambda new, old: torch.where(e(later), new, old)
    return torch.where(later, t2, t), pick(x2, noisy), pick((x2 - truth) / e(t2), target)


def first_loss(a, model, buffer):
    """First chunks of many other scenes: only there does text decide what is seen."""
    z, mask, ids = buffer.sample(a.first_batch)
    ids, tmask = augment_ids(ids, p_drop=0.1)
    t = draw_times((a.first_batch,), FIRST_STEPS, a.grid, z.device)
    eps = torch.randn_like(z)
    v = model.first_velocity(noised(z, t, eps), t, model.context(ids, tmask))
    square = (v - (eps - z)).pow(2)
    return weighted(square, t, mask[:, None].float(), a.object_weight), square.detach().mean()


# --------------------------------------------------------------------------------------------- optimiser, EMA, state
class Optimiser:
    """Muon on the matrices of the layers, AdamW on the rest, and the running mean of the weights."""

    def __init__(self, a, model, gpu):
        named = model.named_parameters()
        is_muon = lambda n, p: n.startswith("blocks.") and p.ndim == 2
        muon, adam = [p for n, p in named if is_muon(n, p)], [p for n, p in named if not is_muon(n, p)]
        self.names = [n for n, p in named if is_muon(n, p)] + [n for n, p in named if not is_muon(n, p)]
        self.params, self.adam, self.decay = muon + adam, adam, a.ema
        self.parts = [Muon(muon, a.lr, weight_decay=a.wd), torch.optim.AdamW(adam, lr=a.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=gpu)]
        self.mean = [p.detach().clone() for p in self.params]

    def step(self, loss, lr, step):
        for o in self.parts:
            o.param_groups[0]["lr"] = lr
            o.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.adam, 1.0)
        for o in self.parts:
            o.step()
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.params], 1 - min(self.decay, (step + 1) / (step + 20)))

    def state(self):
        return {"names": self.names, "weights": [p.detach() for p in self.params], "ema": self.mean, "parts": [o.state_dict() for o in self.parts]}

    def load(self, state):
        assert state["names"] == self.names, "state.pt belongs to another model"
        with torch.no_grad():
            for mine, saved in ((self.params, state["weights"]), (self.mean, state["ema"])):
                for p, q in zip(mine, saved):
                    p.copy_(q)
        for o, s in zip(self.parts, state["parts"]):
            o.load_state_dict(s)


def save_state(path, optimiser, **more):
    torch.save({**optimiser.state(), **more}, path + ".part")
    os.replace(path + ".part", path)


def export_state(state, tok, vae_folder, folder):
    """Write the EMA weights of a state as an exported folder (bf16)."""
    ema = dict(zip(state["names"], state["ema"]))
    vae, mean, std = load_vae(vae_folder, "cpu")
    enc = {k[5:]: v for k, v in ema.items() if k.startswith("text.")}
    order = CausalDiT().state_dict()
    return save_export(folder, tok, enc, {k: ema[k] for k in order}, vae, mean, std)


def learning_rate(a, step, progress):
    """A short warm-up, a short plateau, then straight down to nothing."""
    return a.lr * min(1, (step + 1) / 100) * min(1.0, max(0.01, (1 - progress) / 0.9))


# --------------------------------------------------------------------------------------------- the loop
def setup(a):
    dev = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.accumulated_recompile_limit = 512
    torch.manual_seed(a.seed)
    random.seed(a.seed)
    tok = make_tokenizer()
    model = Model(a, tok, dev)
    if a.weights:
        model.load(a.weights)
    vae, mean, std = load_vae(a.vae, dev)
    dtype = torch.bfloat16 if dev == "cuda" else torch.float32
    fast = Fast(vae.requires_grad_(False).to(dtype), fused=dev == "cuda")
    clips = Buffer(fast, mean, std, tok, a.chunks * CF, a.buffer, dev, 1000 + a.seed, dtype, a.counts, a.turning)
    firsts = Buffer(fast, mean, std, tok, CF, a.first_buffer, dev, 2000 + a.seed, dtype, a.first_counts, a.turning)
    return dev, tok, model, clips, firsts


def fill(buffer, count, at_once):
    start = time.time()
    while buffer.n < min(count, buffer.size):
        buffer.add(at_once)
    if buffer.dev == "cuda":
        torch.cuda.synchronize()
    print(f"{buffer.n} clips of {buffer.latents} latent frames in {time.time() - start:.1f} s", flush=True)


class Log:
    """Mean losses since the last line; kept on the device until a line is due."""

    def __init__(self, path):
        self.path, self.sums, self.count, self.since = path, {}, 0, time.time()

    def add(self, values):
        for k, v in values.items():
            s = self.sums.setdefault(k, [0.0, 0])
            self.sums[k] = [s[0] + v.detach(), s[1] + 1]
        self.count += 1

    def line(self, **more):
        """Print and append a line; stops the run if the loss is not finite."""
        row = {**more, **{k: round((s / n).item(), 4) for k, (s, n) in self.sums.items()}}
        row["steps_per_s"] = round(self.count / (time.time() - self.since), 2)
        if torch.cuda.is_available():
            row["gib"] = round(torch.cuda.max_memory_allocated() / 2 ** 30, 1)
        print(json.dumps(row), flush=True)
        with open(self.path, "a") as f:
            f.write(json.dumps(row) + "\n")
        if not math.isfinite(row["loss"]):
            raise SystemExit("the loss is no longer finite; resume from the last state.pt with a lower --lr")
        self.sums, self.count, self.since = {}, 0, time.time()


def main():
    a = arguments()
    start = time.time()
    os.makedirs(a.out, exist_ok=True)
    path = os.path.join(a.out, "state.pt")
    dev, tok, model, clips, firsts = setup(a)
    optimiser, step, used = Optimiser(a, model, dev == "cuda"), 0, 0.0
    if a.resume:
        state = torch.load(path, map_location=dev, weights_only=True)
        optimiser.load(state)
        step, used = state["step"], state["seconds"]
        del state
    fill(clips, a.prefill, 8)
    fill(firsts, a.first_prefill, 128)
    contexts, log = Contexts(a, model, clips), Log(os.path.join(a.out, "log.jsonl"))
    first_step, saved = step, time.time()
    elapsed = lambda: used + time.time() - start
    origin = elapsed() if not a.resume else 0.0                      # start-up is no part of the schedule
    save = lambda: save_state(path, optimiser, step=step, seconds=elapsed(), args=vars(a))
    while step < a.steps and elapsed() < a.seconds:
        progress = (elapsed() - origin) / (a.seconds - origin)
        if step % 4 == 0:                                            # in fours: fewer, larger launches
            clips.add(4 * a.gen)
            firsts.add(4 * a.first_gen)
        batch = contexts.next(progress)
        with torch.autocast(dev, torch.bfloat16, enabled=dev == "cuda"):
            loss, chunk = clip_loss(a, model, batch)
            loss0, c0 = first_loss(a, model, firsts)
            total = loss + a.first_weight * loss0
        lr = learning_rate(a, step, progress)
        optimiser.step(total, lr, step)
        log.add({"loss": total, "c0": c0, "own" if batch[-1] else "truth": chunk[1:].mean(), "c1": chunk[1], "c2-6": chunk[2:7].mean(), "c7+": chunk[7:].mean()})
        step += 1
        if step % 100 == 0 or step - first_step in (1, 10, 30):
            log.line(step=step, t=round(elapsed(), 1), lr=round(lr, 6), clips=clips.made, firsts=firsts.made)
        if time.time() - saved > a.checkpoint_every:
            save()
            saved = time.time()
    save()
    size = export_state({"names": optimiser.names, "ema": optimiser.mean}, tok, a.vae, os.path.join(a.out, "export"))
    print(json.dumps({"done": True, "step": step, "seconds": round(elapsed(), 1), "export_mb": round(size / 1e6, 1)}), flush=True)


if __name__ == "__main__":
    main()
