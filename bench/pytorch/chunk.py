"""How long PyTorch takes for a chunk of the embedded model: the baseline of the speed table.

    python -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python chunk.py --threads 2 --repeats 9

A chunk is what each 0.75 s of video costs once the window is full: four passes over 21 frames
besides the chunk, the commit pass, and the streaming decode to 12 pictures. The first chunk is
ten guided steps (each run twice), commit and decode, without a window. Modes take turns inside
every repeat, so a busy moment of the machine hits all alike. One JSON line per mode, times in
milliseconds as {"median", "min"}; `error` is the relative difference of one pass's velocity and of
the decoded pictures from the first mode; `peak_memory_bytes` is of the whole process, all its modes
together. Compiled modes need a C++ compiler.
"""
import argparse
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from tokenizers import Tokenizer

from model import Decoder, Transformer, load_part

HERE = Path(__file__).parent
PROMPT = "a large red ball bouncing on a checkerboard floor and a small blue star spinning"
MODES = ["f32-eager", "f32-compile", "bf16-eager", "bf16-compile"]
STEPS, FIRST_STEPS, GUIDANCE, SHIFT = 4, 10, 2.5, 3.0


class Text:
    """Encoder and tokenizer; always float32 and eager, it is a few milliseconds per prompt."""

    def __init__(self, weights):
        from transformers import UMT5Config, UMT5EncoderModel
        config, tensors = load_part(weights / "text_encoder")
        self.encoder = UMT5EncoderModel(UMT5Config(**config)).eval()
        self.encoder.load_state_dict(tensors, strict=False)
        self.encoder.encoder.embed_tokens.weight = self.encoder.shared.weight
        self.tokenizer = Tokenizer.from_file(str(weights / "tokenizer/tokenizer.json"))

    def rows(self, prompt):
        encoding = self.tokenizer.encode(prompt)
        ids, mask = torch.tensor([encoding.ids]), torch.tensor([encoding.attention_mask])
        return self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state[0] * mask[0, :, None]


class Mode:
    """The model in one type, eager or compiled, with a full window behind it."""

    def __init__(self, name, weights, rows, null_rows):
        kind = torch.bfloat16 if name.startswith("bf16") else torch.float32
        self.name, self.transformer, self.decoder = name, Transformer.load(weights / "transformer", kind), Decoder(weights / "vae", kind)
        self.one_pass, self.decode = self.transformer, self.decoder
        if name.endswith("compile"):
            self.one_pass = torch.compile(self.transformer, dynamic=False)
            self.decode = torch.compile(self.decoder, dynamic=False)
        c = self.transformer.c
        self.shape = (c["in_dim"], c["chunk_frames"], 16, 16)
        self.context, self.null = self.transformer.context(rows), self.transformer.context(null_rows)
        self.times = {}
        generator = torch.Generator().manual_seed(1)
        self.noise = torch.randn(self.shape, generator=generator)
        self.old, self.frame, self.state = None, 0, {}
        _, self.state = self.decoder(self.noise, {}, True)
        for _ in range(c["window_frames"] // c["chunk_frames"]):
            clean = torch.randn(self.shape, generator=generator)
            _, rows = self.transformer(clean, torch.zeros(1), self.context, *self.tables(self.frame), self.old)
            self.old = self.transformer.append(self.old, rows, 64)
            self.frame += c["chunk_frames"]

    def tables(self, frame):
        return self.transformer.tables(frame, self.shape[1], 8, 8)

    def chunk(self, steps, guided, old, frame, state, first):
        """Denoises, commits and decodes one chunk; times of its parts in seconds."""
        x, (cos, sin) = self.noise, self.tables(frame)
        u = [1 - k / steps for k in range(steps + 1)]
        t = [SHIFT * v / (1 + (SHIFT - 1) * v) for v in u]
        marks = [time.perf_counter()]
        for now, after in zip(t, t[1:]):
            v, _ = self.one_pass(x, torch.tensor([1000 * now]), self.context, cos, sin, old)
            if guided:
                null, _ = self.one_pass(x, torch.tensor([1000 * now]), self.null, cos, sin, old)
                v = null + GUIDANCE * (v - null)
            x = x + (after - now) * v
        marks.append(time.perf_counter())
        _, rows = self.one_pass(x, torch.zeros(1), self.context, cos, sin, old)
        self.transformer.append(old, rows, 64)
        marks.append(time.perf_counter())
        self.decode(x, state, first)
        marks.append(time.perf_counter())
        return [b - a for a, b in zip(marks, marks[1:])]

    def later_chunk(self):
        passes, commit, decode = self.chunk(STEPS, False, self.old, self.frame, self.state, False)
        for part, seconds in (("pass", passes / STEPS), ("commit", commit), ("decode", decode), ("chunk", passes + commit + decode)):
            self.times.setdefault(part, []).append(seconds)

    def first_chunk(self):
        self.times.setdefault("first_chunk", []).append(sum(self.chunk(FIRST_STEPS, True, None, 0, {}, True)))

    def outputs(self):
        v, _ = self.one_pass(self.noise, torch.tensor([700.0]), self.context, *self.tables(self.frame), self.old)
        return v, self.decode(self.noise, self.state, False)[0]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--weights", type=Path, default=HERE / "../../models/mini/weights")
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    arguments.add_argument("--repeats", type=int, default=9)
    arguments.add_argument("--modes", default=",".join(MODES), help="comma-separated, of " + ", ".join(MODES))
    a = arguments.parse_args()
    torch.set_num_threads(a.threads)
    torch.set_grad_enabled(False)
    text = Text(a.weights)
    rows, null_rows = text.rows(PROMPT), text.rows("")
    modes = []
    for name in a.modes.split(","):
        start = time.perf_counter()
        mode = Mode(name, a.weights, rows, null_rows)
        mode.later_chunk(), mode.first_chunk(), mode.times.clear()  # warm: compiles, allocates, packs
        print(f"{name}: ready after {time.perf_counter() - start:.0f} s", file=sys.stderr)
        modes.append(mode)
    text_times = []
    for repeat in range(a.repeats):
        start = time.perf_counter()
        text.rows(PROMPT)
        text_times.append(time.perf_counter() - start)
        for mode in modes:
            mode.later_chunk()
            if repeat < max(1, a.repeats // 3):
                mode.first_chunk()
    report(modes, text_times, a)


def report(modes, text_times, a):
    milliseconds = lambda times: {"median": round(1e3 * statistics.median(times), 2), "min": round(1e3 * min(times), 2)}
    want = modes[0].outputs()
    for mode in modes:
        errors = [((got - w).norm() / w.norm()).item() for got, w in zip(mode.outputs(), want)]
        line = {"mode": mode.name, "threads": a.threads, "repeats": a.repeats, "text_ms": milliseconds(text_times)}
        line |= {f"{part}_ms": milliseconds(times) for part, times in mode.times.items()}
        line["pictures_per_second"] = round(12 / statistics.median(mode.times["chunk"]), 1)
        line["error"] = {"velocity": float(f"{errors[0]:.1e}"), "pictures": float(f"{errors[1]:.1e}")}
        line["peak_memory_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        line["torch"], line["load_average"] = torch.__version__, round(os.getloadavg()[0], 1)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
