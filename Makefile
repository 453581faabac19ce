# One verb a line; `make` prints them. Everything is made in .venv and target/, nothing outside this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install
NATIVE_SOURCES := Cargo.toml pyproject.toml $(shell find crates -path crates/ndshare-zenoh -prune -o \( -name '*.rs' -o -name Cargo.toml -o -path '*/view/page/*' \) -print)
BENCH := $(VENV)/bench/bin/python -m bench
C_LIBRARY := $(BIN)/python crates/ndshare-c/build_backend.py
MATURIN := env -u CONDA_PREFIX VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release
# Optimisation across crates takes as long as all the rest of a build, and tests gain nothing by it.
FOR_TESTS := CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=none
# Tests start some thousand interpreters, which would compile all that they import each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo view test test-all test-threads check header crash campaign soak histories states loom weaken fuzz scribble \
  test-numpy test-scipy test-libraries net-engine bench bench-quick bench-compare bench-growth bench-page site docs wheel clean
.DELETE_ON_ERROR:

help: ## Print these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: $(STAMPS)/release $(STAMPS)/group-demo ## Run acquisition and processing on real images; pictures go to demo-out/
	$(BIN)/python examples/demo.py

view: $(STAMPS)/release $(STAMPS)/group-demo ## Look at the demo's microscope in the browser, live, until Ctrl-C
	$(BIN)/python examples/live.py

test: $(STAMPS)/killpoints $(STAMPS)/group-test ## Run every test: Rust, Python, and the examples in the docs
	cargo test --workspace --exclude ndshare-py --features ndshare/killpoints
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: $(STAMPS)/killpoints ## Run the Python tests on each Python that is found, and say which were missing
	$(BIN)/python tests/all_pythons.py $(TESTS)

test-threads: $(STAMPS)/killpoints $(STAMPS)/group-threads ## Run tests that can go on so in eight threads at once
	$(BIN)/python -m pytest -n0 --parallel-threads 8 --mark-hypothesis-as-unsafe --skip-thread-unsafe=1 \
		tests/test_arrays.py tests/test_lock.py tests/test_ring.py tests/test_cache.py tests/test_gather.py

check: $(STAMPS)/killpoints $(STAMPS)/group-test $(STAMPS)/group-check ## Check format, lints, types and stubs
	cargo fmt --all --check
	cargo fmt --manifest-path crates/ndshare-zenoh/Cargo.toml --check
	cargo clippy -p ndshare --all-targets -- -D warnings
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyright
	$(BIN)/stubtest ndshare

header: ## Write the C header anew, from the C functions
	NDSHARE_WRITE_HEADER=1 cargo test -p ndshare-c --features killpoints --test header

crash: $(STAMPS)/killpoints $(STAMPS)/group-test ## Kill processes at every labelled point and see that nothing is lost
	NDSHARE_CRASH_ROUNDS=$${NDSHARE_CRASH_ROUNDS:-2} $(BIN)/python -m pytest -m crash

campaign: $(STAMPS)/killpoints $(STAMPS)/group-test ## Kill one of eight processes 100,000 times, at every kill point (two hours)
	$(BIN)/python tests/campaign.py --worlds 4 --rounds $${NDSHARE_CAMPAIGN_ROUNDS:-100000}

soak: $(STAMPS)/killpoints $(STAMPS)/group-test $(STAMPS)/group-demo ## Kill one of eight processes every 50 ms for ten minutes, and see that nothing grows
	$(BIN)/python tests/soak.py --minutes $${NDSHARE_SOAK_MINUTES:-10} --svg docs/soak.svg

states: $(STAMPS)/killpoints $(STAMPS)/group-test ## Run the state machines of rings, overlays, names and caches for 100,000 steps
	$(BIN)/python tests/states.py

histories: $(STAMPS)/killpoints $(STAMPS)/group-test ## Check what processes did, some of them killed, for the promised order; SECONDS=600 for long
	$(BIN)/python tests/histories.py $(if $(SECONDS),--seconds $(SECONDS))

loom: ## Run the models of holds, locks, rings and hits over all interleavings
	RUSTFLAGS="--cfg loom" cargo test --release -p ndshare --lib models --target-dir target/loom

weaken: ## Weaken each memory ordering in turn, and count those that no model notices (half an hour)
	$(PYTHON) tests/weaken.py

fuzz: $(STAMPS)/killpoints $(STAMPS)/group-fuzz ## Fuzz all that comes from others, a minute long, or RUNS=10000000 times each
	$(BIN)/python fuzz/run.py $(if $(RUNS),--runs $(RUNS)) $(TARGETS)

scribble: ## Write over shared words while all is used, in the release build and with AddressSanitizer; SECONDS=600 for long
	$(PYTHON) tests/scribble.py $(if $(SECONDS),--seconds $(SECONDS))

