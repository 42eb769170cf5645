"""The little world: closed-form motions and the renderer (anti-aliased signed distances, shading, soft shadows).

Everything is a closed-form function of time, so a clip can be as long as wanted and every motion stays predictable for
minutes.  World coordinates: x to the right, y up, both in [-1, 1].  `render.cu` is the fast renderer (NVRTC through CuPy on a
GPU, the C++ compiler on a CPU); `_pixels` is the same in plain torch (the star field's hash differs in the last float bits).
`python world.py` draws a sample sheet.
"""
import math
import random

import torch

from grammar import BACKGROUNDS, COLORS, MAX_OBJECTS, MOTIONS, SHAPES, caption, sample_spec

FPS = 16
SIZE = 128

# ----------------------------------------------------------------------------------------------- motion
WRAP = 2.9          # torus size of drifting / rising / falling
GROUND = -0.74
SIZES = {"small": 0.22, "medium": 0.30, "large": 0.40}
NFAC = {1: 1.0, 2: 0.84, 3: 0.68}
PERIOD = {  # seconds: slow, normal, fast
    "bounce": (1.6, 1.2, 0.9), "left": (9.0, 6.0, 4.0), "right": (9.0, 6.0, 4.0), "orbit": (7.0, 4.8, 3.2), "swing": (3.6, 2.6, 1.9),
    "spin": (5.0, 3.4, 2.2), "pulse": (2.8, 2.0, 1.4), "rise": (9.0, 6.0, 4.0), "fall": (9.0, 6.0, 4.0),
}
PULSE = 0.30         # amplitude of a pulsing object's size
SPEED_IX = {"slow": 0, "normal": 1, "fast": 2}


def pack(specs, rng, visible=False):
    """list of specs -> (objects [B,3,16], clip [B,4]) float parameters; phases and jitters are drawn here.
    visible=True starts drifting, rising and falling objects inside the picture (for clips that start at t = 0)."""
    B = len(specs)
    dead = [0.0] * 16
    dead[5], dead[7] = 0.1, 1.0
    obj = [[list(dead) for _ in range(MAX_OBJECTS)] for _ in range(B)]
    clip = [[0.0] * 4 for _ in range(B)]
    for b, sp in enumerate(specs):
        n = len(sp["objects"])
        clip[b] = [float(BACKGROUNDS.index(sp["background"])), rng.random(), rng.random(), float(n)]
        for i, o in enumerate(sp["objects"]):
            ph = rng.uniform(0.2, 0.8) if visible and o["motion"] in ("left", "right", "rise", "fall") else rng.random()
            slot = {1: [0.0], 2: [-0.48, 0.48], 3: [-0.64, 0.0, 0.64]}[n][i]
            jit = {1: 0.22, 2: 0.07, 3: 0.04}[n]
            yslot = {1: [0.0], 2: [0.30, -0.25], 3: [0.42, 0.0, -0.40]}[n][i]
            obj[b][i] = [1.0, float(SHAPES.index(o["shape"])), *COLORS[o["color"]], SIZES[o["size"]] * NFAC[n],
                         float(MOTIONS.index(o["motion"])), PERIOD[o["motion"]][SPEED_IX[o["speed"]]], ph,
                         slot + rng.uniform(-jit, jit), yslot + rng.uniform(-0.08, 0.08), float(n),
                         {1: 0.50, 2: 0.28, 3: 0.20}[n], {1: 0.55, 2: 0.34, 3: 0.24}[n], 0.0, 0.0]
    return torch.tensor(obj), torch.tensor(clip)


