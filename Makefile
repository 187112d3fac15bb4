# Everything runs in .venv, which is made from python3.12 when it is missing and brought up to date when
# pyproject.toml or constraints.txt has changed. All paths are relative: the folder's own name may hold spaces.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.12
BIN := .venv/bin
STAMP := .venv/.gnomon-stamp

# pip: no version nag, no root nag; bytecode is compiled at first import instead of for every file
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_COMPILE := 1
export PIP_ROOT_USER_ACTION := ignore
# nothing that runs from here reports to anyone
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export GX_ANALYTICS_ENABLED := false
# a fresh home needs more than Prefect's default 20 s to start its own server
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS := 120

# one thread per process for the linear algebra, or two test workers on two cores fight over them
test test-slow coverage docs: export OMP_NUM_THREADS := 1
test test-slow coverage docs: export OPENBLAS_NUM_THREADS := 1
# loadfile: what the tests of a file share, such as a Prefect server, is made once
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n 2 --dist loadfile

.PHONY: help demo test test-slow coverage soak check format rivals bench docs constraints clean

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1|\2/p' Makefile | while IFS='|' read -r name text; \
	  do printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: $(STAMP)  ## protect, damage and restore a real dataset, and show what came back
	@$(BIN)/gnomon demo

test: $(STAMP)  ## run the tests, without those marked slow; ARGS="-k name" goes to pytest
	@$(PYTEST) $(PARALLEL) -m "not slow" $(ARGS)

test-slow: $(STAMP)  ## run the tests marked slow
	@$(PYTEST) $(PARALLEL) -m slow $(ARGS)

coverage: $(STAMP)  ## run the tests and count what they reach; report in htmlcov/; ARGS as for test
	@$(PYTEST) $(PARALLEL) -m "not slow" --cov --cov-report=html --cov-report= $(ARGS)
	@echo 'The least covered files, and the total; all of them are in htmlcov/index.html.'
	@$(BIN)/coverage report | sed -n '1,17p;/^TOTAL/p'

soak: $(STAMP)  ## thousands of steps of the storage against its model, some ten minutes
	@GNOMON_MACHINE=long $(PYTEST) $(PARALLEL) tests/storage/test_machine.py $(ARGS)

check: $(STAMP)  ## formatting, lint, types, and which floor imports which
	@$(BIN)/ruff format --check --output-format concise || { echo 'Not formatted: run `make format`.'; exit 1; }
	@$(BIN)/ruff check --output-format concise
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: $(STAMP)  ## format the code and mend what lint can mend
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix --quiet

rivals:  ## make the environment of statsforecast, for benchmarks/skill.py --rivals
	@$(call require_python)
	@$(PYTHON) -m venv --clear .venv-rivals
	@.venv-rivals/bin/python -m pip install -qq -c benchmarks/rivals.txt statsforecast

bench: $(STAMP)  ## run the benchmarks and print their tables
	@$(BIN)/python -m benchmarks $(ARGS)

docs: $(STAMP)  ## build the documentation into site/, and run every code block of it
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'The documentation is in site/index.html.'
	@$(PYTEST) tests/docs $(ARGS)

constraints:  ## resolve the newest allowed set into constraints.txt
	@$(call require_python)
	@echo 'Resolving the newest allowed set in a fresh environment; this takes about two minutes.'
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	  $(PYTHON) -m venv "$$fresh/venv"; \
	  "$$fresh/venv/bin/pip" install -qq -e '.[dev]'; \
	  { grep '^#' constraints.txt; "$$fresh/venv/bin/pip" freeze --exclude-editable \
	    | grep -E '^[A-Za-z0-9._-]+==[^ ]+$$' | LC_ALL=C sort -f; } > "$$fresh/constraints.txt"; \
	  cp "$$fresh/constraints.txt" constraints.txt
	@echo 'Wrote constraints.txt; run `make check test` before you keep it.'

clean:  ## remove the environment, caches, builds and the demo's output
	@rm -rf .venv .venv-rivals build dist site demo-output .coverage .coverage.* htmlcov
	@rm -rf .grimp_cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache gnomon.egg-info
	@find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

define require_python
$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' 2>/dev/null || { \
  echo 'No Python 3.12 as "$(PYTHON)": install it with its venv module, or name one: make PYTHON=/path/to/python3.12' >&2; exit 1; }
endef

# An environment knows the folder it was made in. In a tree that was moved or copied it is made anew,
# or its commands would run the code of the old place.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

$(STAMP): pyproject.toml constraints.txt
	@if [ -f $(STAMP) ] && [ "$$(cat $(STAMP))" != "$$(pwd -P)" ]; then rm -rf .venv; fi; \
	  usable=no; if $(BIN)/python -m pip --version >/dev/null 2>&1; then usable=yes; fi; \
	  [ $$usable = yes ] || $(call require_python); \
	  echo 'Installing Gnomon and what it needs into .venv; from nothing this takes about two minutes.'; \
	  [ $$usable = yes ] || $(PYTHON) -m venv --clear .venv; \
	  $(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev,demo]'; \
	  $(BIN)/python -m gnomon.tasks.forecasting; \
	  pwd -P > $(STAMP)
