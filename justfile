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

# Where time and memory go; then in turns with the same model in PyTorch, if it is installed.
bench:
    cargo run --release -- bench generate
    bench/compare.sh
