"""The judge: does a video show what its prompt asks for, at 2, 10, 30 and 60 seconds?

    python score.py --video ball.mp4 --prompt "a large red ball bounces over green hills"      # or a folder of 000001.png ...
    python score.py --test                                                                     # judge the judge
    python score.py --weights ../weights --out scores                                          # roll out and judge many prompts
    python score.py --weights ../weights --engine ../../../target/release/filmloom             # the same, made by the engine

The renderer knows the truth, so it is used to look.  Around each judged time a window of six seconds is taken.  The empty
background is rendered (its free phase fitted), what differs from it is foreground, its connected parts are the objects.  A part is
brought to one position and area and compared with the five silhouettes at all angles (kind); its mean colour with the rendered
ten (colour); its centre, size and angle over the window with the nine motion families (motion).  The background must be the nearest
of the five, and background, object colour and object size must stay what they were in the first window (drift).
A judged time passes if all five hold for every object.  Known limits: the spin of a ring cannot be seen (a still ring passes), and
speeds (slowly, quickly) and sizes are not judged.
"""
import argparse
import itertools
import json
import math
import os
import random
import subprocess
import tempfile
import time

import torch
import torch.nn.functional as F

from grammar import BACKGROUNDS, COLORS, MOTIONS, SHAPES, caption, parse
from world import FPS, GROUND, SIZE, _sdf, motion, pack, render

TIMES = (2, 10, 30, 60)
WINDOW_S = 6
STRIDE = 2                                            # every second picture of a window is looked at
CHECKS = ("color", "kind", "motion", "background", "drift")
CELLS = 40                                            # side of a normalised silhouette
MIN_AREA = 45                                         # pixels; smaller parts are no objects


# ------------------------------------------------------------------------------------------------ judging a video
def score_video(video, spec, dev="cpu"):
    """video uint8 [T,128,128,3] at 16 pictures/s, spec as in grammar.py -> [{"t", "color", ..., "drift", "pass", "seen"}] per time"""
    return score_windows(windows(video), spec, dev)


def windows(video):
    """The parts of a video that are judged: [(time, first picture, pictures uint8 [n,128,128,3])]"""
    out = []
    for t in TIMES:
        if (t - 1) * FPS <= video.shape[0]:
            start = max(0, min(int((t - WINDOW_S / 2) * FPS), video.shape[0] - WINDOW_S * FPS))
            out.append((t, start, video[start:start + WINDOW_S * FPS:STRIDE]))
    return out


def score_windows(parts, spec, dev="cpu"):
    return compare(look(parts, dev), spec)


def look(parts, dev="cpu"):
    """What is seen in the judged windows, whatever was asked for: [(time, what Judge.look says)]"""
    return [(t, _judge(dev).look(x.to(dev).float() / 255, start / FPS)) for t, start, x in parts]


def compare(seen, spec):
    """What is seen against what was asked for -> one row per time"""
    rows, first = [], None
    for t, view in seen:
        row, first = check_view(*view, spec, first)
        rows.append({"t": t, **row, "pass": all(row[c] for c in CHECKS)})
    return rows


_JUDGES = {}


def _judge(dev):
    if dev not in _JUDGES:
        _JUDGES[dev] = Judge(dev)
    return _JUDGES[dev]


class Judge:
    """Silhouettes, colours and backgrounds of the renderer, and the window test that uses them."""

    def __init__(self, dev):
        self.dev = dev
        self.kinds, self.masks = silhouettes(dev)
        self.means = mean_colors(dev)
        self.names = list(COLORS)

    def look(self, x, t0):
        """x [n,128,128,3] in [0,1], its first picture at t0 seconds -> background, its residual, parts per picture"""
        background, residual, empty = fit_background(x, t0, self.dev)
        return background, residual, self.parts(x, foreground(x, empty, background))

    def parts(self, x, mask):
        """-> per picture a list of parts {"x", "y", "size", "cut", "kind", "color", "rgb", "angle"}"""
        labels = components(mask)
        found, crops, where = [], [], []
        for i in range(x.shape[0]):
            found.append([])
            for label, area in zip(*labels[i][labels[i] > 0].unique(return_counts=True)):
                if area >= MIN_AREA:
                    m = (labels[i] == label).float()
                    crops.append(m)
                    where.append(i)
        if not crops:
            return found
        m = torch.stack(crops)
        area, cx, cy = moments(m)
        rgb = (x[where] * m[..., None]).sum((1, 2)) / area[:, None]
        kind, score = self.match(m, area, cx, cy)
        edge = torch.cat([m[:, :2].flatten(1), m[:, -2:].flatten(1), m[:, :, :2].flatten(1), m[:, :, -2:].flatten(1)], 1).sum(1) > 2
        angle = angles(m, x[where], cx, cy, area)
        for j, i in enumerate(where):
            k = SHAPES[kind[j]]
            c = (self.means[kind[j]] - rgb[j]).norm(dim=-1).argmin().item()
            found[i].append({"x": (cx[j].item() + 0.5) / SIZE * 2 - 1, "y": 1 - (cy[j].item() + 0.5) / SIZE * 2, "size": area[j].sqrt().item(),
                             "cut": bool(edge[j]), "kind": k, "fit": score[j].item(), "color": self.names[c], "rgb": rgb[j].tolist(),
                             "angle": {s: a[j].item() for s, a in angle.items()}, "i": i})
        return found

    def match(self, m, area, cx, cy):
        """Best silhouette for every mask: index of the kind, intersection over union."""
        a = normalise(m, area, cx, cy).flatten(1)
        b = self.masks.flatten(1)
        inter = a @ b.T
        iou = inter / (a.sum(1)[:, None] + b.sum(1)[None] - inter)
        best = iou.max(1)
        return self.kinds[best.indices].tolist(), best.values


