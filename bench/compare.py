#!/usr/bin/env python3
"""The engine and PyTorch on the same machine, the same weights and as many threads: one table.

    python3 bench/compare.py --python venv/bin/python [--rounds 2] [--threads 2] [--modes f32-eager,bf16-eager]

A round runs PyTorch (`pytorch/chunk.py`, all modes in turns), then Filmloom (`filmloom bench generate`,
all classes in turns); a figure is the median of the rounds' medians, in milliseconds. Ratios are taken
between figures of one run. Memory is the peak of a process that runs one mode alone; of compiled modes it
is not measured, the compiler would be counted. Run it when nothing else runs. Without PyTorch the table
has Filmloom's rows only.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PARTS = ["text", "pass", "commit", "decode", "chunk", "first_chunk", "encode"]
TITLES = ["text", "pass", "commit", "decode", "**chunk**", "first chunk", "encode", "pictures/s", "memory, MB"]


def main():
    a = arguments()
    if not a.filmloom:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    torch = has_torch(a.python)
    if not torch:
        print(f"no PyTorch in {a.python}: make a venv, pip install -r {HERE / 'pytorch/requirements.txt'}, "
              "and name its python with --python", file=sys.stderr)
    rows = {}
    for number in range(a.rounds):
        print(f"round {number + 1} of {a.rounds}", file=sys.stderr)
        for line in (pytorch(a, a.modes, a.repeats) if torch else []) + filmloom(a, None, a.repeats):
            rows.setdefault(line["mode"], []).append(line)
    figures = {mode: summary(lines) for mode, lines in rows.items()}
    for mode, figure in figures.items():
        if not mode.endswith("compile"):
            alone = filmloom(a, mode, 1) if mode.startswith("cpu-") else pytorch(a, mode, 1)
            figure["memory"] = alone[0]["peak_memory_bytes"] / 1e6
    print(table(figures), ratios(figures), sep="\n\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=os.environ.get("PYTHON", "python3"), help="interpreter that has PyTorch")
    parser.add_argument("--filmloom", help="a filmloom built elsewhere, perhaps without its model [default: built here]")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--modes", default="f32-eager,f32-compile,bf16-eager,bf16-compile")
    return parser.parse_args()


def has_torch(python):
    test = [python, "-c", "import torch, transformers, tokenizers, safetensors"]
    try:
        return subprocess.run(test, stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def pytorch(a, modes, repeats):
    return run([a.python, HERE / "pytorch/chunk.py", "--modes", modes], a, repeats)


def filmloom(a, mode, repeats):
    precision = ["--precision", mode.removeprefix("cpu-")] if mode else []
    own = ["--model", ROOT / "models/mini/weights"]  # what is embedded elsewhere
    command = [a.filmloom or ROOT / "target/release/filmloom", "bench", "generate", "--json", *precision]
    command += own if a.filmloom else []
    return run(command, a, repeats)


def run(command, a, repeats):
    command = [*map(str, command), "--threads", str(a.threads), "--repeats", str(repeats)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def summary(lines):
    """Medians over the rounds; PyTorch's keys end in _ms, Filmloom's do not."""
    middle = lambda values: statistics.median(values) if values else None
    part = lambda name: middle([(line.get(name) or line[name + "_ms"])["median"] for line in lines
                                if name in line or name + "_ms" in line])
    figure = {name: part(name) for name in PARTS}
    figure["pictures/s"] = 12e3 / (figure["chunk"] + (figure["encode"] or 0))
    return figure


def table(figures):
    number = lambda value: "-" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"
    rows = ["| | " + " | ".join(TITLES) + " |", "| --- |" + " --- |" * len(TITLES)]
    for mode, figure in figures.items():
        name = f"Filmloom `{mode}`" if mode.startswith("cpu-") else "PyTorch " + mode.replace("-", ", ")
        cells = [number(figure[part]) for part in [*PARTS, "pictures/s"]] + [number(figure.get("memory"))]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def ratios(figures):
    chunks = [(figure["chunk"], mode) for mode, figure in figures.items()]
    best = lambda prefixes: min((chunk for chunk in chunks if chunk[1].startswith(prefixes)), default=None)
    pairs = [(best("f32-eager"), best("cpu-f32")), (best("f32"), best("cpu-f32")), (best(("f32", "bf16")), best("cpu-"))]
    lines = [f"A chunk takes PyTorch {theirs[1]} {theirs[0] / ours[0]:.2f} times as long as Filmloom {ours[1]}."
             for theirs, ours in dict.fromkeys(pairs) if theirs and ours]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
