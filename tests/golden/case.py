"""What every golden case shares: seeded random numbers, the measure of error, the case's folder."""
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
CASES = HERE / "cases"
MINI = HERE / "../../models/mini/weights"
TOLERANCE = {"f32": 1e-4, "bf16": 1e-2}


def random(seed, *shape, scale=1.0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * np.float32(scale))


def random_weights(shapes, seed, dtype=torch.float32):
    """Weights of about unit gain; nothing is zero, so every tensor matters."""
    out = {}
    for i, (name, shape) in enumerate(shapes.items()):
        z = random([seed, i], *shape)
        if "norm" in name and not name.endswith("bias"):
            z = 1 + 0.2 * z
        elif name.endswith("modulation"):
            z = 0.4 * z
        elif name.endswith("bias"):
            z = 0.2 * z
        else:
            z = z / np.sqrt(np.prod(shape[1:]))
        out[name] = z.to(dtype)
    return out


def error(got, want):
    """The error that the tests bound: the larger of the relative L2 and relative maximum error."""
    got, want = got.double(), want.double()
    difference = got - want
    return max((difference.norm() / want.norm()).item(), (difference.abs().max() / want.abs().max()).item())


def write(name, part, inputs, outputs, model="model", **about):
    folder = CASES / name
    folder.mkdir(parents=True, exist_ok=True)
    save = lambda tensors, path: save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, path)
    if inputs:
        save(inputs, folder / "in.safetensors")
    save({k: v.float() if v.is_floating_point() else v for k, v in outputs.items()}, folder / "out.safetensors")
    command = f"filmloom model forward --part {part} --model {model} --input in.safetensors --output got.safetensors"
    if any(k.startswith("cache.") for k in outputs):
        command += " --dump-cache"
    case = dict(part=part, model=model, tolerance=TOLERANCE, command=command, **about)
    if part == "noise":
        for key in ("model", "command"):
            del case[key]
    (folder / "case.json").write_text(json.dumps(case, indent=1) + "\n")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    assert size < 1_000_000, (name, size)
    notes = {k: v for k, v in about.items() if k != "pins"}
    print(f"{name:32} {size / 1e3:7.1f} kB  {notes}", flush=True)


def model_folder(name, part):
    folder = CASES / name / "model" / part
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_json(path, content):
    path.write_text(json.dumps(content, indent=1) + "\n")
