"""The causal transformer, its sampler and its noise, written to be obviously right.

Everything runs in float64 by default, nothing is fused, no cache is ever rotated, shortened or
reused: a pass gathers the rows of the frames it may see, rotates them, and computes plain
softmax attention over them. Slow, and meant to be read.

Words: a *frame* is a latent frame; a *chunk* is the frames generated together; *rows* are what
a layer keeps of a token (latent attention: content latent after its norm, then the shared rope
key before rotation; dense attention: keys after their norm and before rotation, then values);
the *window* is the frames a pass attends to besides its own chunk: `sink` first frames of the
video and `recent` latest committed ones. Timesteps are in 0..1000.

Sources: Wan-Video/Wan2.1 and huggingface/diffusers (structure of a layer, names of tensors);
arXiv:2605.30351, section 3 and appendix D (latent attention, window, positions);
guandeh17/Self-Forcing (commit pass, renoising, warped step lists);
Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox4x32-10).
"""
import math
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F


# ------------------------------------------------------------------------------- configuration
def resolve(config):
    """The content of a `CausalWanMLATransformer3DModel` config.json, with its defaults filled in."""
    c = SimpleNamespace(**config)
    c.attention = config.get("attention", "mla")
    c.sink_frames = config.get("sink_frames", 0)
    c.rope_positions = config.get("rope_positions", "absolute")
    c.head_dim = c.dim // c.num_heads
    if c.attention == "dense":
        third = 2 * (c.head_dim // 6)
        c.rope_axes_dim = config.get("rope_axes_dim", [c.head_dim - 2 * third, third, third])
    else:
        rank = config.get("q_latent_dim")
        c.q_latent_dim = rank
        c.q_norm = config.get("q_norm", "latent" if rank else "full" if c.qk_norm else "none")
        c.fused_kv_down = config.get("fused_kv_down", True)
        c.q_bias = config.get("q_bias", rank is None)
        c.query = c.num_heads * (c.qk_nope_head_dim + c.qk_rope_head_dim)
    c.rope_freq_dims = config.get("rope_freq_dims", c.rope_axes_dim)
    return c


def manifest(c):
    """Names (original Wan names) and shapes of a resolved configuration's tensors."""
    d, out = c.dim, {}

    def linear(name, rows, columns, bias=True):
        out[name + ".weight"] = [rows, columns]
        if bias:
            out[name + ".bias"] = [rows]

    out["patch_embedding.weight"] = [d, c.in_dim, *c.patch_size]
    out["patch_embedding.bias"] = [d]
    linear("text_embedding.0", d, c.text_dim)
    linear("text_embedding.2", d, d)
    linear("time_embedding.0", d, c.freq_dim)
    linear("time_embedding.2", d, d)
    linear("time_projection.1", 6 * d, d)
    for i in range(c.num_layers):
        layer = f"blocks.{i}."
        out[layer + "modulation"] = [1, 6, d]
        if c.attention == "dense":
            dense_manifest(c, layer + "self_attn.", linear, out)
        else:
            latent_manifest(c, layer + "self_attn.", linear, out)
        if c.cross_attn_norm:
            out[layer + "norm3.weight"], out[layer + "norm3.bias"] = [d], [d]
        dense_manifest(c, layer + "cross_attn.", linear, out)
        linear(layer + "ffn.0", c.ffn_dim, d)
        linear(layer + "ffn.2", d, c.ffn_dim)
    out["head.modulation"] = [1, 2, d]
    linear("head.head", math.prod(c.patch_size) * c.out_dim, d)
    return out


def dense_manifest(c, prefix, linear, out):
    for name in "qkvo":
        linear(prefix + name, c.dim, c.dim)
    if c.qk_norm:
        out[prefix + "norm_q.weight"], out[prefix + "norm_k.weight"] = [c.dim], [c.dim]


def latent_manifest(c, prefix, linear, out):
    if c.q_latent_dim:
        linear(prefix + "q_down", c.q_latent_dim, c.dim, c.q_bias)
        linear(prefix + "q_up", c.query, c.q_latent_dim, c.q_bias)
    else:
        linear(prefix + "q", c.query, c.dim, c.q_bias)
    if c.q_norm != "none":
        out[prefix + "norm_q.weight"] = [c.q_latent_dim if c.q_norm == "latent" else c.query]
    if c.fused_kv_down:
        linear(prefix + "kv_down", c.kv_latent_dim + c.qk_rope_head_dim, c.dim, False)
    else:
        linear(prefix + "kv_down", c.kv_latent_dim, c.dim, False)
        linear(prefix + "k_rope", c.qk_rope_head_dim, c.dim, False)
    out[prefix + "norm_kv.weight"] = [c.kv_latent_dim]
    linear(prefix + "k_up", c.num_heads * c.qk_nope_head_dim, c.kv_latent_dim, False)
    linear(prefix + "v_up", c.num_heads * c.v_head_dim, c.kv_latent_dim, False)
    linear(prefix + "o", c.dim, c.num_heads * c.v_head_dim)


# --------------------------------------------------------------------------------- transformer
class Transformer:
    """A video in generation: weights, and the rows of every committed frame."""

    def __init__(self, config, weights, dtype=torch.float64):
        self.c = resolve(config)
        self.dtype = dtype
        self.weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
        self.forget()

    def forget(self):
        """Starts a new video."""
        self.rows = [[] for _ in range(self.c.num_layers)]  # per layer, per frame: [tokens, row]

    def commit(self, frames, context):
        """The commit pass of a clean chunk [C, f, H, W]: its rows join the history."""
        _, new = self.forward(frames, [0.0] * frames.shape[1], context)
        for layer, rows in enumerate(new):
            self.rows[layer] += list(rows.chunk(frames.shape[1]))

    def velocity(self, frames, timestep, context):
        """Velocity [C, f, H, W] of a chunk; `timestep` is one number or one per frame."""
        times = list(timestep) if hasattr(timestep, "__len__") else [timestep] * frames.shape[1]
        return self.forward(frames, times, context)[0]

    def cached(self):
        """What the next chunk's pass reads, in window order, by name: the committed rows."""
        history, positions, _ = self.window(0)
        out = {}
        for layer, rows in enumerate(self.rows):
            if not history:
                continue
            rows = torch.cat([rows[i] for i in history])
            if self.c.attention == "mla":
                out[f"cache.{layer}"] = rows
            else:
                k, v = rows.split(self.c.dim, -1)
                k = self.rotate(k.unflatten(-1, (self.c.num_heads, -1)), positions).flatten(1)
                out[f"cache.{layer}.k"], out[f"cache.{layer}.v"] = k, v
        return out

    def window(self, frames):
        """Indices of the attended committed frames, their positions, those of the chunk."""
        committed = len(self.rows[0])
        sink = min(self.c.sink_frames, committed)
        recent = max(sink, committed - self.c.window_frames)
        history = [*range(sink), *range(recent, committed)]
        if self.c.rope_positions == "absolute":
            return history, history, list(range(committed, committed + frames))
        n = len(history)
        return history, list(range(n)), list(range(n, n + frames))

    def forward(self, frames, times, context):
        """One pass of a chunk over its window: velocity, and the chunk's rows of every layer."""
        c, count = self.c, frames.shape[1]
        self.grid = frames.shape[2] // c.patch_size[1], frames.shape[3] // c.patch_size[2]
        history, old_positions, new_positions = self.window(count)
        x = self.patchify(frames.to(self.dtype))
        e = self.mlp("time_embedding", self.sinusoid(times), F.silu)  # [f, dim]
        e0 = self.linear("time_projection.1", F.silu(e)).unflatten(-1, (6, -1))  # [f, 6, dim]
        gelu = lambda y: F.gelu(y, approximate="tanh")
        context = self.mlp("text_embedding", context.to(self.dtype), gelu)
        new = []
        for i in range(c.num_layers):
            layer = f"blocks.{i}."
            shift1, scale1, gate1, shift2, scale2, gate2 = (
                self.per_token(m, count) for m in (self.weights[layer + "modulation"] + e0).unbind(1))
            y = self.layer_norm(x) * (1 + scale1) + shift1
            rows = self.project(layer + "self_attn.", y)
            old = torch.cat([self.rows[i][j] for j in history] + [rows[:0]])
            x = x + gate1 * self.attend(layer + "self_attn.", y, torch.cat([old, rows]),
                                        old_positions + new_positions, new_positions)
            x = x + self.cross(layer + "cross_attn.", self.norm3(layer, x), context)
            y = self.layer_norm(x) * (1 + scale2) + shift2
            x = x + gate2 * self.mlp(layer + "ffn", y, gelu)
            new.append(rows)
        shift, scale = (self.per_token(m, count) for m in (self.weights["head.modulation"] + e[:, None]).unbind(1))
        y = self.linear("head.head", self.layer_norm(x) * (1 + scale) + shift)
        return self.unpatchify(y, count), new

    # ---- self-attention
    def project(self, name, y):
        """The rows of `y`."""
        if self.c.attention == "dense":
            k = self.rms_norm(name + "norm_k.weight", self.linear(name + "k", y))
            return torch.cat([k, self.linear(name + "v", y)], -1)
        down = self.linear(name + "kv_down", y)
        if self.c.fused_kv_down:
            content, key = down.split([self.c.kv_latent_dim, self.c.qk_rope_head_dim], -1)
        else:
            content, key = down, self.linear(name + "k_rope", y)
        return torch.cat([self.rms_norm(name + "norm_kv.weight", content), key], -1)

    def attend(self, name, y, rows, positions, query_positions):
        """Attention of the chunk's `y` over `rows`, and the output projection."""
        c, heads = self.c, self.c.num_heads
        if c.attention == "dense":
            q = self.rms_norm(name + "norm_q.weight", self.linear(name + "q", y)).unflatten(-1, (heads, -1))
            k, v = (part.unflatten(-1, (heads, -1)) for part in rows.split(c.dim, -1))
            q, k = self.rotate(q, query_positions), self.rotate(k, positions)
        else:
            nope, rope = c.qk_nope_head_dim, c.qk_rope_head_dim
            q = self.query(name, y).unflatten(-1, (heads, nope + rope))
            q = torch.cat([q[..., :nope], self.rotate(q[..., nope:], query_positions)], -1)
            content, key = rows.split([c.kv_latent_dim, rope], -1)
            key = self.rotate(key[:, None], positions).expand(-1, heads, -1)
            k = torch.cat([self.linear(name + "k_up", content).unflatten(-1, (heads, nope)), key], -1)
            v = self.linear(name + "v_up", content).unflatten(-1, (heads, c.v_head_dim))
        return self.linear(name + "o", self.softmax_attention(q, k, v))

    def query(self, name, y):
        """Finished queries of latent attention, before rotation."""
        if not self.c.q_latent_dim:
            q = self.linear(name + "q", y)
        else:
            q = self.linear(name + "q_down", y)
            if self.c.q_norm == "latent":
                q = self.rms_norm(name + "norm_q.weight", q)
            q = self.linear(name + "q_up", q)
        return self.rms_norm(name + "norm_q.weight", q) if self.c.q_norm == "full" else q

    def rotate(self, x, positions):
        """Rotates x [tokens, heads, width]; `positions` are those of the frames in it."""
        c, (h, w) = self.c, self.grid
        place = torch.tensor([[t, row, column] for t in positions for row in range(h) for column in range(w)],
                             dtype=torch.float64).reshape(-1, 3)
        angles = []
        for axis, (width, denominator) in enumerate(zip(c.rope_axes_dim, c.rope_freq_dims)):
            frequencies = c.rope_theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / denominator)
            angles.append(place[:, axis:axis + 1] * frequencies)
        angles = torch.cat(angles, -1)[:, None]
        cos, sin = angles.cos().to(self.dtype), angles.sin().to(self.dtype)
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

    # ---- everything else
    def cross(self, name, y, context):
        """Cross-attention to all rows of the context; padding is not masked."""
        heads = self.c.num_heads
        q = self.rms_norm(name + "norm_q.weight", self.linear(name + "q", y)).unflatten(-1, (heads, -1))
        k = self.rms_norm(name + "norm_k.weight", self.linear(name + "k", context)).unflatten(-1, (heads, -1))
        v = self.linear(name + "v", context).unflatten(-1, (heads, -1))
        return self.linear(name + "o", self.softmax_attention(q, k, v))

    def softmax_attention(self, q, k, v):
        """[queries, heads, d], [keys, heads, d], [keys, heads, e] -> [queries, heads * e]"""
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
        return torch.einsum("hqk,khe->qhe", scores.softmax(-1), v).flatten(1)

    def patchify(self, frames):
        """[C, f, H, W] -> [f * h * w, dim], frame-major, then rows, then columns"""
        weight = self.weights["patch_embedding.weight"]
        y = F.conv3d(frames[None], weight, self.weights["patch_embedding.bias"], tuple(self.c.patch_size))
        return y[0].flatten(1).T

    def unpatchify(self, y, count):
        """[f * h * w, ph * pw * C], channel last -> [C, f, H, W]"""
        (h, w), (_, ph, pw) = self.grid, self.c.patch_size
        y = y.reshape(count, h, w, ph, pw, self.c.out_dim)
        return y.permute(5, 0, 1, 3, 2, 4).reshape(self.c.out_dim, count, h * ph, w * pw)

    def sinusoid(self, times):
        half = self.c.freq_dim // 2
        frequencies = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.tensor(times, dtype=torch.float64)[:, None] * frequencies
        return torch.cat([angles.cos(), angles.sin()], -1).to(self.dtype)

    def per_token(self, modulation, count):
        """[f or 1, dim] -> [tokens, dim]"""
        return modulation.expand(count, -1).repeat_interleave(self.grid[0] * self.grid[1], 0)

    def linear(self, name, x):
        return F.linear(x, self.weights[name + ".weight"], self.weights.get(name + ".bias"))

    def mlp(self, name, x, activation):
        return self.linear(name + ".2", activation(self.linear(name + ".0", x)))

    def layer_norm(self, x):
        return F.layer_norm(x, (self.c.dim,), None, None, self.c.eps)

    def norm3(self, layer, x):
        if not self.c.cross_attn_norm:
            return x
        weight, bias = self.weights[layer + "norm3.weight"], self.weights[layer + "norm3.bias"]
        return F.layer_norm(x, (self.c.dim,), weight, bias, self.c.eps)

    def rms_norm(self, name, x):
        """Without a weight (a model without `qk_norm`) the input itself."""
        if name not in self.weights:
            return x
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.c.eps) * self.weights[name]


