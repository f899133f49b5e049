# The MCP server that the samples govern:
#   docker build --file images/sallyport-sample-payments.Dockerfile --tag sallyport-sample-payments:VERSION .
# build.py makes the same one without Docker. It reads here what is in it, and how it starts.
FROM rust:1-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --locked --release -p sallyport-sample-payments && strip target/release/payments-mcp
RUN images/root.sh /image target/release/payments-mcp:/usr/local/bin/payments-mcp

FROM scratch
COPY --from=build /image/ /
USER 65532:65532
# Its pod's gateway and network policy are before it: names of hosts are theirs to judge.
ENTRYPOINT ["/usr/local/bin/payments-mcp", "--listen", "0.0.0.0:8088", "--allow-any-host"]