def motion(obj, t):
    """obj [B,3,16], t [B,T] seconds -> dict of [B,T,3] tensors."""
    o = obj[:, None]                                     # B,1,3,16
    t = t[:, :, None]                                    # B,T,1
    alive, shape, size, mot, per, ph = o[..., 0], o[..., 1], o[..., 5], o[..., 6], o[..., 7], o[..., 8]
    x0, y0, rad, amp = o[..., 9], o[..., 10], o[..., 12], o[..., 13]
    cyc = t / per + ph                                   # cycles
    u = cyc - torch.floor(cyc)
    ang = 2 * math.pi * cyc
    one = torch.ones_like(cyc)
    is_ = lambda m: (mot == MOTIONS.index(m)) & (cyc == cyc)
    cx, cy, rot, sc, sy = x0 * one, torch.zeros_like(cyc), torch.zeros_like(cyc), one.clone(), one.clone()
    # bounce: parabola with a little squash at the floor; height follows gravity g = 8 h / T^2
    h = 0.46 * per ** 2 * 1.0 + 0.20
    near = torch.minimum(u, 1 - u)
    squash = 1 - 0.20 * torch.exp(-(near / 0.055) ** 2)
    m = is_("bounce")
    cy = torch.where(m, GROUND + size * squash + h * 4 * u * (1 - u), cy)
    sy = torch.where(m, squash, sy)
    # drift (torus), with a gentle bob
    bob = 0.04 * torch.sin(ang * 3)
    wrapx = (u - 0.5) * WRAP
    cx = torch.where(is_("right"), wrapx, torch.where(is_("left"), -wrapx, cx))
    cy = torch.where(is_("right") | is_("left"), y0 + bob, cy)
    cy = torch.where(is_("rise"), wrapx, torch.where(is_("fall"), -wrapx, cy))
    m = is_("orbit")
    cx = torch.where(m, x0 * (1 - 0.5 * (o[..., 11] < 1.5)) + rad * torch.cos(ang), cx)
    cy = torch.where(m, 0.05 + rad * 0.85 * torch.sin(ang), cy)
    m = is_("swing")
    th = amp * torch.sin(ang)
    L = 1.15
    cx = torch.where(m, x0 + L * torch.sin(th), cx)
    cy = torch.where(m, 1.10 - L * torch.cos(th), cy)
    rot = torch.where(m, th, rot)
    rot = torch.where(is_("spin"), -ang, rot)
    cy = torch.where(is_("spin") | is_("pulse"), y0 * 0.4 * one, cy)
    sc = torch.where(is_("pulse"), 1 + PULSE * torch.sin(ang), sc)
    sy = torch.where(is_("bounce"), sy, one)
    return dict(cx=cx, cy=cy, rot=rot, sc=sc * size, sy=sy, alive=alive * one, shape=shape * one, swing=is_("swing").float(),
                ax=x0 * one, r=o[..., 2] * one, g=o[..., 3] * one, b=o[..., 4] * one)


# ----------------------------------------------------------------------------------------------- pixels
def _len(x, y):
    return torch.sqrt(x * x + y * y + 1e-12)