def masked_velocity(config, weights, clean, noisy, timestep, context):
    """The same numbers by another road, for absolute positions: all clean chunks and the noisy
    one lie in one sequence, and a mask says who sees whom. `clean` is [n, C, f, H, W]."""
    model = Transformer(config, weights)
    c, (n, _, count) = model.c, clean.shape[:3]
    frames = torch.cat([*clean, noisy], 1)
    model.grid = frames.shape[2] // c.patch_size[1], frames.shape[3] // c.patch_size[2]
    tokens = model.grid[0] * model.grid[1]
    frame = torch.arange((n + 1) * count)
    start = frame // count * count  # first frame of the frame's chunk
    same_chunk = start[:, None] == start[None, :]
    past = frame[None, :] < start[:, None]
    near = (frame[None, :] < c.sink_frames) | (frame[None, :] >= start[:, None] - c.window_frames)
    mask = (same_chunk | (past & near)).repeat_interleave(tokens, 0).repeat_interleave(tokens, 1)

    def attention(q, k, v):
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
        if q.shape[0] == k.shape[0] == mask.shape[0]:
            scores = scores.masked_fill(~mask, -math.inf)
        return torch.einsum("hqk,khe->qhe", scores.softmax(-1), v).flatten(1)

    model.softmax_attention = attention
    return model.forward(frames, [0.0] * (n * count) + [timestep] * count, context)[0][:, n * count:]


