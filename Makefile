# `make` alone lists what there is to make.
SHELL := /bin/bash
PHOTOS ?= demo/orchard
OUT ?= demo/out
BENCH ?=
# Rendered under another name first, so that an interrupted rendering is not taken for a whole one.
ORCHARD = [ -d demo/orchard ] || \
	{ rm -rf demo/rendering && .venv/bin/verger sample demo/rendering > /dev/null && mv demo/rendering demo/orchard; }

help:  ## List these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 14

demo: .venv/.spark  ## Set up everything, render the built-in orchard, and run the whole path on it
	@$(ORCHARD)
	@.venv/bin/verger run $(PHOTOS) --to $(OUT)

test: .venv/.dev  ## Set up everything, and run all tests
	@.venv/bin/python -m pytest

quick: .venv/.dev  ## Run the tests that need neither Spark nor TensorFlow, in seconds
	@.venv/bin/python -m pytest -m "not spark and not tensorflow"

lint: .venv/.dev  ## Check style and types
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

bench: .venv/.dev  ## Measure Verger against the hardware's limit and its peers, on PHOTOS=folder (more options in BENCH=)
	@$(ORCHARD)
	@.venv/bin/python benchmarks/bench.py $(PHOTOS) $(BENCH)

clean:  ## Remove the environment and the demo
	rm -rf .venv demo

.venv/.spark: scripts/setup pyproject.toml constraints.txt
	@scripts/setup spark
	@touch $@

.venv/.dev: scripts/setup pyproject.toml constraints.txt
	@scripts/setup spark,tensorflow,dev
	@touch $@ .venv/.spark

.PHONY: help demo test quick lint bench clean
