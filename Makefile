# Every habit is one word. Needs a Python of 3.11 or newer; PYTHON can name another one than python3.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Everything with a pyproject.toml is a distribution of its own.
PLUGINS := $(patsubst %/,%,$(dir $(wildcard plugins/*/pyproject.toml)))
DISTRIBUTIONS := $(patsubst %/,%,$(dir $(wildcard pyproject.toml plugins/*/pyproject.toml examples/*/pyproject.toml)))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-all lint type imports docs bench bench-hsm bench-search format dist clean system-packages scanners

help:  ## show these words
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "kipuka needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing);" \
	       "name another one: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed $(PLUGINS:%=%/pyproject.toml)
	$(BIN)/pip install --quiet --group dev $(PLUGINS:%=--editable %)
	@touch $@

run: $(VENV)/.installed  ## a working EST server on embedded defaults, with a ready-to-paste enrolment
	$(BIN)/kipuka serve --dev

system-packages:
	@tests/interop/install-system-packages

scanners:
	@PYTHON=$(PYTHON) tests/interop/install-scanners

# A file's tests stay together: they share servers.
PYTEST := $(BIN)/pytest -n auto --dist loadfile

test: $(VENV)/.installed-dev system-packages  ## all tests that fit in ten minutes
	$(PYTEST) -m 'not interop and not long'

test-all: $(VENV)/.installed-dev system-packages scanners  ## everything: real clients, scanners, built wheels
	$(PYTEST)

lint: $(VENV)/.installed-dev  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/.installed-dev  ## mypy --strict over core, plugins, tests and examples
	$(BIN)/mypy

imports: $(VENV)/.installed-dev  ## the rooms import one way
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev  ## regenerate the generated pages and pictures, and make the site, under build/docs
	$(BIN)/python -m kipuka_core.cli.reference
	$(BIN)/python docs/pictures.py
	$(BIN)/sphinx-build -q -E -W --keep-going -n -c docs -d build/doctrees . build/docs

bench: $(VENV)/.installed-dev  ## server CPU per request beside the bare cryptography
	$(BIN)/python -m tests.bench.run

bench-hsm: $(VENV)/.installed-dev system-packages  ## a token through kipuka beside the bare token
	$(BIN)/python -m tests.bench.hsm

bench-search: $(VENV)/.installed-dev  ## searches among a million certificates beside a lookup by key
	$(BIN)/python -m tests.bench.search

format: $(VENV)/.installed-dev  ## let ruff write the layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dist: $(VENV)/.installed-dev  ## wheels and sdists of every distribution, under dist/
	@set -e; for each in $(DISTRIBUTIONS); do $(BIN)/python -m build --outdir dist "$$each"; done

clean:  ## forget what was built; the development server's state stays
	rm -rf $(VENV) .venv-scanners dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
