# Each target is one line; the first run of any sets up .venv with the tested versions.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup demo test inner check bench bench-statistics

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv && $(BIN)/python -m pip install -q --upgrade pip && $(BIN)/python -m pip install -q -c constraints.txt torch && $(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]' && touch $@

demo: setup          ## the whole loop on real demonstrations; about 15 minutes on two cores
	$(BIN)/sft demo

test: setup          ## everything, offline
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

inner: setup         ## the inner loop, without torch
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -m "not engine"

check: setup         ## linter, format, types, layers
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/python -m pytest -q -n 0 tests/test_architecture.py

bench: setup         ## the fit beside TRL's and beside arithmetic, then the scorecard, `sft check` and start-up; about half an hour, alone
	$(BIN)/python benchmarks/training.py && $(BIN)/python benchmarks/scoring.py && $(BIN)/python benchmarks/check.py && $(BIN)/python benchmarks/check.py --startup

bench-statistics: setup   ## type I error, coverage and power of every statistic, and the verdicts of planted clones; about 8 minutes on one idle core
	$(BIN)/python benchmarks/simulations.py && $(BIN)/python benchmarks/planted.py