# ------------------------------------------------------------------------------------- sampler
def shifted(u, shift):
    """A noise level in 0..1 after the flow-matching schedule's shift."""
    return shift * u / (1 + (shift - 1) * u)


def levels(steps, shift, warp=True):
    """(timestep, noise level) of every step. A number of steps is spread evenly and shifted; a
    list with `warp` is shifted; a list without is fed as it is, its noise levels are the nearest
    ones of the shifted table of 1000 entries."""
    if isinstance(steps, int):
        return [(1000 * t, t) for t in (shifted(1 - k / steps, shift) for k in range(steps))]
    if warp:
        return [(1000 * t, t) for t in (shifted(step / 1000, shift) for step in steps)]
    table = [shifted(1 - i / 1000, shift) for i in range(1000)]
    return [(step, min(table, key=lambda t: abs(1000 * t - step))) for step in steps]


def sample(model, sampler, context, null_context, chunks, draw):
    """Clean frames [chunks, C, f, H, W]. `draw(chunk, step)` is the noise that a step starts
    from: step 0 the chunk's first, step k >= 1 that of renoising before step k."""
    out = []
    model.forget()
    for chunk in range(chunks):
        first = chunk == 0
        guidance = sampler["first_chunk_guidance" if first else "guidance"]
        steps = sampler["first_chunk_steps" if first else "steps"]
        schedule = levels(steps, sampler["shift"], sampler.get("warp", True))
        x = draw(chunk, 0).to(model.dtype)
        for step, (timestep, level) in enumerate(schedule):
            v = model.velocity(x, timestep, context)
            if guidance != 1.0:
                v_null = model.velocity(x, timestep, null_context)
                v = v_null + guidance * (v - v_null)
            after = schedule[step + 1][1] if step + 1 < len(schedule) else 0.0
            if sampler["update"] == "euler" or after == 0.0:
                x = x + ((after - level) if sampler["update"] == "euler" else -level) * v
            else:
                x = (1 - after) * (x - level * v) + after * draw(chunk, step + 1).to(model.dtype)
        out.append(x)
        model.commit(x, context)
    return torch.stack(out)


