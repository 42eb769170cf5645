"""The embedded model in PyTorch, for inference only: the baseline that the speed table compares with.

It is the training recipe's own code (its cached chunk forward and its streaming decoder), less
what training needs. Keys are cached after rotation, the window's keys and values are expanded
from latent rows on every pass, attention is `scaled_dot_product_attention`. The residual stream
and norms are float32; projections run in the type of the weights. The decoder is channels last
and writes each causal 3x3x3 convolution as one 2-D convolution over three concatenated frames,
which on CPUs is about six times faster than diffusers' own 3-D convolutions.

Passes and decoder are pure functions of their inputs, caches included, so `torch.compile` sees
whole graphs. The batch is one and has no axis of its own.
"""
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn


def load_part(folder):
    folder = Path(folder)
    weights = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    return json.loads((folder / "config.json").read_text()), {k: v.float() for k, v in weights.items()}


# --------------------------------------------------------------------------------- transformer
def rms_norm(x, weight, eps):
    y = x.float()
    return (y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)).to(x.dtype) * weight


def rotate(x, cos, sin):
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2).to(x.dtype)


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, self.c = c["dim"], c
        self.heads, self.nope, self.rope = c["num_heads"], c["qk_nope_head_dim"], c["qk_rope_head_dim"]
        query = self.heads * (self.nope + self.rope)
        self.self_attn = nn.ModuleDict(dict(
            q=nn.Linear(d, query), norm_q=nn.RMSNorm(query),
            kv_down=nn.Linear(d, c["kv_latent_dim"] + self.rope, bias=False), norm_kv=nn.RMSNorm(c["kv_latent_dim"]),
            k_up=nn.Linear(c["kv_latent_dim"], self.heads * self.nope, bias=False),
            v_up=nn.Linear(c["kv_latent_dim"], self.heads * c["v_head_dim"], bias=False),
            o=nn.Linear(self.heads * c["v_head_dim"], d)))
        self.norm3 = nn.LayerNorm(d, eps=c["eps"])
        self.cross_attn = nn.ModuleDict(dict(q=nn.Linear(d, d), k=nn.Linear(d, d), v=nn.Linear(d, d), o=nn.Linear(d, d),
                                             norm_q=nn.RMSNorm(d), norm_k=nn.RMSNorm(d)))
        self.ffn = nn.Sequential(nn.Linear(d, c["ffn_dim"]), nn.GELU(approximate="tanh"), nn.Linear(c["ffn_dim"], d))
        self.modulation = nn.Parameter(torch.zeros(1, 6, d))

    def forward(self, x, e0, context, cos, sin, old):
        """x [S, D] float32, e0 [6, D] -> x, this pass's rows (content [S, 40], rotated key [S, 16])"""
        kind, m = self.ffn[0].weight.dtype, self.modulation[0] + e0
        norm = lambda y: F.layer_norm(y, (y.shape[-1],), None, None, self.c["eps"])
        y, rows = self.attend((norm(x) * (1 + m[1]) + m[0]).to(kind), cos, sin, old)
        x = x + y * m[2]
        y = F.layer_norm(x, (x.shape[-1],), self.norm3.weight.float(), self.norm3.bias.float(), self.c["eps"])
        x = x + self.cross(y.to(kind), context)
        return x + self.ffn((norm(x) * (1 + m[4]) + m[3]).to(kind)) * m[5], rows

    def attend(self, y, cos, sin, old):
        a, eps = self.self_attn, self.c["eps"]
        q = rms_norm(a.q(y), a.norm_q.weight, eps).unflatten(-1, (self.heads, -1))
        q = torch.cat([q[..., :self.nope], rotate(q[..., self.nope:], cos[:, None], sin[:, None])], -1)
        content, key = a.kv_down(y).split([self.c["kv_latent_dim"], self.rope], -1)
        rows = rms_norm(content, a.norm_kv.weight, eps), rotate(key, cos, sin)
        content, key = rows if old is None else (torch.cat(pair) for pair in zip(old, rows))
        k = torch.cat([a.k_up(content).unflatten(-1, (self.heads, -1)), key[:, None].expand(-1, self.heads, -1)], -1)
        v = a.v_up(content).unflatten(-1, (self.heads, -1))
        return a.o(heads_attention(q, k, v)), rows

    def cross(self, y, context):
        a, eps = self.cross_attn, self.c["eps"]
        q = rms_norm(a.q(y), a.norm_q.weight, eps).unflatten(-1, (self.heads, -1))
        k = rms_norm(a.k(context), a.norm_k.weight, eps).unflatten(-1, (self.heads, -1))
        return a.o(heads_attention(q, k, a.v(context).unflatten(-1, (self.heads, -1))))


