# make demo | make test: all that a fresh machine with Python 3.11+ (pip, venv), make and git needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup demo test test-slow test-matrix test-gpu slurm-test lint types format tables clean

setup: $(VENV)/.ready

# Rebuilt only if the pins or the dependencies change. Modules are byte-compiled here: interpreters that are told not to
# write bytecode would otherwise compile Lightning and torch anew in every process.
$(VENV)/.ready: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 setup")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --compile --constraint requirements.lock --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/python train.py -m kd=none,hybrid

test: setup
	$(BIN)/python -m pytest -n auto --dist worksteal  # else one worker waits for the long tests of another

test-slow: setup
	$(BIN)/python -m pytest -m slow

test-matrix: setup
	$(BIN)/python -m pytest -m matrix

test-gpu: setup
	$(BIN)/python -m pytest -m gpu

# Installs Slurm by apt-get where it is missing; as root, or where sudo asks for no password.
slurm-test: setup
	bash tests/slurm/run.sh $(BIN)/python

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tables: setup
	$(BIN)/python -m tests.tables

clean:
	rm -rf $(VENV)
