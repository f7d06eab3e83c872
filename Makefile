# Every habit is one word. PYTHON can be set to another interpreter (3.11 or newer).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test test-all lint type imports docs bench format dist clean system-packages

help:  ## show these words
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -ts '	'

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --group dev
	@touch $@

run: $(VENV)/.installed  ## a working EST server on embedded defaults, with a ready-to-paste enrolment
	$(BIN)/kipuka serve --dev

system-packages:
	@tests/interop/install-system-packages

test: $(VENV)/.installed-dev system-packages  ## all tests that fit in ten minutes
	$(BIN)/pytest -m 'not interop'

test-all: $(VENV)/.installed-dev system-packages  ## everything: real clients, scanners, built wheels
	$(BIN)/pytest

lint: $(VENV)/.installed-dev  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/.installed-dev  ## mypy --strict over core, plugins, tests and examples
	$(BIN)/mypy

imports: $(VENV)/.installed-dev  ## the rooms import one way
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev  ## regenerate the generated pages
	$(BIN)/python -m kipuka_core.cli.reference

bench: $(VENV)/.installed-dev  ## server CPU per request beside the bare cryptography
	$(BIN)/python -m tests.bench.run

format: $(VENV)/.installed-dev  ## let ruff write the layout
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dist: $(VENV)/.installed-dev  ## wheels and sdists of every distribution, under dist/
	$(BIN)/python -m build --outdir dist .

clean:  ## forget what was built; the development server's state stays
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
