# Each target works as the first command on a fresh clone: it needs make and Python 3.11 or newer only.
PYTHON ?= python3
VENV ?= .venv
OLDEST ?= build/oldest
BIN := $(VENV)/bin
# An environment in the first argument, with the rest installed: by uv, which takes a tenth of pip's
# time, or by pip where only pip's own settings name the package index.
install = $(PYTHON) -m venv $(1) && { $(1)/bin/python -m pip install $(QUIETLY) uv && \
  $(1)/bin/uv pip install --quiet --python $(1) $(2) || \
  $(1)/bin/python -m pip install $(QUIETLY) --no-compile $(2); }
QUIETLY := --quiet --disable-pip-version-check
DEMO_DIR ?= runs/demo

# Compiled JAX programs are kept, so that a second run of the tests or the demo starts at once.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0

.PHONY: help setup demo test quick test-slow oldest mutate colabs outputs colab frameworks matrix wheel address docs docs-tools publish lint clean

help:
	@echo "make demo       train each kind of model on scikit-learn's digits, in a few minutes"
	@echo "make test       the tests, in a few minutes        make test-slow  the long ones too"
	@echo "make oldest     some of the tests on the oldest packages; make test runs them too"
	@echo "make mutate ARGS=FILE...  changes a source file here and there; do its tests notice?"
	@echo "make reproduce-NAME ARGS=...  a table or figure of the papers; ARGS=--list lists them"
	@echo "make colabs     runs all notebooks                 make docs       the documentation, into site/"
	@echo "make outputs    runs all notebooks and stores what they show"
	@echo "make wheel      builds and checks the package      make colab      tests beside Colab's versions"
	@echo "make matrix     the tests on the oldest, locked and newest packages, Python 3.11 to 3.13"
	@echo "make frameworks the memory functions in Equinox and Haiku"
	@echo "make publish ARGS=VERSION  the documentation, onto the branch gh-pages"
	@echo "make lint       ruff and mypy                      make clean      remove .venv and caches"

# Most modules are never imported: those that are get compiled then.
$(VENV)/.ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "memjax needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 2; }
	$(call install,$(VENV),-c requirements.lock -e '.[dev]')
	@touch $@

setup: $(VENV)/.ready

demo: setup
	$(BIN)/python -m experiments.quickstart --workdir=$(DEMO_DIR)

# Tests compile much and compute little: the compiler's costlier passes are left out.
# XLA ends a process at a flag that it does not know: the last two are of the JAX in
# requirements.lock. The commands set the last: with it here too, programs are compiled once for all.
OF_OLD := --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true \
  --xla_cpu_parallel_codegen_split_count=1
# Two processes on two cores: threads of OpenBLAS or XLA would only wait for each other.
test mutate: export OPENBLAS_NUM_THREADS ?= 1
test mutate: export NPROC ?= 1
test mutate: export XLA_FLAGS ?= $(OF_OLD) --xla_cpu_use_fusion_emitters=false \
  --xla_cpu_experimental_ynn_fusion_type=
# To install and to lint keeps one core busy: the other tries the oldest packages meanwhile.
test:
	+$(MAKE) --no-print-directory -j2 oldest quick

quick: lint
	$(BIN)/python -m pytest

# On the oldest packages: what differs between JAX's versions, and a run.
$(OLDEST)/.ready: pyproject.toml tests/environments/oldest.lock
	$(call install,$(OLDEST),-c tests/environments/oldest.lock -e '.[train]' hypothesis pytest)
	@touch $@
oldest: $(OLDEST)/.ready
	XLA_FLAGS="$(OF_OLD)" JAX_COMPILATION_CACHE_DIR=$(CURDIR)/$(OLDEST)/jax_cache \
	  $(OLDEST)/bin/python -m pytest --override-ini=addopts= -q -p no:cacheprovider -m 'not slow' \
	  tests/memory/test_sharded.py tests/memory/test_second_derivatives.py \
	  tests/training/test_loop.py::test_a_run_leaves_what_the_contract_says

test-slow: setup
	$(BIN)/python -m pytest -m 'slow or not slow'

# ARGS="memjax/memory/sdm.py --sample=40 --jobs=2", for one.
mutate: setup
	$(BIN)/python -m pip install $(QUIETLY) -c requirements.lock -e '.[mutation]'
	$(BIN)/python -m tests.robustness.mutation $(ARGS)

# ARGS="--budget=small --dry_run", for one; with ARGS=--list any NAME lists them all.
reproduce-%: setup
	$(BIN)/python -m experiments.reproduce --name=$* $(ARGS)

colabs: setup
	$(BIN)/python -m pytest -n0 -m 'slow or not slow' tests/test_colabs.py

outputs: setup
	$(BIN)/python -m tests.store_outputs $(ARGS)

# ARGS="tests/memory", for one, in the place of all quick tests.
colab frameworks matrix wheel: setup
	$(BIN)/python -m tests.environments $@ $(ARGS)

# Writes the address in pyproject.toml wherever else ours stands.
address:
	owner=$$(sed -nE 's#^Repository = "https://github.com/([^/]+)/.*#\1#p' pyproject.toml) && \
	  git grep -lE '(github|github\.com)/[^/"]+/memjax' | xargs sed -i -E \
	  "s#(github|github\.com)/[A-Za-z0-9-]+/memjax\b#\1/$$owner/memjax#g"

docs publish: export NO_MKDOCS_2_WARNING = 1
docs-tools: setup
	$(BIN)/python -m pip install $(QUIETLY) -c requirements.lock -e '.[docs]'
docs: docs-tools
	$(BIN)/mkdocs build --quiet
	@echo "site/index.html"

# The site as version ARGS of the branch gh-pages: ARGS="v0.1.0 latest", for one, with an alias.
publish: export PATH := $(abspath $(BIN)):$(PATH)
publish: docs-tools
	mike deploy --update-aliases $(ARGS)
	mike set-default latest 2> /dev/null || mike set-default $(firstword $(ARGS))

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .jax_cache .pytest_cache .mypy_cache .ruff_cache build dist site
