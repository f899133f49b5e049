#!/usr/bin/env bash
# Runs each fuzz target for FUZZ_SECONDS on the committed corpus. What it finds anew stays in target/fuzz; a crash is kept
# there too, and its path is printed: put it into fuzz/corpus, so that tests replay it from then on.
#
# The instrumentation is LLVM's own pass, which a stable compiler takes as plain code-generation options.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-30}
out=$PWD/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=$out
# With a target named, only what runs there is instrumented, not build scripts and macros.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1" \
    cargo build --quiet --locked --release --manifest-path fuzz/libfuzzer/Cargo.toml --target "$host"
for target in message request verdict; do
    mkdir -p "$out/found/$target"
    printf 'fuzz: %s for %s s\n' "$target" "$seconds"
    "$out/$host/release/$target" -max_total_time="$seconds" -max_len=4096 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$out/$target-" "$out/found/$target" "fuzz/corpus/$target" 2>"$out/$target.log" \
        || { tail -40 "$out/$target.log"; exit 1; }
    grep -E '^stat::number_of_executed_units|^stat::average_exec_per_sec|cov:.*DONE|DONE' "$out/$target.log"
done