def _sdf(px, py, shape, s):
    """Signed distance to the shape of radius s at local coordinates px, py; also the bevel depth."""
    r = _len(px, py)
    d_ball = r - s
    qx, qy = px.abs() - 0.62 * s, py.abs() - 0.62 * s
    d_cube = _len(qx.clamp(min=0), qy.clamp(min=0)) + torch.minimum(torch.maximum(qx, qy), torch.zeros_like(qx)) - 0.16 * s
    k = math.sqrt(3.0)
    a = 0.80 * s
    tx, ty = px.abs() - a, py + 0.22 * s + a / k * 0.62
    c = (tx + k * ty) > 0
    tx, ty = torch.where(c, (tx - k * ty) * 0.5, tx), torch.where(c, (-k * tx - ty) * 0.5, ty)
    tx = tx - torch.minimum(torch.maximum(tx, -2 * a), torch.zeros_like(tx))
    d_tri = -_len(tx, ty) * torch.sign(ty) - 0.16 * s
    d_ring = (r - 0.70 * s).abs() - 0.27 * s
    k1x, k1y = 0.809016994375, -0.587785252292
    rr, rf = 0.95 * s, 0.50
    sx, sy = px.abs(), py
    dt = torch.clamp(k1x * sx + k1y * sy, min=0)
    sx, sy = sx - 2 * dt * k1x, sy - 2 * dt * k1y
    dt = torch.clamp(-k1x * sx + k1y * sy, min=0)
    sx, sy = sx + 2 * dt * k1x, sy - 2 * dt * k1y
    sx = sx.abs()
    sy = sy - rr
    bx, by = rf * -k1y, rf * k1x - 1.0
    hh = torch.minimum(torch.clamp((sx * bx + sy * by) / (bx * bx + by * by), min=0), rr)
    d_star = _len(sx - bx * hh, sy - by * hh) * torch.sign(sy * bx - sx * by) - 0.08 * s
    d = torch.where(shape < 0.5, d_ball, torch.where(shape < 1.5, d_cube, torch.where(shape < 2.5, d_tri,
        torch.where(shape < 3.5, d_ring, d_star))))
    bev = torch.where(shape < 0.5, s, torch.where(shape < 1.5, 0.30 * s, torch.where(shape < 2.5, 0.36 * s,
          torch.where(shape < 3.5, 0.27 * s, 0.36 * s))))
    return d, bev


def _mix(a, b, w):
    return a + (b - a) * w


def _hash(x, y):
    v = torch.sin(x * 127.1 + y * 311.7) * 43758.5453
    return v - torch.floor(v)


