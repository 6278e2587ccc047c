# Each target sets up the virtual environment in .venv when it has to.

PYTHON ?= python3
ACCEL ?=
ARGS ?=
CONFIG ?=
SWEEP ?=
EXPERIMENTS ?=
SCALE ?= cpu
WORKDIR ?= runs/$(basename $(notdir $(CONFIG)$(SWEEP)))
DATASET ?=
EXTRAS ?=

ifneq ($(ACCEL),)
ifneq ($(words $(ACCEL))-$(filter-out cuda tpu,$(ACCEL)),1-)
$(error ACCEL is '$(ACCEL)', but expected cuda or tpu (or nothing, for the CPU))
endif
endif

ifneq ($(filter-out tensorboard wandb,$(EXTRAS)),)
$(error EXTRAS is '$(EXTRAS)', but expected some of: tensorboard wandb)
endif

VENV_PYTHON := .venv/bin/python
# Stamps: one for the environment, one more for each extra on top of it.
INSTALLED := .venv/.installed
READY := $(INSTALLED)$(if $(ACCEL),-$(ACCEL)) $(EXTRAS:%=$(INSTALLED)-%)
# One process a core.
PARALLEL := -n logical --maxprocesses=4 --dist=worksteal
TEST_ENV := $(if $(ACCEL),,JAX_PLATFORMS=cpu)

ifneq ($(shell command -v uv 2>/dev/null),)
CREATE := uv venv --quiet --seed --allow-existing --python $(PYTHON) .venv
INSTALL := uv pip install --quiet --python $(VENV_PYTHON) -c constraints.txt
else
CREATE := $(PYTHON) -m venv .venv
# Twice quiet: errors only.
INSTALL := PIP_DISABLE_PIP_VERSION_CHECK=1 $(VENV_PYTHON) -m pip install -qq \
	-c constraints.txt
endif

.DEFAULT_GOAL := help
.PHONY: help venv run train sweep reproduce data bench bench-engine bench-tracking bench-products test test-all test-report lint format types clean need-chromium

help:  ## List the targets
	@echo 'Usage: make TARGET [VARIABLE=value ...]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Variables:'
	@echo '  ARGS=...        more arguments for run, train, sweep, bench and the tests'
	@echo '  ACCEL=cuda|tpu  install and use JAX for this accelerator'
	@echo '  EXTRAS=...      more to install: tensorboard, wandb'
	@echo '  PYTHON=...      interpreter for a new environment (default: python3)'

venv: $(READY)  ## Create or update the environment in .venv

run: $(READY)  ## Train the quickstart experiment
	$(VENV_PYTHON) -m experiments.main --config=configs/quickstart.py \
		--workdir=runs/quickstart $(ARGS)

train: need-CONFIG $(READY)  ## Run an experiment: CONFIG=configs/... [WORKDIR=runs/...]
	$(VENV_PYTHON) -m experiments.main --config=$(CONFIG) \
		--workdir=$(WORKDIR) $(ARGS)

sweep: need-SWEEP $(READY)  ## Run a grid of them: SWEEP=configs/... [WORKDIR=runs/...]
	$(VENV_PYTHON) -m experiments.sweep --sweep=$(SWEEP) \
		--workdir=$(WORKDIR) $(ARGS)

reproduce: $(READY)  ## Reproduce papers: [EXPERIMENTS=PAPER[/NAME] ...] [SCALE=ci|cpu|paper]
	$(VENV_PYTHON) -m experiments.reproduction.main --out=runs/reproduce \
		--scale=$(SCALE) --experiments $(EXPERIMENTS) $(ARGS)

data: need-DATASET $(INSTALLED)-prepare  ## Download and prepare a dataset: DATASET=mnist
	TFDS_DATA_DIR="$${TFDS_DATA_DIR:-$$HOME/tensorflow_datasets}" \
		$(VENV_PYTHON) -m experiments.prepare $(DATASET)

bench: $(READY) $(INSTALLED)-peers  ## Eigensolver and engine beside others, on the CPU
	$(VENV_PYTHON) -m experiments.benchmarks.main --out=runs/benchmarks $(ARGS)
	$(VENV_PYTHON) -m experiments.benchmarks.engine --out=runs/benchmarks
	$(VENV_PYTHON) -m experiments.benchmarks.whole --out=runs/benchmarks

bench-tracking: $(READY)  ## Measure what tracking costs a training step
	$(VENV_PYTHON) -m experiments.benchmarks.tracking --out=runs/tracking $(ARGS)

bench-engine: $(READY)  ## Measure a step of the training engine beside a bare one
	$(VENV_PYTHON) -m experiments.benchmarks.engine --out=runs/engine $(ARGS)

bench-products: $(READY)  ## Measure products by how many at once and how precise
	$(VENV_PYTHON) -m experiments.benchmarks.products --out=runs/products $(ARGS)

test: $(READY)  ## Run the tests, without the slow ones
	$(TEST_ENV) $(VENV_PYTHON) -m pytest $(PARALLEL) -m 'not slow' $(ARGS)

test-all: $(READY)  ## Run all tests
	$(TEST_ENV) $(VENV_PYTHON) -m pytest $(PARALLEL) $(ARGS)

test-report: $(READY) $(INSTALLED)-browser need-chromium  ## Open a report in headless Chromium
	$(TEST_ENV) $(VENV_PYTHON) -m pytest tests/browser $(ARGS)

lint: $(READY)  ## Check the code with ruff
	$(VENV_PYTHON) -m ruff check
	$(VENV_PYTHON) -m ruff format --check

format: $(READY)  ## Format the code and apply ruff's safe fixes
	$(VENV_PYTHON) -m ruff check --fix-only
	$(VENV_PYTHON) -m ruff format

types: $(READY)  ## Check the types with mypy
	$(VENV_PYTHON) -m mypy

clean:  ## Remove caches and build outputs (not .venv, not runs)
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(VENV_PYTHON) -m pip --version >/dev/null 2>&1 || { \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'PYTHON=$(PYTHON) is not Python 3.11 or newer' >&2; exit 1; }; \
		$(CREATE); }
	@echo 'Installing into .venv (about a minute) ...'
	@$(INSTALL) -e '.[dev]'
	@touch $@

$(INSTALLED)-%: $(INSTALLED)
	@echo 'Installing the extra "$*" into .venv ...'
	@$(INSTALL) -e '.[$*]'
	@touch $@

# Debian's package, where this may install it.
need-chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
		command -v google-chrome >/dev/null || { \
		test "$$(id -u)" = 0 && command -v apt-get >/dev/null || { \
			echo 'Install Chromium first; on Debian: apt-get install chromium' >&2; \
			exit 1; }; \
		echo 'Installing Chromium ...'; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

need-%:
	@test -n '$($*)' || { echo 'Set $*, for example: $(EXAMPLE_$*)' >&2; exit 2; }

EXAMPLE_CONFIG := make train CONFIG=configs/quickstart.py
EXAMPLE_SWEEP := make sweep SWEEP=configs/tiny_subspaces/sweep_learning_rate.py
EXAMPLE_DATASET := make data DATASET=mnist
