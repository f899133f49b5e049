# Every process of ours and the command line, and whom ClickHouse over TLS is trusted by, in one image:
#   docker build --file images/sallyport.Dockerfile --tag sallyport:VERSION .
# build.py makes the same one without Docker. It reads here what is in it, and how it starts.
FROM rust:1-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --locked --release -p sallyport-cli && strip target/release/sallyport
RUN images/root.sh /image target/release/sallyport:/usr/local/bin/sallyport /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt

FROM scratch
COPY --from=build /image/ /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/sallyport"]