def heads_attention(q, k, v):
    y = F.scaled_dot_product_attention(*(t.transpose(0, 1)[None] for t in (q, k, v)))
    return y[0].transpose(0, 1).flatten(1)


class Transformer(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, self.c = c["dim"], c
        self.patch_embedding = nn.Conv3d(c["in_dim"], d, tuple(c["patch_size"]), tuple(c["patch_size"]))
        self.text_embedding = nn.Sequential(nn.Linear(c["text_dim"], d), nn.GELU(approximate="tanh"), nn.Linear(d, d))
        self.time_embedding = nn.Sequential(nn.Linear(c["freq_dim"], d), nn.SiLU(), nn.Linear(d, d))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(d, 6 * d))
        self.blocks = nn.ModuleList(Layer(c) for _ in range(c["num_layers"]))
        self.head = nn.ModuleDict(dict(head=nn.Linear(d, 4 * c["out_dim"])))
        self.head.register_parameter("modulation", nn.Parameter(torch.zeros(1, 2, d)))

    @classmethod
    def load(cls, folder, kind=torch.float32):
        config, weights = load_part(folder)
        model = cls(config).eval()
        model.load_state_dict(weights)
        model = model.to(kind)
        for name, parameter in model.named_parameters():
            if name.endswith("modulation"):
                parameter.data = parameter.data.float()
        return model

    def context(self, rows):
        return self.text_embedding(rows.to(self.blocks[0].ffn[0].weight.dtype))

    def tables(self, frame, frames, h, w):
        """cos and sin of a chunk's rotations, [S, pairs]"""
        grid = torch.meshgrid(torch.arange(frame, frame + frames).double(), torch.arange(h).double(),
                              torch.arange(w).double(), indexing="ij")
        position, angles = torch.stack(grid, -1).view(-1, 3), []
        for axis, width in enumerate(self.c["rope_axes_dim"]):
            angles.append(position[:, axis:axis + 1] * self.c["rope_theta"] ** (-torch.arange(0, width, 2).double() / width))
        angles = torch.cat(angles, -1)
        return angles.cos().float(), angles.sin().float()

    def forward(self, x, timestep, context, cos, sin, old):
        """x [C, f, H, W], timestep [1] in 0..1000, `old`: per layer rows of the window, or None
        -> velocity [C, f, H, W], per layer the chunk's rows"""
        c, (_, f, H, W) = self.c, x.shape
        h, w, kind = H // 2, W // 2, self.blocks[0].ffn[0].weight.dtype
        half = c["freq_dim"] // 2
        angles = timestep * torch.exp(torch.arange(half) * (-9.210340371976184 / half))
        e = self.time_embedding(torch.cat([angles.cos(), angles.sin()]).to(kind))
        e0 = self.time_projection(e).unflatten(-1, (6, -1)).float()
        y = x.view(-1, f, h, 2, w, 2).permute(1, 2, 4, 0, 3, 5).reshape(f * h * w, -1).to(kind)
        y = F.linear(y, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias).float()
        rows = []
        for i, layer in enumerate(self.blocks):
            y, new = layer(y, e0, context, cos, sin, None if old is None else old[i])
            rows.append(new)
        m = self.head.modulation[0] + e.float()
        y = F.layer_norm(y, (y.shape[-1],), None, None, c["eps"]) * (1 + m[1]) + m[0]
        y = self.head.head(y.to(kind)).float()
        return y.view(f, h, w, 2, 2, -1).permute(5, 0, 1, 3, 2, 4).reshape(-1, f, H, W), rows

    def append(self, old, rows, tokens):
        """The window after a commit pass: at most `window_frames` frames, oldest dropped first."""
        keep = self.c["window_frames"] * tokens
        old = old or [tuple(part[:0] for part in pair) for pair in rows]
        return [tuple(torch.cat(both)[-keep:] for both in zip(a, b)) for a, b in zip(old, rows)]


