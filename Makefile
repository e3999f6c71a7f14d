# Each target installs what it needs and the machine lacks, and says so. See docs/contributing.md.
.DEFAULT_GOAL := help
SHELL := bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
BIN := $(TARGET)/debug
# Clients nobody here wrote, in an environment of their own that is named after them.
PYTHON := $(TARGET)/python
PACKAGES := schemathesis==4.32.5 PyJWT==2.10.1
# Where `make bench BASE=…` keeps the other commit.
BASE_FOLDER := $(abspath $(TARGET))/base
BUF := npx --yes @bufbuild/buf@1.75.0
# Each is a file in tests/fuzz.
FUZZ := callbacks consent_strings cookies events hosts templates

.PHONY: help demo test fuzz check deny bench bench-base

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s%s\n", substr($$1, 1), $$2 }' $(MAKEFILE_LIST)

demo: ## Start everything, show one visitor's story, stay up until Ctrl-C (ONCE=1: end after the story)
	@.ci/install postgres redis
	@echo 'Building the services (minutes the first time) …'
	@cargo build --workspace --bins
	@$(BIN)/stores run -- $(BIN)/demo $(if $(ONCE),--once)

test: ## Run every test against a private PostgreSQL and Redis
	@.ci/install postgres redis faketime openssl curl python promtool chromium
	@[ "$$(cat $(PYTHON)/packages 2>/dev/null)" = '$(PACKAGES)' ] || { python3 -m venv --clear $(PYTHON) && \
		$(PYTHON)/bin/pip install --quiet --disable-pip-version-check $(PACKAGES) && \
		echo '$(PACKAGES)' >$(PYTHON)/packages; }
	@cargo build --workspace --bins --tests
	@$(BIN)/stores run -- cargo test --workspace

fuzz: ## Have each fuzz target try inputs for a minute (SECONDS=3600: for so long; ONLY=cookies: that target)
	@.ci/install c++
	@.ci/fuzz $(or $(SECONDS),60) $(or $(ONLY),$(FUZZ))

check: ## Formatting, lints, documentation, contract, alert rules
	@.ci/install node promtool
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items
	.ci/doc-comments
	$(BUF) lint
	promtool check rules docs/monitoring/alerts.yml
	promtool test rules docs/monitoring/alerts_test.yml

deny: ## Licences, sources and bans of the dependencies
	@command -v cargo-deny >/dev/null || cargo install --locked --quiet cargo-deny@0.20.2
	cargo deny check bans licenses sources

bench: $(if $(BASE),bench-base) ## Measure against the least that could do the same (BASE=commit: and that; ONLY=sync: that item; IDENTITIES=10000000: grow that far)
	@.ci/install postgres redis
	@echo 'Building the services for release (minutes the first time) …'
	@cargo build --release --bin identity-service --bin http-edge --bin event-processor --bin stores --bin bench
	@$(BIN:debug=release)/stores run -- $(BIN:debug=release)/bench run \
		$(if $(IDENTITIES),--identities $(IDENTITIES)) $(if $(ONLY),--only $(ONLY)) $(if $(BASE),--base)

# That commit's services, in a target folder of their own: Cargo takes two checkouts of a workspace for one, and what it
# has built of the one for the other's, unless a file there is newer.
bench-base:
	@[ -e $(BASE_FOLDER)/source/.git ] || git worktree add --quiet --force --detach $(BASE_FOLDER)/source HEAD
	@commit=$$(git rev-parse --verify '$(BASE)^{commit}') && \
		git -C $(BASE_FOLDER)/source checkout --quiet --force --detach $$commit
	@echo 'Building the services of $(BASE) for release (minutes the first time) …'
	@cd $(BASE_FOLDER)/source && CARGO_TARGET_DIR=$(BASE_FOLDER)/target cargo build --release --locked \
		--bin identity-service --bin http-edge
