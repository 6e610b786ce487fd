# `make` alone lists what there is to make.
SHELL := /bin/bash
PHOTOS ?= demo/orchard
OUT ?= demo/out
BENCH ?=
# Tests wait as much as they compute, so two processes share them, file by file. docs/decisions/0042 has the figures.
WORKERS ?= 2
PYTEST = .venv/bin/python -m pytest
IN_PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Rendered under another name first, so that an interrupted rendering is not taken for a whole one.
ORCHARD = [ -d demo/orchard ] || \
	{ rm -rf demo/rendering && .venv/bin/verger sample demo/rendering > /dev/null && mv demo/rendering demo/orchard; }

help:  ## List these targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: .venv/.spark  ## Set up everything, render the built-in orchard, and run the whole path on it
	@$(ORCHARD)
	@.venv/bin/verger run $(PHOTOS) --to $(OUT)

test: .venv/.dev  ## Set up everything, and run all tests, in WORKERS=2 processes
	@$(PYTEST) $(IN_PARALLEL)

quick: .venv/.dev  ## Run the tests that need no Spark, no TensorFlow and no server, in seconds
	@VERGER_HISTORIES=$${VERGER_HISTORIES:-25} $(PYTEST) $(IN_PARALLEL) -m "not server and not spark and not tensorflow and not slow"

slow: .venv/.dev  ## Run the tests that take minutes: a cluster that loses machines, a job as on EMR, the notebook
	@$(PYTEST) $(IN_PARALLEL) -m slow

# PySpark 3.5 leaves its sockets to the garbage collector and compares versions with distutils; whatever else warns is
# an error there too.
test-spark35: .venv-spark35/.dev  ## Run the tests that need Spark with Spark 3.5, in an environment of its own
	@.venv-spark35/bin/python -m pytest -m "spark and not tensorflow and not slow" \
		-W default::ResourceWarning -W default::pytest.PytestUnraisableExceptionWarning \
		-W "ignore:distutils Version classes:DeprecationWarning"

lint: .venv/.dev  ## Check style and types
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

bench: .venv/.dev  ## Measure Verger against the hardware's limit and its peers, on PHOTOS=folder (more options in BENCH=)
	@$(ORCHARD)
	@.venv/bin/python benchmarks/bench.py $(PHOTOS) $(BENCH)

reference: .venv/.dev  ## Write docs/reference.md from the code
	@.venv/bin/python docs/reference.py

notebook: .venv/.pages  ## Run the notebook on PHOTOS=folder (by default the orchard), as a page in build/notebook
	@$(ORCHARD)
	@.venv/bin/python notebooks/render.py build/notebook --photos $(PHOTOS)

# Only the demo's run is made here: another OUT is somebody's.
slides: .venv/.pages  ## Make build/slides.pdf, with the numbers of the run in OUT=folder (by default the demo's)
	@$(ORCHARD)
	@[ $(OUT) != demo/out ] || [ -f demo/out/manifest.json ] || .venv/bin/verger run demo/orchard --to demo/out
	@.venv/bin/python docs/slides/slides.py $(OUT) build/slides.pdf

docs: notebook slides  ## Make everything that people read, in build/

clean:  ## Remove the environments, the demo and what was made for reading
	rm -rf .venv .venv-spark35 demo build

.venv/.spark: scripts/setup pyproject.toml constraints.txt
	@scripts/setup spark
	@touch $@

.venv/.dev: scripts/setup pyproject.toml constraints.txt
	@scripts/setup spark,tensorflow,aws,web,notebook,slides,dev
	@touch $@ .venv/.spark .venv/.pages

.venv/.pages: scripts/setup pyproject.toml constraints.txt
	@scripts/setup spark,tensorflow,notebook,slides
	@touch $@ .venv/.spark

.venv-spark35/.dev: scripts/setup pyproject.toml constraints.txt
	@scripts/setup spark,aws,web,dev 3.5.8
	@touch $@

.PHONY: help demo test quick slow test-spark35 lint bench reference notebook slides docs clean