def _background(x, y, t, bg, ph):
    """x [B,1,1,W], y [B,1,H,1], t,bg,ph [B,T,1,1] -> r,g,b [B,T,H,W]"""
    # night: gradient, fixed star field that twinkles, crescent moon
    v = (y + 1) * 0.5
    n = [_mix(0.10, 0.015, v), _mix(0.09, 0.025, v), _mix(0.26, 0.10, v)]
    cell = 4.5
    gx, gy = torch.floor(x * cell), torch.floor(y * cell)
    h1, h2, h3 = _hash(gx, gy), _hash(gx + 17.0, gy + 5.0), _hash(gx + 41.0, gy + 29.0)
    sx, sy = (gx + 0.25 + 0.5 * h1) / cell, (gy + 0.25 + 0.5 * h2) / cell
    d2 = (x - sx) ** 2 + (y - sy) ** 2
    on = (h3 > 0.45).float()
    rate = torch.where(h1 > 0.5, 2 * math.pi / 4.0, 2 * math.pi / 2.5)
    tw = 0.62 + 0.38 * torch.sin(t * rate + 6.2831 * (h2 + ph))
    star = on * (0.35 + 0.65 * h3) * tw * torch.exp(-d2 / (0.017 ** 2 * 1.6))
    md = _len(x - 0.62, y - 0.66)
    md2 = _len(x - 0.71, y - 0.71)
    moon = torch.clamp((0.17 - md) / 0.02 + 0.5, 0, 1) * torch.clamp((md2 - 0.15) / 0.02 + 0.5, 0, 1)
    halo = 0.16 * torch.exp(-md * md / 0.09)
    n = [n[0] + star + moon * 0.95 + halo, n[1] + star + moon * 0.92 + halo, n[2] + star * 0.95 + moon * 0.70 + halo]
    # sea at sunset
    yh = -0.18
    w = torch.clamp((y - yh) / (1 - yh), 0, 1)
    sky = [_mix(1.0, 0.30, w), _mix(0.70, 0.20, w ** 0.7), _mix(0.40, 0.48, w)]
    sd = _len(x - 0.30, y - 0.02)
    sun = torch.clamp((0.24 - sd) / 0.02 + 0.5, 0, 1)
    glow = 0.45 * torch.exp(-sd * sd / 0.14)
    sky = [_mix(sky[0] + glow, 1.0, sun), _mix(sky[1] + glow * 0.7, 0.93, sun), _mix(sky[2] + glow * 0.3, 0.66, sun)]
    dep = torch.clamp(yh - y, min=0)
    z = 1.0 / (dep + 0.16)
    w1 = torch.sin(5.0 * z + 2.0 * x - t * (2 * math.pi / 3.0) + 6.2831 * ph)
    w2 = torch.sin(9.0 * z - 3.0 * x - t * (2 * math.pi / 2.0) + 12.566 * ph)
    wave = 0.6 * w1 + 0.4 * w2
    k = torch.clamp(dep / 0.8, 0, 1)
    sea = [_mix(0.72, 0.10, k ** 0.6), _mix(0.40, 0.13, k ** 0.6), _mix(0.42, 0.34, k ** 0.6)]
    glit = torch.exp(-(x - 0.30) ** 2 / (0.015 + 0.16 * dep)) * torch.clamp(0.35 + 0.65 * wave, min=0) * (1 - 0.5 * k)
    amp = 0.10 * torch.clamp(dep * 4, 0, 1)
    sea = [sea[0] + amp * wave + 0.65 * glit, sea[1] + amp * wave + 0.45 * glit, sea[2] + amp * wave * 1.2 + 0.22 * glit]
    hz = torch.clamp((y - yh) / 0.016 + 0.5, 0, 1)
    sea = [_mix(sea[i], sky[i], hz) for i in range(3)]
    # green hills with drifting clouds
    w = torch.clamp((y + 0.2) / 1.2, 0, 1)
    hl = [_mix(0.86, 0.36, w), _mix(0.94, 0.64, w), _mix(1.0, 0.95, w)]
    cl = 0.0
    for cx0, cy0, wd, sp in ((0.2, 0.62, 0.30, 0.0), (1.7, 0.40, 0.22, 0.45)):
        xx = x - (t * (3.2 / 32.0) + 3.2 * ph + cx0)
        xx = xx - 3.2 * torch.floor(xx / 3.2 + 0.5)
        for ox, oy, rr in ((-0.55, -0.05, 0.55), (0.0, 0.10, 0.75), (0.6, -0.04, 0.5)):
            cl = cl + torch.exp(-(((xx - ox * wd) / (rr * wd)) ** 2 + ((y - cy0 - oy * wd) / (rr * wd * 0.55)) ** 2))
    cl = torch.clamp(cl * 1.3 - 0.2, 0, 1) * 0.92
    hl = [_mix(hl[i], 1.0, cl) for i in range(3)]
    for base, a1, f1, p1, a2, f2, p2, col in ((-0.05, 0.16, 2.1, 0.6, 0.05, 5.0, 1.0, (0.45, 0.70, 0.50)), (-0.25, 0.15, 2.6, 2.6, 0.04, 5.7, 0.2, (0.34, 0.64, 0.30)),
                                             (-0.48, 0.10, 1.7, 4.4, 0.03, 4.3, 2.0, (0.24, 0.54, 0.20))):
        top = base + a1 * torch.sin(f1 * x + p1) + a2 * torch.sin(f2 * x + p2)
        m = torch.clamp((top - y) / 0.016 + 0.5, 0, 1)
        sh = 1.0 + 0.25 * torch.clamp(1 - (top - y) / 0.35, 0, 1)
        hl = [_mix(hl[i], col[i] * sh, m) for i in range(3)]
    # checkerboard floor
    yh = -0.05
    w = torch.clamp((y - yh) / 1.05, 0, 1)
    ck = [_mix(0.80, 0.42, w), _mix(0.72, 0.46, w), _mix(0.84, 0.72, w)]
    dep = torch.clamp(yh - y, min=0)
    z = 1.0 / (dep + 0.10)
    cu, cv = torch.sin(x * z * 2.2), torch.sin(z * 2.6 + 0.4)
    soft = 0.10 + 0.035 * z * z * 0.35
    c = torch.tanh(cu / soft) * torch.tanh(cv / (soft * 1.4)) * torch.exp(-0.012 * z * z)
    c = 0.5 + 0.5 * c
    fog = torch.exp(-dep / 0.12) * 0.5
    fl = [_mix(_mix(0.20, 0.93, c), 0.80, fog), _mix(_mix(0.20, 0.91, c), 0.72, fog), _mix(_mix(0.28, 0.88, c), 0.84, fog)]
    hz = torch.clamp((y - yh) / 0.016 + 0.5, 0, 1)
    ck = [_mix(fl[i], ck[i], hz) for i in range(3)]
    # plain studio
    rr = x * x + (y - 0.2) ** 2
    br = 0.97 - 0.16 * rr - 0.05 * torch.clamp(-(y + 0.5) * 2, 0, 1)
    st = [br * 0.99, br * 0.965, br * 0.93]
    out = []
    for i in range(3):
        v = torch.where(bg < 0.5, n[i], torch.where(bg < 1.5, sea[i], torch.where(bg < 2.5, hl[i], torch.where(bg < 3.5, ck[i], st[i]))))
        out.append(v)
    return out


