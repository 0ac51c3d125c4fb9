# Every step that CI takes, under the name that CI uses. `make` lists them.

# Installed tools, jars and, for the checks, builds: outside the checkout, shared by clones. Safe to delete.
CACHE := $(or $(SMARTLOG_CACHE),$(HOME)/.cache/smartlog)

# What to build and test: `make test PACKAGES="-p smartlog-schema"`.
PACKAGES ?= --workspace
FEATURES ?= --all-features
# Which services to start: `make test SERVICES="kafka postgres"`, or SERVICES=none to skip what needs them.
SERVICES ?=
# More options for cargo test: `make test ARGS="-- --nocapture clock"`.
ARGS ?=
# What to measure: `make bench BENCH="--bench pipeline -- live"`, and how much: QUICK=1 only shows that it works.
BENCH ?=
QUICK ?=
ROUNDS ?=
LOGS ?=
# A build server must not change Cargo.lock.
LOCKED := $(if $(CI),--locked)
FUZZ_SECONDS ?= 60
SERVICES_STATE := $(or $(SMARTLOG_TEST_STATE),$(or $(TMPDIR),/tmp)/smartlog-services-$(shell id -u))

export SERVICES LOCKED PACKAGES FEATURES

# Clones share the builds of the checks; `make demo` and `make build` use ./target, as anybody expects.
# A CARGO_TARGET_DIR of yours is honoured everywhere.
test test-arm64 lint security docs bench bench-api bench-compare detect coverage fuzz: export CARGO_TARGET_DIR ?= $(CACHE)/target

.DEFAULT_GOAL := help
.PHONY: help demo build test test-arm64 lint security terraform fmt docs bench bench-api bench-compare detect coverage fuzz services services-stop services-selftest diagrams recording image image-check dist deploy-api

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## the whole thing at http://localhost:8000, nothing else installed; ARGS="--for 60s" ends it
	cargo run --release $(LOCKED) --bin smartlog -- demo $(ARGS)

build: ## the program, at target/release/smartlog
	cargo build --release $(LOCKED) --bin smartlog

test: ## every test, against real services that it starts and stops; PACKAGES, SERVICES, ARGS narrow it
	scripts/test $(LOCKED) $(PACKAGES) $(FEATURES) $(ARGS)

test-arm64: ## the function as it is packaged for AWS, run by QEMU (Debian: qemu-user-static libc6-arm64-cross)
	scripts/lambda package
	SERVICES="terraform moto python" scripts/test $(LOCKED) -p smartlog-lambda --test cloud -- --ignored arm64

lint: ## formatting, clippy, docs, licences and sources of dependencies, scripts
	scripts/lint

security: ## licences, sources and known weaknesses of the dependencies; needs a network
	ADVISORIES=required scripts/lint dependencies

terraform: ## terraform/ by Terraform itself (init, validate, plan, test) and by Checkov
	$(MAKE) test SERVICES="terraform checkov" PACKAGES="-p smartlog-tests" FEATURES= ARGS="--test terraform"

fmt: ## formats the code
	cargo fmt --all

docs: ## the API documentation; broken links are errors
	RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps $(LOCKED) $(PACKAGES) $(FEATURES)

# A broker for speed; the tests' one starts quickly and stays small.
bench: export SMARTLOG_KAFKA_JVM ?= -Xms1g -Xmx1g -XX:+UseParallelGC
bench: ## what the program reaches, one table, each limit measured beside it (docs/BENCHMARKS.md); QUICK=1 for a try
	SMARTLOG_BENCH_QUICK=$(QUICK) SMARTLOG_BENCH_ROUNDS=$(ROUNDS) SMARTLOG_BENCH_LOGS=$(LOGS) \
	scripts/with-services $(or $(SERVICES),kafka postgres) -- cargo bench $(LOCKED) -p smartlog-benches $(BENCH)

