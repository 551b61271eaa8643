# make run    the server with the built-in simulated market, or FEED=wss://… for a real one; TLS=1 for wss as well, with a certificate of its own
# make cluster  three servers that share one feed, a NATS server and a balancer, on this machine; LISTEN is the balancer's address
# make deb    a Debian package, in target/debian
# make dist   the archive of a release with a static program, into target/dist; TARGETS=aarch64-unknown-linux-gnu for another machine
# make image  the same program as an image for `docker load`, by buildah; needs no daemon
# make test   all tests, after installing what they need
# make bench  every benchmark, into target/bench/report.md; some 13 minutes after compiling, on a machine with nothing else to do
# make bench-watchlists  clients with a list of their own each: bytes, CPU, memory, changes; medians of RUNS; BESIDE=PROGRAM for another build
# make bench-start  size, start time, time to the first price and idle CPU of the static program
# make bench-peers  the same load on other servers, as far as Debian, npm and PyPI have them; into target/bench/peers.md; RUNS=3 for medians
# make page-performance  frames a second and memory of the page in Chromium at 5,000 messages a second; ten minutes, or SECONDS=60
# make screenshots  writes docs/screenshots; needs Chromium and pngquant
# make hostile  one attacker of each kind against a server with 1000 honest clients; a table, in some 5 minutes
# make soak   clients, feed faults, reloads and kills for twenty minutes, or MINUTES=120; what is left of them
# make conformance  clients/conformance with every client: Node, Chromium, Firefox, Python; some 8 minutes; CLIENTS=TEXT chooses
# make stock-clients  real clients of venues through fanline, ccxt among them, which `make test` leaves out
# make lint   what must be clean before a commit
# make model  the bus's shared memory under loom, in every order of its threads
# make mutants  plants each fault of tests/mutants/faults.rs in a copy of the code; the tests must notice it; half an hour; MUTANTS=TEXT chooses
# make mutants-short  four of them, as the gate does
# make fuzz   each fuzz target for FUZZ_SECONDS; needs cargo-fuzz and a nightly compiler

CARGO ?= cargo
LISTEN ?= 127.0.0.1:8080
TLS ?=
TLS_LISTEN ?= 127.0.0.1:8443
FEED ?=
FUZZ_SECONDS ?= 20
TARGETS ?=
RUNS ?= 1
BESIDE ?=
HOSTILE ?=
MINUTES ?= 20
MUTANTS ?=
CLIENTS ?=
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Reaches the recipes through the environment, so that no character of a URL is special to the shell.
export FEED

.PHONY: run cluster deb dist image build build-tests test setup conformance stock-clients lint model mutants mutants-short fuzz bench bench-watchlists bench-peers bench-start hostile soak page-performance screenshots

# A certificate for development is valid for 30 days.
run: build
	@listen=$(LISTEN); set --; \
	if [ -n "$(TLS)" ]; then \
		[ -n "$$(find $(TARGET)/tls/certificate.pem -mtime -25 2>/dev/null)" ] || \
			$(TARGET)/release/fanline certificate --out $(TARGET)/tls --force || exit; \
		listen=$$listen,tls://$(TLS_LISTEN); \
		set -- --tls-certificates $(TARGET)/tls/certificate.pem:$(TARGET)/tls/key.pem; \
	fi; \
	exec $(TARGET)/release/fanline --listen $$listen "$$@" $${FEED:+"$$FEED"}

cluster: build
	@tests/setup nginx nats-server
	@PATH="$(TARGET)/tools/usr/sbin:$(TARGET)/venv/bin:$$PATH" PROGRAM=$(TARGET)/release/fanline LISTEN=$(LISTEN) \
		exec deploy/cluster/run

deb: build
	@deploy/debian/build $(TARGET)/release/fanline $(TARGET)/debian