def _pixels(m, t, bg, ph, x, y):
    """m: dict of [B,T,3]; t,bg,ph: [B,T] -> [B,T,H,W,3] in [-1,1]"""
    e = lambda a: a[:, :, None, None]
    t, bg, ph = e(t), e(bg), e(ph)
    col = _background(x, y, t, bg, ph)
    px = 2.0 / SIZE
    floor_k = torch.where(bg < 0.5, 0.0, torch.where(bg < 1.5, 0.18, torch.where(bg < 2.5, 0.30, 0.36)))
    for i in range(MAX_OBJECTS):   # soft contact shadows under every object first
        cx, cy, s, al = e(m["cx"][..., i]), e(m["cy"][..., i]), e(m["sc"][..., i]), e(m["alive"][..., i])
        hgt = torch.clamp(cy - s - GROUND, min=0)
        wdt = s * (0.95 + 0.35 * hgt)
        q = ((x - cx) / wdt) ** 2 + ((y - GROUND + 0.02) / (wdt * 0.26)) ** 2
        sh = 1 - al * floor_k * torch.exp(-1.1 * q) * torch.exp(-hgt * 0.9)
        col = [c * sh for c in col]
    for i in range(MAX_OBJECTS):
        f = lambda k: e(m[k][..., i])
        cx, cy, rot, s, sy, al, shp, sw, ax = f("cx"), f("cy"), f("rot"), f("sc"), f("sy"), f("alive"), f("shape"), f("swing"), f("ax")
        base = (f("r"), f("g"), f("b"))
        # the string of a pendulum, from (ax, 1.1) to the object
        dx, dy = cx - ax, cy - 1.10
        hh = torch.clamp(((x - ax) * dx + (y - 1.10) * dy) / (dx * dx + dy * dy + 1e-6), 0, 1)
        dl = _len(x - ax - dx * hh, y - 1.10 - dy * hh)
        ln = sw * al * torch.clamp((0.013 - dl) / px + 0.5, 0, 1)
        dark = bg < 0.5
        col = [_mix(c, torch.where(dark, 0.62, 0.24), ln) for c in col]
        cr, sr = torch.cos(rot), torch.sin(rot)

        def local(xx, yy):
            a, b = (xx - cx) * sy, (yy - cy) / sy
            return a * cr + b * sr, -a * sr + b * cr

        lx, ly = local(x, y)
        d, bev = _sdf(lx, ly, shp, s)
        eps = 0.006
        ax_, ay_ = local(x + eps, y)
        d1, _ = _sdf(ax_, ay_, shp, s)
        bx_, by_ = local(x, y + eps)
        d2, _ = _sdf(bx_, by_, shp, s)
        gx, gy = (d1 - d) / eps, (d2 - d) / eps
        gl = torch.rsqrt(gx * gx + gy * gy + 1e-4)
        slope = torch.clamp(1 + d / bev, 0, 1)
        nx, ny = gx * gl * slope, gy * gl * slope
        nz = torch.sqrt(torch.clamp(1 - nx * nx - ny * ny, min=0.02))
        dif = torch.clamp(-0.45 * nx + 0.60 * ny + 0.66 * nz, min=0)
        hx, hy, hz = -0.247, 0.329, 0.911
        spec = torch.clamp(nx * hx + ny * hy + nz * hz, min=0) ** 36
        rim = (1 - nz) ** 2
        band = torch.where(shp < 0.5, torch.clamp((0.20 * s - ly.abs()) / (px * 1.2) + 0.5, 0, 1), torch.zeros_like(ly))
        glow = torch.where(dark, 0.10, 0.0) * torch.exp(-torch.clamp(d, min=0) / 0.10) * al
        alpha = torch.clamp(0.5 - d / (px * 1.3), 0, 1) * al
        lit = 0.42 + 0.70 * dif
        new = []
        for k in range(3):
            b = _mix(base[k], 0.97 if k else 0.99, band * 0.85)
            c = b * lit + 0.50 * spec + 0.10 * rim
            new.append(_mix(col[k] + glow * base[k], c, alpha))
        col = new
    img = torch.stack(col, -1)
    return torch.clamp(img, 0, 1) * 2 - 1