# --------------------------------------------------------------------------------------- noise
def philox(counter, key):
    """Philox4x32-10: counters [n, 4] and a key of two words -> [n, 4] words."""
    low = np.uint64(0xFFFFFFFF)
    x0, x1, x2, x3 = (np.asarray(counter, np.uint64)[:, i] for i in range(4))
    k0, k1 = key
    for _ in range(10):
        p0, p1 = x0 * np.uint64(0xD2511F53), x2 * np.uint64(0xCD9E8D57)
        x0, x1, x2, x3 = ((p1 >> np.uint64(32)) ^ x1 ^ np.uint64(k0), p1 & low,
                          (p0 >> np.uint64(32)) ^ x3 ^ np.uint64(k1), p0 & low)
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([x0, x1, x2, x3], -1).astype(np.uint32)


def noise(seed, chunk, step, shape, domain=0):
    """Standard normal f32 values of a chunk's frames, and the words they come from."""
    count = math.prod(shape)
    groups = -(-count // 4)
    counter = np.empty((groups, 4), np.uint64)
    counter[:, 0], counter[:, 1:] = np.arange(groups), (step, chunk, domain)
    words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
    u = (words >> np.uint32(8)).astype(np.float32) * np.float32(2**-24) + np.float32(2**-25)
    u = u.astype(np.float64).reshape(groups, 2, 2)
    radius, angle = np.sqrt(-2 * np.log(u[..., 0])), 2 * np.pi * u[..., 1]
    z = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(-1)[:count]
    return torch.from_numpy(z.astype(np.float32).reshape(shape)), torch.from_numpy(words)


def check_philox():
    """Random123's published known answers (kat_vectors, philox4x32-10)."""
    vectors = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
         (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ]
    for counter, key, answer in vectors:
        assert tuple(philox([counter], key)[0]) == answer, (counter, key)