# The first program tells what the others, which may not run here, cannot.
dist:
	@set -e; host=$$(rustc -vV | sed -n 's/^host: //p'); teller=$$(deploy/dist/program); \
	for target in $$host $(TARGETS); do \
		program=$$(deploy/dist/program $$target); TELLER=$$teller deploy/dist/archive $$program $$target target/dist; \
	done

image:
	@deploy/dist/image "$$(deploy/dist/program)" target/dist/fanline-image.tar

build:
	$(CARGO) build --release --locked

# Tests mostly wait: for timers, for processes, for the end of a pause.
test: setup
	ulimit -n $$(ulimit -Hn) 2>/dev/null; RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(( 2 * $$(nproc) ))} $(CARGO) test --locked

build-tests:
	$(CARGO) test --locked --no-run

setup:
	@tests/setup

bench: build
	ulimit -n $$(ulimit -Hn) 2>/dev/null; $(CARGO) bench --locked --bench report

bench-watchlists: build
	ulimit -n $$(ulimit -Hn) 2>/dev/null; $(CARGO) bench --locked --bench watchlists -- \
		--runs $(RUNS) $(if $(BESIDE),--beside "$(abspath $(BESIDE))")

bench-peers: build
	@benches/peers/setup
	ulimit -n $$(ulimit -Hn) 2>/dev/null; $(CARGO) bench --locked --bench peers -- 1000 4 $(RUNS)

bench-start:
	@benches/start "$$(deploy/dist/program)"

page-performance: build setup
	SERVER_BINARY=$(abspath $(TARGET))/release/fanline SECONDS=$(or $(SECONDS),600) node tests/page/performance.mjs

screenshots: build setup
	SERVER_BINARY=$(abspath $(TARGET))/release/fanline node tests/page/screenshots.mjs

# HOSTILE takes options, such as --only did-you-mean, or --program PATH for another build.
hostile: build
	ulimit -n $$(ulimit -Hn) 2>/dev/null; $(CARGO) bench --locked --bench hostile -- $(HOSTILE)

soak: build
	ulimit -n $$(ulimit -Hn) 2>/dev/null; $(CARGO) bench --locked --bench soak -- --minutes $(MINUTES)

conformance: setup
	@clients/conformance/matrix $(CLIENTS)

stock-clients:
	@tests/setup node websockets "clients of venues" Coinbase ccxt tests/stock
	ulimit -n $$(ulimit -Hn) 2>/dev/null; CI=true $(CARGO) test --locked --test clients stock -- --include-ignored

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

model:
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$(TARGET)/loom \
		$(CARGO) test --release --locked --manifest-path tests/model/Cargo.toml

mutants:
	FANLINE_MUTANTS="$(MUTANTS)" $(CARGO) test --locked --test mutants -- --ignored --nocapture every_planted_fault_is_noticed

mutants-short:
	$(CARGO) test --locked --test mutants -- --ignored --nocapture a_planted_fault_of_several_kinds_is_noticed

# In both packages, new inputs go to fuzz/corpus, which is not committed; a finding goes to fuzz/artifacts, and its test to
# tests/fuzz_findings.rs.
fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || \
		{ echo "expected cargo-fuzz, found none; install it with \`cargo install cargo-fuzz --locked\`" >&2; exit 1; }
	@$(CARGO) +nightly --version >/dev/null 2>&1 || \
		{ echo "expected a nightly compiler, found none; install it with \`rustup toolchain install nightly\`" >&2; exit 1; }
	@set -e; for fuzz in fuzz crates/shared-deflate/fuzz; do \
		for target in $$($(CARGO) fuzz list --fuzz-dir $$fuzz); do \
			echo "$$target: $(FUZZ_SECONDS) seconds"; \
			mkdir -p $$fuzz/corpus/$$target; \
			$(CARGO) +nightly fuzz run --fuzz-dir $$fuzz $$target $$fuzz/corpus/$$target $$fuzz/seeds/$$target -- \
				-max_total_time=$(FUZZ_SECONDS) -timeout=10 -verbosity=0; \
		done; \
	done
