# `make demo` and `make test` are all a newcomer needs; both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint setup clean

demo: setup
	$(BIN)/gnnscale compare experiments/demo.toml

test: setup lint
	$(BIN)/python -m pytest -m "not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(VENV)/ready

# Made again when a dependency or the native sources change. build/ is not kept: it names the temporary folder
# of the compiler's environment.
$(VENV)/ready: setup.cfg pyproject.toml setup.py constraints.txt $(shell find native -type f)
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v in ((3, 10), (3, 11)) or sys.exit("gnnscale needs Python 3.10 or 3.11 (DGL has no wheel for %d.%d); try: make PYTHON=python3.11" % v)'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt --editable '.[test]'
	@$(BIN)/python -c 'from gnnscale.ops import backend, backend_reason; print("gnnscale runs on its", backend(), "operations.", backend_reason())'
	touch $@

clean:
	rm -rf $(VENV) build gnnscale/_native*.so gnnscale.egg-info