def check_view(background, residual, parts, spec, first):
    """One window against the spec -> (checks, statistics of the first window)"""
    objects, n, step = spec["objects"], len(spec["objects"]), STRIDE / FPS
    tracks = assign(parts, objects, len(parts))
    color, kind, moves, tint, size = [], [], [], [], []
    for o, track in zip(objects, tracks):
        whole = [p for p in track if not p["cut"]]
        enough = len(whole) >= 5
        color.append(enough and vote(p["color"] for p in whole) == o["color"])
        kind.append(enough and vote(p["kind"] for p in whole) == o["shape"])
        moves.append(motions_seen(track, kind_name=o["shape"], n=n, step=step))
        tint.append(torch.tensor([p["rgb"] for p in whole]).median(0).values if enough else None)
        size.append(sorted(p["size"] for p in whole)[len(whole) // 2] if enough else None)
    now, extra = {"residual": residual, "tint": tint, "size": size}, count_extra(parts, n)
    seen = [{"color": vote(p["color"] for p in t), "kind": vote(p["kind"] for p in t), "motion": sorted(m), "pictures": len(t)} for t, m in zip(tracks, moves)]
    return {"color": all(color) and not extra, "kind": all(kind) and not extra, "motion": all(o["motion"] in m for o, m in zip(objects, moves)),
            "background": background == spec["background"], "drift": steady(now, first or now, objects),
            "count": not extra and all(s is not None for s in size),
            "each": [bool(c and k and o["motion"] in m) for c, k, m, o in zip(color, kind, moves, objects)],
            "seen": {"background": background, "residual": round(residual, 3), "parts": seen}}, first or now


def vote(values):
    values = list(values)
    return max(set(values), key=values.count) if values else None


def count_extra(parts, n):
    """Whether more objects than asked for are seen in a third of the pictures."""
    return sum(len([p for p in ps if not p["cut"] and p["fit"] > 0.75]) > n for ps in parts) > len(parts) / 3


def steady(now, first, objects):
    """Background, object colour and size as in the first window."""
    if now["residual"] > 0.10 or now["residual"] > first["residual"] + 0.03:
        return False
    for o, a, b, s, r in zip(objects, now["tint"], first["tint"], now["size"], first["size"]):
        if a is None or b is None or (a - b).norm() > 0.15:
            return False
        if o["motion"] != "pulse" and not 0.75 < s / r < 1.33:
            return False
    return True


# ------------------------------------------------------------------------------------------------ background and foreground
def empty_scene(background, phase, t, dev):
    """Pictures without objects: phase [B], t [B] or [B,n] seconds -> [B,n,128,128,3] in [0,1]"""
    obj, clip = torch.zeros(len(phase), 3, 16), torch.zeros(len(phase), 4)
    obj[..., 5], obj[..., 7] = 0.1, 1.0
    clip[:, 0], clip[:, 1] = BACKGROUNDS.index(background), torch.as_tensor(phase)
    out = [render(obj, clip, torch.as_tensor(s, dtype=torch.float32), 1, dev, native=True)[:, 0] for s in torch.as_tensor(t, dtype=torch.float32).view(len(phase), -1).T]
    return (torch.stack(out, 1) + 1) / 2


_BANK = {}


def bank(background, dev):
    """Candidates for the free phases of a background: pictures [P,64,64,3], phase [P], time [P].  Clouds, waves and stars move at
    known speeds, but a video may lag behind the clock, so for the sea the clock is searched too (its waves repeat after 6 s)."""
    if (background, dev) not in _BANK:
        phases = {"sea": 32, "hills": 64, "night": 8}.get(background, 1)
        clocks = {"sea": 36, "night": 10}.get(background, 1)
        ph = [i / phases for i in range(phases) for _ in range(clocks)]
        t = [j * {"sea": 6.0, "night": 20.0}.get(background, 0.0) / clocks for _ in range(phases) for j in range(clocks)]
        pictures = torch.cat([empty_scene(background, ph[i:i + 128], t[i:i + 128], dev)[:, 0] for i in range(0, len(ph), 128)])
        _BANK[background, dev] = (shrink(pictures), ph, t)
    return _BANK[background, dev]


def shrink(x):
    return F.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def fit_background(x, t0, dev):
    """-> name of the nearest background, its residual, its pictures for the window [n,128,128,3].  The phase is fitted in the middle
    of each second, robustly (an object may cover a third of the picture)."""
    n, per = x.shape[0], FPS // STRIDE
    best = None
    for name in BACKGROUNDS:
        pictures, ph, t = bank(name, dev)
        total, picks = 0.0, []
        for mid in range(per // 2, n, per):
            err = (pictures - shrink(x[mid:mid + 1])).abs().mean(-1)
            err = err.clamp(max=0.25).flatten(1)
            j = err.mean(1).argmin().item()
            total += err[j].sort().values[:int(err.shape[1] * 0.7)].mean().item()
            picks.append((mid, ph[j], t[j]))
        if best is None or total < best[1]:
            best = (name, total, picks)
    name, total, picks = best
    ph, ts = [], []
    for i in range(n):
        mid, p, t = picks[min(len(picks) - 1, i // per)]
        moving = name in ("sea", "night")
        # hills: the bank has t = 0; clouds move 0.1 in x per second, that is 1/32 of their phase
        ph.append(p if moving else p + (i - mid) * STRIDE / FPS / 32)
        ts.append(t + (i - mid) * STRIDE / FPS if moving else 0.0)
    return name, total / len(picks), empty_scene(name, ph, ts, dev)[:, 0]


def foreground(x, empty, background):
    """[n,128,128] bool: what differs from the empty background, without shadows on the ground and without thin things."""
    d = (x - empty).abs().amax(-1)
    mask = d > {"night": 0.14, "sea": 0.14, "hills": 0.11}.get(background, 0.075)
    k = ((x * empty).sum(-1) / (empty * empty).sum(-1).clamp(min=1e-3)).clamp(0.5, 1.03)
    grey = (x - k[..., None] * empty).abs().amax(-1) < 0.07
    y = 1 - (torch.arange(SIZE, device=x.device) + 0.5) / SIZE * 2
    mask &= ~(grey & (y < -0.55)[None, :, None] & (k < 1.0))
    m = mask.float()[:, None]
    m = -F.max_pool2d(-F.max_pool2d(m, 3, 1, 1), 3, 1, 1)              # close gaps in the shading
    m = F.max_pool2d(-F.max_pool2d(-m, 3, 1, 1), 3, 1, 1)              # open: removes the string of a pendulum, stars, glitter
    return m[:, 0] > 0.5


def components(mask):
    """Connected parts: int labels [n,H,W], 0 = background."""
    n, H, W = mask.shape
    lab = torch.arange(1, H * W + 1, device=mask.device, dtype=torch.float32).view(1, H, W).expand(n, -1, -1) * mask
    while True:
        new = lab
        for _ in range(8):
            new = F.max_pool2d(new[:, None], 3, 1, 1)[:, 0] * mask
        if torch.equal(new, lab):
            return lab.long()
        lab = new


# ------------------------------------------------------------------------------------------------ silhouettes, colours, angles
def moments(m):
    """[n,H,W] -> area, centre column, centre row"""
    c = torch.arange(m.shape[-1], device=m.device, dtype=torch.float32)
    area = m.sum((1, 2))
    return area, (m.sum(1) * c).sum(1) / area, (m.sum(2) * c).sum(1) / area


def normalise(m, area, cx, cy):
    """Masks brought to one centre and one area: [n,CELLS,CELLS]"""
    H = m.shape[-1]
    g = (torch.arange(CELLS, device=m.device) + 0.5) / CELLS * 2 - 1
    half = area.sqrt() * 1.05                                           # half side of the window in pixels
    px = (cx[:, None, None] + g[None, None, :] * half[:, None, None] + 0.5) / H * 2 - 1
    py = (cy[:, None, None] + g[None, :, None] * half[:, None, None] + 0.5) / H * 2 - 1
    grid = torch.stack(torch.broadcast_tensors(px, py), -1)
    return F.grid_sample(m[:, None], grid, align_corners=False)[:, 0]


def silhouettes(dev):
    """Normalised masks of the five kinds at all angles, plain and squashed: kind [M], masks [M,CELLS,CELLS]"""
    n = 192
    c = (torch.arange(n, device=dev) + 0.5) / n * 2 - 1
    kinds, out = [], []
    for k in range(len(SHAPES)):
        turns = {1: 12, 2: 16, 4: 10}.get(k, 1)
        fold = {1: 4, 2: 3, 4: 5}.get(k, 1)
        for j in range(turns):
            for sy in (1.0, 0.9, 0.82):
                a = 2 * math.pi / fold * j / turns
                x, y = c[None, :] * sy, -c[:, None] / sy
                lx, ly = math.cos(a) * x + math.sin(a) * y, -math.sin(a) * x + math.cos(a) * y
                d, _ = _sdf(lx, ly, torch.full_like(lx, float(k)), torch.full_like(lx, 0.5))
                out.append((d < 0).float())
                kinds.append(k)
    m = torch.stack(out)
    return torch.tensor(kinds, device=dev), normalise(m, *moments(m))


def mean_colors(dev):
    """Mean colour of every kind in every colour, as rendered: [5,10,3]"""
    spec = lambda s, c: {"background": "studio", "objects": [{"shape": s, "color": c, "size": "large", "motion": "pulse", "speed": "normal"}]}
    obj, clip = pack([spec(s, c) for s in SHAPES for c in COLORS], random.Random(0))
    obj[:, 0, 8:11] = 0.0
    x = (render(obj, clip, torch.zeros(len(obj)), 1, dev)[:, 0] + 1) / 2
    c = (torch.arange(SIZE, device=dev) + 0.5) / SIZE * 2 - 1
    m = motion(obj.to(dev), torch.zeros(len(obj), 1, device=dev))
    cx, cy = m["cx"][:, 0, :1, None], m["cy"][:, 0, :1, None]
    d, _ = _sdf(c[None, None, :] - cx, -c[None, :, None] - cy, obj[:, 0, 1, None, None].to(dev), m["sc"][:, 0, :1, None])
    w = (d < 0).float()[..., None]
    return ((x * w).sum((1, 2)) / w.sum((1, 2))).view(len(SHAPES), len(COLORS), 3)


def angles(m, x, cx, cy, area):
    """Angle of every mask, read as each kind that can show one (radians, modulo its symmetry)."""
    c = torch.arange(SIZE, device=m.device, dtype=torch.float32)
    dx, dy = c[None, None, :] - cx[:, None, None], -(c[None, :, None] - cy[:, None, None])
    r, phi = (dx * dx + dy * dy).sqrt() / area.sqrt()[:, None, None], torch.atan2(dy, dx)
    out = {}
    for kind, fold in (("cube", 4), ("triangle", 3), ("star", 5)):
        w = m * r ** fold
        out[kind] = torch.atan2((w * torch.sin(fold * phi)).sum((1, 2)), (w * torch.cos(fold * phi)).sum((1, 2))) / fold
    white = m * (x.amin(-1) - (x.amin(-1) * m).sum((1, 2), keepdim=True) / area[:, None, None]).clamp(min=0) ** 2 * r ** 2   # the ball's band
    out["ball"] = torch.atan2((white * torch.sin(2 * phi)).sum((1, 2)), (white * torch.cos(2 * phi)).sum((1, 2))) / 2
    return out


# ------------------------------------------------------------------------------------------------ tracks and motions
def assign(parts, objects, pictures):
    """For each object the parts that are it, at most one per picture: by colour, kind and nearness to where it was.  Objects that
    are hardly found by colour then get what is left over, so that a wrong colour is not also a wrong motion."""
    if len(objects) == 1:
        return [[max(ps, key=lambda p: p["size"]) for ps in parts if ps]]
    tracks = _match(parts, objects, [[] for _ in objects], lambda o, p: p["color"] == o["color"])
    lost = [i for i, t in enumerate(tracks) if len(t) < pictures / 8]
    if lost:
        taken = {id(p) for i, t in enumerate(tracks) if i not in lost for p in t}
        rest = [[p for p in ps if id(p) not in taken] for ps in parts]
        for i, track in zip(lost, _match(rest, [objects[i] for i in lost], [[] for _ in lost], lambda o, p: True)):
            tracks[i] = track
    return tracks


def _match(parts, objects, tracks, may):
    """Cheapest pairing of objects and parts, picture by picture; an object may be unseen."""
    for ps in parts:
        def cost(j, o):
            if j is None:
                return 1.5
            p, last = ps[j], tracks[o][-1:]
            far = min(1.0, math.hypot(p["x"] - last[0]["x"], p["y"] - last[0]["y"])) if last else 0.1 * abs(p["x"] - (o - 1))
            return (1.0 if p["kind"] != objects[o]["shape"] and not p["cut"] else 0.0) + far
        options = [[None] + [j for j, p in enumerate(ps) if may(o, p)] for o in objects]
        choices = (c for c in itertools.product(*options) if len({j for j in c if j is not None}) == sum(j is not None for j in c))
        for o, j in enumerate(min(choices, key=lambda c: sum(cost(j, o) for o, j in enumerate(c)))):
            if j is not None:
                tracks[o].append(ps[j])
    return tracks


FOLD = {"cube": 4, "triangle": 3, "star": 5, "ball": 2}


def motions_seen(track, kind_name, n, step):
    """The set of motion families that a track agrees with."""
    whole = [p for p in track if not p["cut"]]
    seen = set(drifts(track, step))
    if len(whole) < 12:
        return seen
    t = torch.tensor([p["i"] * step for p in whole], dtype=torch.float64)
    x, y = (torch.tensor([p[k] for p in whole], dtype=torch.float64) for k in ("x", "y"))
    s = torch.tensor([p["size"] for p in whole], dtype=torch.float64).log()
    still = x.std() < 0.07 and y.std() < 0.07
    if still:
        fit, amp = wave(t, s, 1.2, 3.4)
        if amp >= 0.14 and fit < 0.5 * s.std() + 0.03:
            seen.add("pulse")
        elif s.std() < 0.10 and (kind_name == "ring" or turning(whole, kind_name, step)):
            seen.add("spin")
    elif not seen:
        narrow = {1: 1.0, 2: 0.56, 3: 0.40}[n]
        if x.std() < 0.09 and bouncing(t, y):
            seen.add("bounce")
        fit, amp = wave(t, x, 1.6, 4.3)
        if fit < 0.35 * x.std() + 0.02 and 0.36 * {1: 1, 2: 0.63, 3: 0.45}[n] < amp < 0.95 and (y.max() - y.min()) < 0.40 and (y.max() - y.min()) < 0.45 * (x.max() - x.min()):
            seen.add("swing")
        if circling(t, x, y, 0.28 * narrow):
            seen.add("orbit")
    return seen


def drifts(track, step):
    """left, right, rise, fall: steady movement along one axis, with jumps only from edge to edge."""
    v = [((b["x"] - a["x"]) / (b["i"] - a["i"]) / step, (b["y"] - a["y"]) / (b["i"] - a["i"]) / step, a["cut"] or b["cut"])
         for a, b in zip(track, track[1:]) if b["i"] - a["i"] <= 2 and math.hypot(b["x"] - a["x"], b["y"] - a["y"]) < 0.6]
    whole = [w for w in v if not w[2]]
    v = whole if len(whole) >= 5 else v
    if len(v) < 5:
        return
    vx, vy = (sorted(w[k] for w in v) for k in (0, 1))
    mid = lambda a: a[len(a) // 2]
    for name, along, across, sign in (("right", vx, vy, 1), ("left", vx, vy, -1), ("rise", vy, vx, 1), ("fall", vy, vx, -1)):
        share = sum(a * sign > 0.05 for a in along) / len(along)
        if share > 0.88 and 0.12 < mid(along) * sign < 1.1 and abs(mid(across)) < 0.12:
            yield name


def regress(a, y):
    """Least squares of y [n,d] on the columns of a [M,n,k] -> coefficients [M,k,d], rms residual [M,d]"""
    g = a.mT @ a + 1e-9 * torch.eye(a.shape[-1], dtype=a.dtype)
    c = torch.linalg.solve(g, a.mT @ y)
    return c, (a @ c - y).pow(2).mean(1).sqrt()


def harmonics(t, low, high, steps=60):
    """Columns 1, cos, sin for periods from low to high seconds: [M,n,3]"""
    w = 2 * math.pi * t / torch.linspace(low, high, steps, dtype=t.dtype)[:, None]
    return torch.stack([torch.ones_like(w), w.cos(), w.sin()], -1)


def wave(t, y, low, high):
    """Best sinusoid with a period in [low, high] seconds -> (rms residual, amplitude)"""
    c, r = regress(harmonics(t, low, high), y[:, None])
    i = r[:, 0].argmin()
    return r[i, 0].item(), c[i, 1:, 0].norm().item()


def bouncing(t, y):
    """y = floor + height * 4u(1-u) with a period of 0.75 to 1.9 s, not far above the ground."""
    p, phase = torch.meshgrid(torch.linspace(0.75, 1.9, 60, dtype=t.dtype), torch.arange(24, dtype=t.dtype) / 24, indexing="ij")
    u = (t / p.reshape(-1, 1) + phase.reshape(-1, 1)) % 1
    c, r = regress(torch.stack([torch.ones_like(u), 4 * u * (1 - u)], -1), y[:, None])
    i = r[:, 0].argmin()
    return 0.3 < c[i, 1, 0] < 1.8 and r[i, 0] < 0.3 * y.std() + 0.03 and y.min() < GROUND + 0.62


def circling(t, x, y, radius):
    """Counter-clockwise on an ellipse 0.85 times as high as wide."""
    c, r = regress(harmonics(t, 2.6, 8.4), torch.stack([x, y], 1))
    for i in r.norm(dim=1).argsort()[:5].tolist():
        cx, cy = c[i, 1:, 0], c[i, 1:, 1]
        rx, ry = cx.norm().item(), cy.norm().item()
        ahead = (cx[0] * cy[1] - cx[1] * cy[0]).item() / max(rx * ry, 1e-9)          # +1: counter-clockwise, a quarter apart
        if r[i].norm() < 0.25 * math.hypot(x.std(), y.std()) + 0.02 and ahead > 0.8 and min(rx, ry) > radius:
            return True
    return False


def turning(whole, kind, step):
    """Clockwise with 0.8 to 4.5 rad/s, from the angles of neighbouring pictures."""
    d = []
    for a, b in zip(whole, whole[1:]):
        if b["i"] - a["i"] == 1:
            turn = 2 * math.pi / FOLD[kind]
            v = b["angle"][kind] - a["angle"][kind]
            d.append((v - turn * round(v / turn)) / step)
    if len(d) < 8:
        return False
    right = [v for v in d if v < -0.3]
    return len(right) > 0.7 * len(d) and 0.8 < -sum(d) / len(d) < 4.5


# ------------------------------------------------------------------------------------------------ command line
def read_video(path):
    """A folder of numbered pictures or a video file -> uint8 [T,128,128,3]"""
    import imageio.v3 as iio
    if os.path.isdir(path):
        return torch.stack([torch.from_numpy(iio.imread(os.path.join(path, f))[..., :3].copy()) for f in sorted(os.listdir(path)) if f.endswith(".png")])
    return torch.from_numpy(iio.imread(path))


def truth_windows(spec, seed):
    """The judged parts of the renderer's own video of a spec"""
    obj, clip = pack([spec], random.Random(seed), visible=True)
    last = TIMES[-1] * FPS - 3 - WINDOW_S * FPS
    out = []
    for t in TIMES:
        start = max(0, min(int((t - WINDOW_S / 2) * FPS), last))
        x = render(obj, clip, torch.tensor([start / FPS]), WINDOW_S * FPS, native=True)[0, ::STRIDE]
        out.append((t, start, ((x + 1) * 127.5).round().to(torch.uint8)))
    return out


def table(results):
    """results [(name, rows)] -> printable table with the rates of every check and time, and the share of passed times"""
    lines = [f"{'':52s} " + " ".join(f"{t:>3d} s" for t in TIMES)]
    cell = lambda r: "ok" if r["pass"] else "".join(c[0] for c in CHECKS if not r[c])
    for name, rows in results:
        by = {r["t"]: r for r in rows}
        lines.append(f"{name[:52]:52s} " + " ".join(f"{cell(by[t]) if t in by else '-':>5s}" for t in TIMES))
    lines.append("letters: first letters of the checks that failed (color, kind, motion, background, drift)")
    for c in CHECKS + ("count", "pass"):
        rate = lambda rs: f"{100 * sum(r[c] for r in rs) / len(rs):5.1f}" if rs else "    -"
        lines.append(f"{c:12s} % " + " ".join(rate([r for _, rows in results for r in rows if r["t"] == t]) for t in TIMES) +
                     "   all " + rate([r for _, rows in results for r in rows]))
    return "\n".join(lines)


def eight():
    """The eight fixed prompts: all kinds and backgrounds, eight motions."""
    return ["a large red ball bounces over green hills", "a blue cube spinning on a checkerboard floor", "a yellow star rising under a night sky with twinkling stars",
            "a green triangle swinging on a string in a plain studio", "a pink ring orbiting over the sea at sunset", "a turquoise cube drifting to the right over green hills",
            "a purple ball moving left in a plain studio", "a white star pulsing at night under the stars"]


def grid_prompts(rng, count, objects):
    """Random prompts with so many objects; single ones go through all kinds and motions in turn."""
    from grammar import sample_spec
    out, pairs = [], [(s, m) for s in SHAPES for m in MOTIONS]
    rng.shuffle(pairs)
    for i in range(count):
        spec = sample_spec(rng, tuple(float(k == objects) for k in (1, 2, 3)))
        if objects == 1:
            spec["objects"][0]["shape"], spec["objects"][0]["motion"] = pairs[i % len(pairs)]
            spec["background"] = BACKGROUNDS[i % len(BACKGROUNDS)]
            spec["objects"][0]["color"] = list(COLORS)[(i * 7 + i // 10) % len(COLORS)]
        out.append(caption(rng, spec))
    return out


def _job(job):
    torch.set_num_threads(1)
    parts, prompt = job
    return prompt, score_windows(parts, parse(prompt))


def spread(job, items, workers):
    """Results of job(item) in order, on several processes if there are any"""
    if workers < 2:
        return [job(i) for i in items]
    with torch.multiprocessing.get_context("spawn").Pool(workers) as pool:
        return list(pool.imap(job, items, chunksize=1))


def prompt_sets(single, several):
    """The prompts of the reported scores; always the same."""
    rng = random.Random(42)
    return {"eight": eight(), "one object": grid_prompts(rng, single, 1), "two objects": grid_prompts(rng, several, 2), "three objects": grid_prompts(rng, several, 3)}


@torch.no_grad()
def make_videos(weights, prompts, seconds, dev, guidance, first_steps, seed=0, at_once=16):
    """Roll all prompts out in one batch -> generator of uint8 videos in order"""
    from rollout import decode_video, rollout
    from text import encode_text, tokenize
    from weights_io import load_export
    tok, enc, dit, vae, mean, std = load_export(weights, dev)
    start = time.time()
    ctx = dit.context(encode_text(enc, *tokenize(tok, prompts, dev)))
    null = dit.context(encode_text(enc, *tokenize(tok, [""], dev)))
    z = rollout(dit, ctx, round(seconds * FPS / 12), first_steps=first_steps, seed=seed, null_ctx=null, first_guidance=guidance)
    print(f"{len(prompts)} prompts rolled out in {time.time() - start:.1f} s", flush=True)
    for i in range(0, len(prompts), at_once):
        yield from decode_video(vae, z[i:i + at_once], mean, std)


def engine_videos(engine, weights, prompts, seconds, seed):
    """What `filmloom generate` makes of the prompts, as it does by default -> generator of uint8 videos in order"""
    start = time.time()
    for p in prompts:
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "pictures", "")
            subprocess.run([engine, "generate", p, "--model", weights, "--seconds", str(seconds), "--seed", str(seed), "-q", "-o", out], check=True)
            yield read_video(out)
    print(f"{len(prompts)} prompts made by {engine} in {time.time() - start:.1f} s", flush=True)


def sheet(videos, path, seconds=(0, 1, 2, 5, 10, 20, 30, 40, 50, 59)):
    """One row per video (one picture a second), pictures at the given seconds"""
    from PIL import Image
    rows = [torch.cat([v[min(len(v) - 1, s)] for s in seconds], 1) for v in videos]
    Image.fromarray(torch.cat(rows).numpy()).save(path)


def evaluate(a):
    """Roll out, judge and draw everything for one exported folder; writes OUT/scores.txt, scores.json and contact sheets."""
    dev = "cuda" if torch.cuda.is_available() else "cpu"
    os.makedirs(a.out, exist_ok=True)
    sets = prompt_sets(a.single, a.several)
    sets = {k: v for k, v in sets.items() if v}
    prompts = [p for ps in sets.values() for p in ps]
    jobs, pictures = [], []
    if a.engine:
        videos, how = engine_videos(a.engine, a.weights, prompts, a.seconds, a.seed), "filmloom generate"
    else:
        videos = make_videos(a.weights, prompts, a.seconds, dev, a.guidance, a.first_steps, a.seed)
        how = f"PyTorch, first chunk: guidance {a.guidance}, {a.first_steps} steps"
    for p, video in zip(prompts, videos):
        jobs.append(([(t, s, x.clone()) for t, s, x in windows(video)], p))
        pictures.append(video[::FPS].clone())
    start, text, at = time.time(), [f"made by {how}; seed {a.seed}"], 0
    results = spread(_job, jobs, a.workers)
    print(f"judged in {time.time() - start:.1f} s", flush=True)
    for name, ps in sets.items():
        part = results[at:at + len(ps)]
        text += ["", f"== {name}", table(part)]
        each = [e for _, rows in part for r in rows for e in r["each"]]
        text.append(f"single objects of these scenes with colour, kind and motion right: {100 * sum(each) / max(1, len(each)):.1f} %")
        for k in range(0, len(ps), 12):
            vs = pictures[at + k:at + min(k + 12, len(ps))]
            sheet(vs, os.path.join(a.out, f"{name.replace(' ', '_')}_{k:02d}.jpg"))
        at += len(ps)
    with open(os.path.join(a.out, "scores.txt"), "w") as f:
        f.write("\n".join(text) + "\n")
    with open(os.path.join(a.out, "scores.json"), "w") as f:
        json.dump(results, f)
    print("\n".join(text))


def _look_job(parts):
    torch.set_num_threads(1)
    return look(parts)


def test(count, workers):
    """The judge on the renderer's own videos: asked for what they show it must pass, asked for anything else it must fail."""
    rng = random.Random(1)
    sets = {"single objects": eight() + grid_prompts(rng, count, 1), "two objects": grid_prompts(rng, count // 3, 2), "three objects": grid_prompts(rng, count // 3, 3)}
    for name, prompts in sets.items():
        seen = spread(_look_job, (truth_windows(parse(p), i) for i, p in enumerate(prompts)), workers)
        results = [(p, compare(s, parse(p))) for p, s in zip(prompts, seen)]
        print(f"renderer's own videos, {name}", table(results), sep="\n")
        for p, rows in results:
            for r in rows:
                if not r["pass"]:
                    print("   ", p, r["t"], [c for c in CHECKS if not r[c]], r["seen"])
        if name == "single objects":
            judged = [(what, check, r) for p, s in zip(prompts, seen) for what, check, spec in wrong_specs(parse(p), p) for r in compare(s, spec)]
            report("asked for something else", judged)
    bad = [b for i, p in enumerate(eight()) for b in broken_videos(p, i)]
    results = spread(_look_job, (parts for *_, parts, _ in bad), workers)
    report("broken videos", [(what, check, compare(s, spec)[-1]) for (what, check, _, spec), s in zip(bad, results)])


def report(name, judged):
    missed = [(what, r["t"], r["seen"]) for what, check, r in judged if r[check]]
    print(f"{name}: {len(judged) - len(missed)} of {len(judged)} judged times fail in the check they should", *missed, sep="\n", flush=True)


def wrong_specs(truth, prompt):
    """(what is wrong, check that must fail, spec): every other colour, kind, motion and background"""
    o = truth["objects"][0]
    for key, check, names in (("color", "color", COLORS), ("shape", "kind", SHAPES), ("motion", "motion", MOTIONS)):
        for v in names:
            still_ring = o["shape"] == "ring" and key == "motion" and v == "spin"       # cannot be told from a ring at rest
            if v != o[key] and not still_ring:
                yield f"{v} asked for, shown: {prompt}", check, {**truth, "objects": [{**o, key: v}]}
    for v in BACKGROUNDS:
        if v != truth["background"]:
            yield f"{v} asked for, shown: {prompt}", "background", {**truth, "background": v}


def broken_videos(prompt, seed):
    """(what is wrong, check that must fail, judged parts, spec): the picture stands still; the colours change slowly"""
    truth = parse(prompt)
    parts = truth_windows(truth, seed)
    yield f"frozen: {prompt}", "motion", [(t, s, x[20:21].expand(len(x), -1, -1, -1)) for t, s, x in parts[:1]], truth
    tint = lambda t: t * torch.tensor([1.0, -0.5, -1.0])
    yield f"slowly tinted: {prompt}", "drift", [(t, s, (x.float() + tint(t)).clamp(0, 255).to(torch.uint8)) for t, s, x in (parts[0], parts[-1])], truth


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--video", help="mp4 or folder of pictures")
    ap.add_argument("--prompt", help="the prompt; its spec is parsed from it")
    ap.add_argument("--test", action="store_true")
    ap.add_argument("--count", type=int, default=45, help="prompts of --test")
    ap.add_argument("--weights", help="exported folder to roll out and judge")
    ap.add_argument("--engine", help="make the videos with this filmloom binary instead of PyTorch")
    ap.add_argument("--out", default="scores")
    ap.add_argument("--single", type=int, default=45)
    ap.add_argument("--several", type=int, default=24)
    ap.add_argument("--seconds", type=float, default=60)
    ap.add_argument("--guidance", type=float, default=2.5, help="on the first chunk")
    ap.add_argument("--first_steps", type=int, default=10, help="of the first chunk")
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--workers", type=int, default=os.cpu_count())
    ap.add_argument("--json", action="store_true")
    a = ap.parse_args()
    if a.test:
        return test(a.count, a.workers)
    if a.weights:
        return evaluate(a)
    rows = score_video(read_video(a.video), parse(a.prompt))
    print(json.dumps(rows, indent=1) if a.json else table([(a.prompt, rows)]))


if __name__ == "__main__":
    main()
