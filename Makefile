# Every target does its own set-up; nothing is done twice.
# make demo | test | pythons | check | bench | scale | setup | lock | clean
SHELL := /bin/bash
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON_BIN := .venv/bin/python
# Parts of the system, as far as they are in this checkout.
TYPED := $(wildcard ostiary ca certmgr credsvc keyutils clients scripts tests benchmarks)

.PHONY: demo test pythons check bench scale setup lock clean force

demo: setup ## the main job with all parts, on this machine (ARGS=--keep keeps its directory)
	.venv/bin/ostiary demo $(ARGS)

# ARGS='-n0 -k token': some of them, in one process.
test: check ## check, then every test, side by side, with branch coverage
	@scripts/system-packages demo test
	@rm -rf .coverage.d && mkdir -m 1777 .coverage.d # role processes write here as users of their own
	$(PYTHON_BIN) -m pytest -n auto --cov --cov-report=term --durations=20 --durations-min=2 $(ARGS)

pythons: setup ## the unit tests on each tested CPython that this machine has (VERSIONS="3.12 3.13": on those)
	scripts/pythons $(VERSIONS)

check: setup ## formatting, lint, types, direction of imports
	$(PYTHON_BIN) -m ruff format --check --quiet .
	$(PYTHON_BIN) -m ruff check --quiet .
	$(PYTHON_BIN) -m mypy $(TYPED)
	$(PYTHON_BIN) -m pytest -q --no-header -p no:cacheprovider tests/test_architecture.py

# PEERS=DIR: beside the programs in it (benchmarks/peers/README.md).
bench: setup ## rates and latencies, each with its stages
	$(PYTHON_BIN) -m benchmarks $(ARGS)

# COUNT=1000000: ten times as many; FILL=recorder, FILL=service: how (benchmarks/scale.py).
scale: setup ## a CA's store with 10^5 certificates: what its work takes at each tenth
	$(PYTHON_BIN) -m benchmarks.scale

setup: .venv/.installed
	@scripts/system-packages demo

SETUP := requirements.lock pyproject.toml setup.py scripts/setup scripts/install_lock.py
# PYTHON=PATH makes the environment anew where it was made with another one.
OTHER_PYTHON := $(if $(PYTHON),$(filter-out $(file <.venv/.python),$(PYTHON)))

.venv/.installed: $(SETUP) $(if $(OTHER_PYTHON),force)
	scripts/setup

.venvs/%/.installed: $(SETUP)
	PYTHON=$$(PYTHON= scripts/find-python $*) VENV=.venvs/$* scripts/setup

force:

# UPGRADE=1 takes the newest versions that pyproject.toml allows; otherwise only what changed there moves.
lock:
	scripts/lock $(if $(UPGRADE),--upgrade)

clean:
	rm -rf .venv .venvs build dist *.egg-info .coverage.d htmlcov
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