bench-compare: ## parsing, here against BASE (a commit): what became faster or slower, with confidence
	scripts/bench-compare $(or $(BASE),origin/main)

detect: ## how well it detects (docs/DETECTION.md): SET=tune|tune-more|held-out|short, BASELINE=FILE, OUT=FILE, WORST=20, FORMAT=json; QUICK=1 for a try
	cargo run --release --quiet $(LOCKED) -p smartlog-benches --bin detect -- --set $(or $(SET),held-out) --worst $(or $(WORST),0) \
	$(if $(QUICK),--quick,--without-each) $(if $(BASELINE),--baseline $(BASELINE)) $(if $(OUT),--out $(OUT)) $(if $(FORMAT),--format $(FORMAT)) $(ARGS)

bench-api: ## the API beside FastAPI over the same table (docs/BENCHMARKS.md); ROUNDS=1 for a try
	cargo build --release --quiet $(LOCKED) --bin smartlog
	ROUNDS=$(ROUNDS) scripts/with-services postgres -- benches/api/bench.py $(CARGO_TARGET_DIR)/release/smartlog

diagrams: ## the pictures of the documents, from docs/diagrams/*.dot
	scripts/diagrams

recording: ## docs/demo.gif and docs/demo.webm: the demo in a terminal and on its page, recorded while it runs
	cargo build --release --quiet $(LOCKED) --bin smartlog
	scripts/recording $(or $(CARGO_TARGET_DIR),target)/release/smartlog docs

image: ## the container image smartlog:local; TAG, and ARGS for docker build
	docker build --tag $(or $(TAG),smartlog:local) $(ARGS) .

image-check: dist ## the image's last stages without Docker, by buildah, and what `make dist` built run in it (make test does so with its own build)
	scripts/image-check target/release/smartlog

dist: ## what a release consists of, in target/dist: archive, bill of materials, checksums; and target/image for `make image ARGS="--build-arg PROGRAM=prebuilt"`
	rm -rf target/dist target/image
	LIBZ_SYS_STATIC=1 CARGO_TARGET_DIR=target CARGO_PROFILE_RELEASE_LTO=thin CARGO_PROFILE_RELEASE_STRIP=symbols \
	cargo build --release $(LOCKED) -p smartlog --features s3,tls,otlp --bin smartlog
	scripts/dist archive target/release/smartlog target/dist
	scripts/dist lay target/release/smartlog target/image/$(if $(filter aarch64,$(shell uname -m)),arm64,amd64)

deploy-api: ## has the hosted API take the newest release: DEPLOY_HOOK (a URL, secret), API_URL, VERSION
	scripts/deploy-api

coverage: ## line coverage of the tests, as HTML in the build folder
	scripts/coverage

fuzz: ## the fuzz targets, FUZZ_SECONDS (60) each; needs cargo-fuzz and a nightly toolchain (fuzz/README.md)
	@for target in $(or $(FUZZ),parse timestamp config); do \
	mkdir -p fuzz/corpus/$$target && echo "== $$target" && \
	cargo +nightly fuzz run $$([ $$target != config ] || echo --features=config) $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	-max_total_time=$(FUZZ_SECONDS) -max_len=2048 -dict=fuzz/$$([ $$target = config ] && echo toml || echo json).dict -verbosity=0 -print_final_stats=1 || exit 1; \
	done

services: ## starts the real services for tests run by hand, and leaves them
	@scripts/services start $(SERVICES) --state $(SERVICES_STATE)
	@echo "They run until you stop them. To use them:   set -a; . $(SERVICES_STATE)/services.env; set +a"
	@echo "To see them:   scripts/services status --state $(SERVICES_STATE)"
	@echo "To stop them:  make services-stop"

services-stop: ## stops what make services started, and deletes its data
	@scripts/services stop --purge --state $(SERVICES_STATE)

services-selftest: ## checks that services survive crashes and leave nothing behind (part of make test)
	tests/services/selftest.py
