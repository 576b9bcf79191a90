# make demo: see it work.  make test: run every test this machine allows.  The rest is for those who build kmsdiag.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q

.PHONY: demo test lint types docs bless bench wheel clean

demo: $(VENV)/.kmsdiag
	@$(BIN)/kmsdiag demo

# Inside a network namespace of its own where the machine allows it (root or not), so that nothing leaves.
test: $(VENV)/.test
	$(BIN)/python tests/netlab.py $(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python docs/generate.py --check

types: $(VENV)/.test $(VENV)/.lint
	$(BIN)/mypy

docs: $(VENV)/.kmsdiag
	$(BIN)/python docs/generate.py

bless: $(VENV)/.test
	$(BIN)/python -m pytest tests/test_checks.py --bless

bench: $(VENV)/.kmsdiag
	$(BIN)/python benchmarks/run.py

# The wheel, in a fresh environment, run from / so that nothing of the checkout can help.
wheel: $(VENV)/.lint
	rm -rf build dist/wheel-test
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv dist/wheel-test
	dist/wheel-test/bin/python -m pip --disable-pip-version-check -q install dist/kmsdiag-*.whl
	wheel=$$(pwd)/dist/wheel-test/bin/kmsdiag && cd / && $$wheel --version && $$wheel checks list \
	  && $$wheel demo --scenario healthy && $$wheel schema bundle > /dev/null && $$wheel explain 0xC004F074 > /dev/null

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "kmsdiag needs Python 3.11 or later; name one with make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'

$(VENV)/.kmsdiag: pyproject.toml | $(VENV)/bin/python
	$(PIP) install -e .
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.kmsdiag
	$(PIP) install --group test
	@touch $@

$(VENV)/.lint: pyproject.toml | $(VENV)/.kmsdiag
	$(PIP) install --group lint
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
