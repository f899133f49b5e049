#!/usr/bin/env bash
# The Wasm linker, without the exports of callbacks that the filter has no use for: the proxy enters the VM for every
# callback that is exported, also for one that does nothing, and that costs each request.
set -euo pipefail
unwanted='proxy_on_(request_trailers|request_metadata|response_headers|response_body|response_trailers|response_metadata|http_call_response|new_connection|downstream_data|downstream_connection_close|upstream_data|upstream_connection_close|queue_ready|grpc_receive_initial_metadata|grpc_receive_trailing_metadata)'
arguments=()
skip=
for argument in "$@"; do
    if [ -n "$skip" ]; then
        skip=
        # `--export NAME` as two arguments.
        [[ $argument =~ ^$unwanted$ ]] || arguments+=(--export "$argument")
        continue
    fi
    case $argument in
        --export) skip=1 ;;
        --export=*) [[ ${argument#--export=} =~ ^$unwanted$ ]] || arguments+=("$argument") ;;
        *) arguments+=("$argument") ;;
    esac
done
# shellcheck disable=SC2086
exec $SALLYPORT_WASM_LD "${arguments[@]}"
