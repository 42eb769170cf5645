#!/bin/sh
# The engine and PyTorch in turns on the same machine, as JSON lines: run it
# when nothing else runs, and compare medians of one round.
# Usage: bench/compare.sh [ROUNDS] [THREADS]; PYTHON names the interpreter.
set -eu
here=$(dirname "$0")
rounds=${1:-3}
threads=${2:-2}
cargo build --release --quiet --manifest-path "$here/../Cargo.toml"
round=0
while [ "$round" -lt "$rounds" ]; do
    "$here/pytorch/run.sh" --threads "$threads" --repeats 4 --modes "${MODES:-f32-eager,bf16-eager}"
    cargo run --release --quiet --manifest-path "$here/../Cargo.toml" -- bench generate --threads "$threads" --repeats 4 --json
    round=$((round + 1))
done
