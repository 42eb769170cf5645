# Everyday commands. `just verify` changes nothing and is what CI runs.

# Format, lints, documentation, tests.
verify:
    .ci/run

# Brings formatting and mechanical lints in order.
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# The main job, small: five seconds of video.
demo:
    cargo run --release -- generate "a large red ball bounces over green hills" --seconds 5 -o demo.mp4

# Where time and memory go, in one table with the same model in PyTorch if `python` has it.
bench python="python3":
    python3 bench/compare.py --python {{python}}
