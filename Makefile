# make run    the server with the built-in simulated market, or FEED=wss://… for a real one
# make test   all tests, after installing what they need
# make lint   what must be clean before a commit

CARGO ?= cargo
LISTEN ?= 127.0.0.1:8080
FEED ?=
TARGET := $(or $(CARGO_TARGET_DIR),target)

# Reaches the recipes through the environment, so that no character of a URL is special to the shell.
export FEED

.PHONY: run build test setup lint

run: build
	@exec $(TARGET)/release/fanline --listen $(LISTEN) $${FEED:+"$$FEED"}

build:
	$(CARGO) build --release --locked

test: setup
	ulimit -n $$(ulimit -Hn) 2>/dev/null; $(CARGO) test --locked

setup:
	@tests/setup

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
