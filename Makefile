# `make help` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash

.PHONY: help
help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Installs what is missing on this machine
	@scripts/setup.sh

.PHONY: wasm
wasm: setup ## Builds the Envoy filter
	@scripts/build-wasm.sh

.PHONY: build
build: wasm ## Builds everything
	@cargo build --locked -p sallyport-cli -p sallyport-sample-payments

.PHONY: run
run: build ## Runs everything on config/samples/payments
	@target/debug/sallyport up --config config/samples/payments

.PHONY: demo
demo: build ## Shows allowed, denied and revoked calls through a real Envoy, and leaves it running
	@python3 e2e/demo.py

.PHONY: demo-kubernetes
demo-kubernetes: images ## The same on a real Kubernetes, which it starts if KUBECONFIG names none
	@if [ -z "$$KUBECONFIG" ]; then scripts/setup.sh cluster; fi
	@python3 e2e/demo_kubernetes.py

.PHONY: audit-stack
audit-stack: build ## Starts all that the record passes through, Kafka and all, on free ports, and leaves it running
	@python3 e2e/audit_stack.py

.PHONY: demo-audit
demo-audit: build ## Breaks what keeps the record while calls go through a real Envoy; ends with a table that balances
	@python3 e2e/demo_audit.py

.PHONY: check-layers
check-layers: ## Who may depend on whom (scripts/layers.toml)
	@python3 scripts/check_layers.py

.PHONY: deny
deny: ## Licences, sources and versions of dependencies (deny.toml)
	@python3 scripts/check_deny.py

.PHONY: lint
lint: setup check-layers deny ## Format, warnings as errors, file sizes, dependencies
	@python3 -m unittest discover --quiet --start-directory scripts/tests
	@python3 scripts/check_metrics.py
	@cargo fmt --all --check
	@cargo clippy --quiet --locked --workspace --all-targets -- -D warnings
	@scripts/check-size.sh

.PHONY: unit
unit: wasm ## Unit and property tests
	@SALLYPORT_KUBE_BIN=$$(python3 e2e/cluster programs) && export SALLYPORT_KUBE_BIN && cargo test --quiet --locked

.PHONY: fuzz
fuzz: ## Looks for inputs that break the reader or the verdict, FUZZ_SECONDS (30) for each target
	@scripts/fuzz.sh

.PHONY: e2e
e2e: build ## The real things from outside: Envoy, control plane, ingest, API
	@python3 e2e/run.py

.PHONY: soak
soak: build ## The end-to-end tests that take minutes
	@python3 e2e/run.py --soak
	@$(MAKE) --no-print-directory try-clients

PROFILE ?= dev
.PHONY: images
images: wasm ## Writes the images, as target/images/*.tar; for others than yourself with PROFILE=release
	@cargo build --locked --profile $(PROFILE) -p sallyport-cli -p sallyport-sample-payments
	@python3 images/build.py --profile $(PROFILE)

.PHONY: cluster
cluster: ## Starts a real one-node Kubernetes, and prints its kubeconfig (the first time it is built: ten minutes)
	@scripts/setup.sh cluster >&2
	@python3 e2e/cluster up

.PHONY: cluster-down
cluster-down: ## Removes every trace of it but the built programs
	@python3 e2e/cluster down

AUDIT_VENV := .cache/tools/python-audit
.PHONY: try-clients
try-clients: build ## Runs the example clients of ingest/examples (Rust, Python, Go) against a real ingest
	@command -v go >/dev/null || { echo "try-clients needs Go: https://go.dev/dl"; exit 1; }
	@cmp -s ingest/examples/python/requirements.txt $(AUDIT_VENV)/installed || { python3 -m venv --clear $(AUDIT_VENV) && \
	    $(AUDIT_VENV)/bin/pip -q install --disable-pip-version-check -r ingest/examples/python/requirements.txt && \
	    cp ingest/examples/python/requirements.txt $(AUDIT_VENV)/installed; }
	@cargo build --quiet --locked -p sallyport-ingest --example emit
	@python3 e2e/clients.py

.PHONY: bench-policy
bench-policy: ## What one verdict costs, natively, at growing numbers of sessions
	@cargo run --quiet --locked --release -p sallyport-filter-core --example judge_cost

.PHONY: bench-fuel
bench-fuel: wasm ## What an allowed call costs the built filter, in Wasm instructions: the same on every machine
	@cargo run --quiet --locked -p sallyport-filter-host --example fuel

.PHONY: bench-filter
bench-filter: wasm ## What the filter costs Envoy: CPU and throughput beside the same Envoy without it
	@command -v h2load >/dev/null && command -v nginx >/dev/null || \
	    { echo "bench-filter needs h2load and nginx: apt-get install nghttp2-client nginx-light"; exit 1; }
	@cargo build --quiet --locked --release -p sallyport-cli
	@python3 e2e/bench/filter.py

.PHONY: bench-kubernetes-scale
bench-kubernetes-scale: ## What the operator costs at 1,000 servers, 100,000 sessions and 10,000 proxies, and how soon it tells
	@scripts/setup.sh cluster
	@cargo build --quiet --locked --release -p sallyport-cli
	@cargo build --quiet --locked --release -p sallyport-operator-xds --example proxies
	@python3 e2e/bench/kubernetes_scale.py

.PHONY: bench-kubernetes-propagation
bench-kubernetes-propagation: wasm ## How soon a revocation in a real API server is a verdict of 20 real Envoys; needs root
	@scripts/setup.sh
	@cargo build --quiet --locked --release -p sallyport-cli
	@cargo build --quiet --locked --release -p sallyport-operator-xds --example probes
	@python3 e2e/bench/kubernetes_propagation.py

.PHONY: bench-ingest
bench-ingest: ## What an acknowledged event costs the ingest, and how long an acknowledgement takes
	@cargo run --quiet --locked --release -p sallyport-ingest --example bench

.PHONY: bench-audit-kafka
bench-audit-kafka: setup ## What an event costs from the spool to Kafka, beside Kafka's own producer benchmark
	@cargo build --quiet --locked --release -p sallyport-cli
	@python3 e2e/bench/audit_kafka.py

.PHONY: bench-audit-verify
bench-audit-verify: ## How fast the record is verified: chains in memory, and a store and its exports by the command line
	@cargo build --quiet --locked --release -p sallyport-cli
	@cargo build --quiet --locked --release -p sallyport-ingest --example bench
	@cargo run --quiet --locked --release -p sallyport-audit-proof --example bench_verify
	@python3 e2e/bench/audit_verify.py

.PHONY: bench-audit-processor
bench-audit-processor: setup ## What an event costs from Kafka to ClickHouse, the processor's and ClickHouse's CPU apart
	@cargo build --quiet --locked --release -p sallyport-cli
	@cargo build --quiet --locked --release -p sallyport-processor --examples
	@python3 e2e/bench/audit_processor.py

.PHONY: bench
bench: bench-policy bench-fuel bench-filter bench-ingest bench-audit-kafka bench-audit-processor bench-audit-verify ## All benchmarks

.PHONY: test
test: lint unit e2e ## Everything that CI runs
