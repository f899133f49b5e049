#!/usr/bin/env bash
# Makes the package auditv1 from the .proto file, with the protoc of Python's grpcio-tools and the plugins that go.mod names.
set -euo pipefail
cd "$(dirname "$0")"
protos=../../../crates/audit-proto/proto
plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
GOBIN="$plugins" go install tool
module=sallyport.dev/examples/emit
file=sallyport/audit/v1/audit.proto
PATH="$plugins:$PATH" "${PYTHON:-python3}" -m grpc_tools.protoc "--proto_path=$protos" \
    "--go_out=module=$module,M$file=$module/auditv1:." "--go-grpc_out=module=$module,M$file=$module/auditv1:." "$file"
