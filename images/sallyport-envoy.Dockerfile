# The gateway: Envoy, the filter, and whom Envoy trusts where a server's URL begins with https:
#   . scripts/versions.env
#   docker build --build-arg ENVOY_VERSION=$ENVOY_VERSION --file images/sallyport-envoy.Dockerfile --tag sallyport-envoy:VERSION .
# build.py makes the same one without Docker. It reads here what is in it, and how it starts.
ARG ENVOY_VERSION
FROM envoyproxy/envoy:v${ENVOY_VERSION} AS envoy

FROM rust:1-bookworm AS build
RUN rustup target add wasm32-unknown-unknown
WORKDIR /source
COPY . .
RUN scripts/build-wasm.sh
COPY --from=envoy /usr/local/bin/envoy /usr/local/bin/envoy
RUN images/root.sh /image /usr/local/bin/envoy:/usr/local/bin/envoy target/wasm/sallyport_filter.wasm:/opt/sallyport/filter.wasm /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt

FROM scratch
COPY --from=build /image/ /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/envoy"]