# ------------------------------------------------------------------------------------- decoder
class Decoder(nn.Module):
    """Frame tensors to pictures, a chunk at a time; the state is each causal convolution's past."""

    def __init__(self, folder, kind=torch.float32):
        super().__init__()
        self.c, weights = load_part(folder)
        self.kind, self.keys = kind, {}
        for name, tensor in weights.items():
            if name.startswith(("decoder.", "post_quant_conv.")):
                key = name.replace(".", "_")
                self.keys[name] = key
                self.register_buffer(key, self.pack(tensor).to(kind))
        self.mean, self.std = torch.tensor(self.c["latents_mean"]), torch.tensor(self.c["latents_std"])

    def pack(self, w):
        """Kernels as they are used: [O, 3 C, 3, 3] channels last, [O, 3 C] or [O, C]."""
        if w.ndim == 5 and w.shape[2:] == (3, 3, 3):
            return w.permute(0, 2, 1, 3, 4).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        if w.ndim == 5 and w.shape[2:] == (3, 1, 1):
            return w[..., 0, 0].permute(0, 2, 1).flatten(1).contiguous()
        if w.ndim >= 4 and w.shape[-1] == 1 and w.shape[1] > 1:
            return w.flatten(1).contiguous()
        return w.contiguous(memory_format=torch.channels_last) if w.ndim == 4 and w.shape[-1] == 3 else w

    def w(self, name):
        return getattr(self, self.keys[name])

    def forward(self, x, state, first):
        """x [C, f, H, W] normalised, `state` as returned for the chunk before (or {})
        -> pictures [P, 8 H, 8 W, 3] in [-1, 1], state"""
        self.state, self.new = state, {}
        x = (x.permute(1, 2, 3, 0) * self.std + self.mean).to(self.kind)
        x = self.conv3("decoder.conv_in", self.conv1("post_quant_conv", x))
        x = self.residual("decoder.mid_block.resnets.0", x)
        x = self.residual("decoder.mid_block.resnets.1", self.attention("decoder.mid_block.attentions.0", x))
        for block in range(len(self.c["dim_mult"])):
            for unit in range(self.c["num_res_blocks"] + 1):
                x = self.residual(f"decoder.up_blocks.{block}.resnets.{unit}", x)
            if block + 1 < len(self.c["dim_mult"]):
                x = self.upsample(f"decoder.up_blocks.{block}.upsamplers.0", x, first)
        x = self.conv3("decoder.conv_out", F.silu(self.norm("decoder.norm_out", x)))
        return x.float().clamp(-1, 1), self.new

    def past3(self, name, x):
        """[f, H, W, C] -> [f, H, W, 3 C]: each frame behind its two predecessors"""
        old = self.state.get(name)
        full = torch.cat([x.new_zeros(2, *x.shape[1:]) if old is None else old, x])
        self.new[name] = full[-2:].clone()
        return torch.cat([full[:-2], full[1:-1], full[2:]], -1)

    def conv2(self, name, x):
        y = F.conv2d(x.permute(0, 3, 1, 2), self.w(name + ".weight"), self.w(name + ".bias"), padding=1)
        return y.permute(0, 2, 3, 1)

    def conv3(self, name, x):
        return self.conv2(name, self.past3(name, x))

    def conv1(self, name, x):
        return F.linear(x, self.w(name + ".weight"), self.w(name + ".bias"))

    def norm(self, name, x):
        y, gamma = x.float(), self.w(name + ".gamma").flatten().float()
        y = y * torch.rsqrt(y.square().sum(-1, keepdim=True).clamp(min=1e-24)) * (gamma * x.shape[-1] ** 0.5)
        return y.to(x.dtype)

    def residual(self, name, x):
        y = self.conv3(name + ".conv1", F.silu(self.norm(name + ".norm1", x)))
        y = self.conv3(name + ".conv2", F.silu(self.norm(name + ".norm2", y)))
        shortcut = name + ".conv_shortcut"
        return y + (self.conv1(shortcut, x) if shortcut + ".weight" in self.keys else x)

    def attention(self, name, x):
        f, h, w, _ = x.shape
        q, k, v = self.conv1(name + ".to_qkv", self.norm(name + ".norm", x)).reshape(f, 1, h * w, -1).chunk(3, -1)
        return self.conv1(name + ".proj", F.scaled_dot_product_attention(q, k, v).reshape(x.shape)) + x

    def upsample(self, name, x, first):
        if name + ".time_conv.weight" in self.keys:
            head, tail = (x[:1], x[1:]) if first else (x[:0], x)
            f, h, w, c = tail.shape
            if f:
                y = self.conv1(name + ".time_conv", self.past3(name, tail))
                tail = y.view(f, h, w, 2, c).permute(0, 3, 1, 2, 4).reshape(2 * f, h, w, c)
            x = torch.cat([head, tail])
        return self.conv2(name + ".resample.1", x.repeat_interleave(2, 1).repeat_interleave(2, 2))