test-numpy: $(STAMPS)/release $(STAMPS)/group-test ## Run NumPy's own tests with our functions in the place of NumPy's
	$(BIN)/python tests/numpy_suite.py

test-scipy: $(STAMPS)/release $(STAMPS)/group-test ## Run SciPy's and NumPy's own tests of transforms with ours in their place
	$(BIN)/python tests/scipy_suite.py

test-libraries: $(STAMPS)/killpoints $(STAMPS)/group-libraries ## Run the tests of other libraries, with those that are large
	$(BIN)/python -m pytest tests/test_enable.py tests/test_libraries.py tests/test_record.py tests/test_replay.py tests/test_notebook.py tests/test_servers.py tests/test_docs.py

net-engine: $(STAMPS)/net-engine ## Build and install the faster engine of ndshare.net, which nothing else builds

bench: $(STAMPS)/bench ## Measure for 15 minutes, with the peers in the same run, and keep the figures for this kind of CPU
	$(BENCH) --keep

bench-quick: $(STAMPS)/bench ## Measure a few things in 90 seconds, with the peers
	$(BENCH) --quick

bench-compare: $(STAMPS)/bench ## Measure as bench does, and compare with the kept figures; QUICK=1 in 90 seconds, STRICT=1 fails if worse
	$(BENCH) --compare $(if $(QUICK),--quick) $(if $(STRICT),--strict)

bench-growth: $(STAMPS)/bench ## Measure how costs grow with the number of everything, and keep the figures
	$(BENCH) --growth --keep

bench-page: $(STAMPS)/bench ## Write docs/benchmarks.md and its plots from the kept figures
	$(BENCH).page

site: $(STAMPS)/killpoints $(STAMPS)/group-test $(STAMPS)/group-docs ## Build the documentation into target/site, and look whether it is whole
	rm -rf target/site
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env --doctree-dir target/site-doctrees docs target/site
	NDSHARE_SITE=target/site $(BIN)/python -m pytest -n0 -q tests/test_site.py
	@echo "open target/site/index.html"

docs: site ## Build the documentation and that of Rust, and run every example in the docs
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps -p ndshare
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps -p ndshare-cli
	$(BIN)/python -m pytest tests/test_docs.py

wheel: $(STAMPS)/group-build ## Build a wheel as for a release, with its sources, and check both
	rm -rf target/wheels
	# maturin as a build backend starts itself by its name.
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir target/wheels .
	$(BIN)/maturin sdist --out target/wheels
	$(BIN)/python packaging/check_wheel.py target/wheels/*.whl

clean: ## Remove everything that make has made
	rm -rf $(VENV) target demo-out bench-out python/ndshare/*.so python/ndshare/lib/*.so .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(STAMPS)/venv:
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	mkdir -p $(STAMPS) && touch $@

$(STAMPS)/group-%: pyproject.toml | $(STAMPS)/venv
	$(PIP) --group $*
	touch $@

$(STAMPS)/peers: $(wildcard bench/iceoryx2/Cargo.* bench/iceoryx2/src/* bench/rust_fft/Cargo.* bench/rust_fft/src/*) | $(STAMPS)/venv
	cargo build --release --manifest-path bench/iceoryx2/Cargo.toml --target-dir target/iceoryx2
	cargo build --release --manifest-path bench/rust_fft/Cargo.toml --target-dir target/rust_fft
	touch $@

# The bench takes the newest Python that has the peers; the release of the extension serves it too.
$(STAMPS)/bench: $(STAMPS)/release $(STAMPS)/peers $(STAMPS)/bench-environment
	cargo build --release --package ndshare --features internals --example ring_bench --example lock_bench
	touch $@

$(STAMPS)/bench-environment: pyproject.toml bench/environment.py | $(STAMPS)/venv
	$(BIN)/python -m bench.environment $(BENCH_PYTHON)
	touch $@

$(STAMPS)/net-engine: $(wildcard crates/ndshare-zenoh/*.* crates/ndshare-zenoh/src/*) | $(STAMPS)/group-build
	$(MATURIN) --manifest-path crates/ndshare-zenoh/Cargo.toml --target-dir target/zenoh
	touch $@

# There is one extension at a time: the release, or the one for tests with kill points compiled in. One for a single
# version of Python would be taken before the one for all.
$(STAMPS)/release: $(NATIVE_SOURCES) | $(STAMPS)/group-build
	rm -f python/ndshare/*.so
	$(MATURIN)
	$(C_LIBRARY)
	rm -f $(STAMPS)/killpoints && touch $@

$(STAMPS)/killpoints: $(NATIVE_SOURCES) | $(STAMPS)/group-build
	rm -f python/ndshare/*.so
	$(FOR_TESTS) $(MATURIN) --features abi3,killpoints --target-dir target/killpoints
	$(FOR_TESTS) $(C_LIBRARY) --features killpoints --target-dir target/killpoints
	rm -f $(STAMPS)/release && touch $@
