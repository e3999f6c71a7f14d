# Each target installs what it needs and the machine lacks, and says so. See README.md.
.DEFAULT_GOAL := help
SHELL := bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET)/debug
# Clients nobody here wrote, in an environment of their own that is named after them.
PYTHON := $(TARGET)/python
PACKAGES := schemathesis==4.32.5 PyJWT==2.10.1
BUF := npx --yes @bufbuild/buf@1.75.0

.PHONY: help demo test check bench

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s%s\n", substr($$1, 1), $$2 }' $(MAKEFILE_LIST)

demo: ## Start everything, show one visitor's story, stay up until Ctrl-C (ONCE=1: end after the story)
	@.ci/install postgres redis
	@echo 'Building the services (minutes the first time) …'
	@cargo build --workspace --bins
	@$(BIN)/stores run -- $(BIN)/demo $(if $(ONCE),--once)

test: ## Run every test against a private PostgreSQL and Redis
	@.ci/install postgres redis faketime openssl curl python
	@[ "$$(cat $(PYTHON)/packages 2>/dev/null)" = '$(PACKAGES)' ] || { python3 -m venv --clear $(PYTHON) && \
		$(PYTHON)/bin/pip install --quiet --disable-pip-version-check $(PACKAGES) && \
		echo '$(PACKAGES)' >$(PYTHON)/packages; }
	@cargo build --workspace --bins --tests
	@$(BIN)/stores run -- cargo test --workspace

check: ## Formatting, lints, documentation, contract
	@.ci/install node
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items
	$(BUF) lint

bench: ## Measure the product against the least that could do the same (IDENTITIES=10000000: grow that far)
	@.ci/install postgres redis
	@echo 'Building the services for release (minutes the first time) …'
	@cargo build --release --bin identity-service --bin http-edge --bin stores --bin bench
	@$(BIN:debug=release)/stores run -- $(BIN:debug=release)/bench run $(if $(IDENTITIES),--identities $(IDENTITIES))
