#!/usr/bin/env bash
# Builds the filter's module into target/wasm, with rustup's Wasm target or with Debian's compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/versions.env
export CARGO_TARGET_DIR=target/wasm-build
# 128-bit vectors, which Envoy's V8 always has: the hash of the audit chain is the costliest step of a call.
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="-C target-feature=+simd128"
build=(build --quiet --locked --profile wasm --target wasm32-unknown-unknown -p sallyport-wasm-filter)
if rustup target list --installed 2>/dev/null | grep -q wasm32-unknown-unknown; then
    cargo "${build[@]}"
else
    # Debian's packages; the standard library is built along, for want of a compiled one.
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="wasm-ld-$LLD_VERSION" RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc \
        /usr/bin/cargo "${build[@]}" -Zbuild-std=std,panic_abort
fi
mkdir -p target/wasm
cp "$CARGO_TARGET_DIR/wasm32-unknown-unknown/wasm/sallyport_wasm_filter.wasm" target/wasm/sallyport_filter.wasm
