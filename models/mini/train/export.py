"""Write the EMA weights of a training state as an exported folder (what train.py does at its end).

    python export.py --state OUT/state.pt --vae ../weights/vae --out exported
"""
import argparse

import torch

from text import make_tokenizer
from train import export_state


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--state", required=True)
    ap.add_argument("--vae", required=True)
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    state = torch.load(a.state, map_location="cpu", weights_only=True)
    size = export_state(state, make_tokenizer(), a.vae, a.out)
    print(f"step {state['step']}: {size / 1e6:.1f} MB in {a.out}")


if __name__ == "__main__":
    main()