FIELDS = ("cx", "cy", "rot", "sc", "sy", "alive", "shape", "swing", "ax", "r", "g", "b")
_kernel = {}


def _native(dev):
    """render.cu, built at run time: with NVRTC through CuPy on a GPU, with the C++ compiler on the CPU."""
    if dev not in _kernel:
        import os
        here = os.path.dirname(os.path.abspath(__file__))
        src = open(os.path.join(here, "render.cu")).read()
        if dev == "cuda":
            import cupy
            _kernel[dev] = cupy.RawKernel("#define DEV __device__ __forceinline__\n" + src, "render_kernel")
        else:
            import ctypes, subprocess, tempfile
            d = tempfile.mkdtemp()
            subprocess.run(["c++", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "-x", "c++", "-include", "cmath", "-DDEV=static inline",
                            os.path.join(here, "render.cu"), "-o", d + "/r.so"], check=True)
            _kernel[dev] = ctypes.CDLL(d + "/r.so").render_cpu
    return _kernel[dev]


def render(obj, clip, t0, frames, device="cpu", native=False, dtype=torch.float32, crop=SIZE, center=None):
    """obj [B,3,16], clip [B,4], t0 [B] start seconds -> video [B,T,crop,crop,3] in [-1,1].
    `center` [B,2] in world units places the crop (clamped to the picture); native=True uses render.cu."""
    obj, clip, t0 = obj.to(device), clip.to(device), t0.to(device)
    B = obj.shape[0]
    t = t0[:, None] + torch.arange(frames, device=device, dtype=torch.float32)[None] / FPS
    m = motion(obj, t)
    half = crop / SIZE
    left, top = torch.full((B,), -1.0, device=device), torch.full((B,), 1.0, device=device)
    if center is not None:
        cc = center.to(device).clamp(-1 + half, 1 - half)
        left, top = cc[:, 0] - half, cc[:, 1] + half
    if native:
        M = torch.stack([m[k] for k in FIELDS], -1).contiguous().float()                     # B,T,3,12
        e = lambda a: a[:, None].expand(B, frames)
        Fp = torch.stack([t, e(clip[:, 0]), e(clip[:, 1]), e(left), e(top)], -1).contiguous().float()
        out = torch.empty(B, frames, crop, crop, 3, device=device)
        n = B * frames
        if str(device).startswith("cuda"):
            import cupy
            import numpy as np
            k = _native("cuda")
            k(((n * crop * crop + 255) // 256,), (256,), (np.uint64(M.data_ptr()), np.uint64(Fp.data_ptr()), np.uint64(out.data_ptr()), np.int32(n), np.int32(crop), np.int32(crop)))
        else:
            import ctypes
            p = lambda a: ctypes.c_void_p(a.data_ptr())
            _native("cpu")(p(M), p(Fp), p(out), n, crop, crop)
        return out.to(dtype)
    bg, ph = clip[:, :1].expand(-1, frames).contiguous(), clip[:, 1:2].expand(-1, frames).contiguous()
    ax = (torch.arange(crop, device=device, dtype=torch.float32) + 0.5) / SIZE * 2
    x, y = left.view(-1, 1, 1, 1) + ax.view(1, 1, 1, -1), top.view(-1, 1, 1, 1) - ax.view(1, 1, -1, 1)
    return _pixels(m, t, bg, ph, x, y).to(dtype)


def focus(rng, obj, t0, frames):
    """A crop centre per clip: mostly near one of its objects at mid clip, sometimes anywhere."""
    m = motion(obj, t0[:, None] + (frames - 1) / 2 / FPS)
    out = torch.zeros(obj.shape[0], 2)
    for b in range(obj.shape[0]):
        if rng.random() < 0.75:
            i = rng.randrange(int((obj[b, :, 0] > 0).sum()))
            out[b, 0], out[b, 1] = m["cx"][b, 0, i] + rng.uniform(-0.3, 0.3), m["cy"][b, 0, i] + rng.uniform(-0.3, 0.3)
        else:
            out[b, 0], out[b, 1] = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)
    return out


def batch(rng, n, visible=False, counts=(0.5, 0.3, 0.2), turning=0.0):
    """n random scenes -> specs, captions, objects [n,3,16], clip [n,4].  A share `turning` of the single objects is made to spin, with a
    shape whose angle can be seen: such outlines are the hardest to learn, since their angle is free."""
    specs = [sample_spec(rng, counts) for _ in range(n)]
    for spec in specs:
        if turning and len(spec["objects"]) == 1 and rng.random() < turning:
            spec["objects"][0].update(motion="spin", shape=rng.choice(["cube", "cube", "triangle", "star"]))
    obj, clip = pack(specs, rng, visible)
    return specs, [caption(rng, s) for s in specs], obj, clip


def object_mask(obj, latents, device="cpu", cells=16):
    """Where objects are, per latent frame: [B, latents, cells, cells] in {0, 1}.  A latent frame covers four pictures (the first
    one); the mask joins the first and the last of them and is a little wider than the object."""
    obj = obj.to(device)
    k = torch.arange(latents, device=device, dtype=torch.float32)
    first, last = (4 * k - 3).clamp(min=0) / FPS, 4 * k / FPS
    m = motion(obj, torch.cat([first, last])[None].expand(obj.shape[0], -1))
    c = (torch.arange(cells, device=device) + 0.5) / cells * 2 - 1
    e = lambda a: a[..., None, None]
    r = e(m["sc"]) * 1.1 + 0.09
    inside = ((c - e(m["cx"])) ** 2 + (-c[:, None] - e(m["cy"])) ** 2 < r * r) & (e(m["alive"]) > 0.5)
    return inside.any(2).unflatten(1, (2, latents)).any(1)


if __name__ == "__main__":
    import sys
    from PIL import Image
    rng = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    _, captions, obj, clip = batch(rng, 12)
    for i in range(len(BACKGROUNDS)):
        clip[i, 0] = i
    print(*captions, sep="\n")
    v = render(obj, clip, torch.zeros(12), 33, native=True)[:, ::8]
    img = ((v + 1) * 127.5).byte().permute(0, 2, 1, 3, 4).reshape(2, 6 * SIZE, -1, 3)
    Image.fromarray(torch.cat([img[0], img[1]], 1).numpy()).save("world_sample.png")
