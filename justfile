# Short names for the steps of .ci/run, which is where they are written down. `just` itself is optional.

# What CI runs, without installing anything.
check:
    .ci/run check

# What needs nothing but Rust, before every commit.
quick:
    .ci/run fmt clippy doc tests

# The side-by-side benchmark with HAProxy and nginx; see docs/benchmarks.md.
bench *ARGS:
    cargo bench --bench peers -- {{ ARGS }}

# Everything on free loopback ports, in 20 seconds.
demo:
    cargo run --release -- demo
