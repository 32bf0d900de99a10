# Every target sets up what it needs in .venv first; what is there already is not installed again.
PYTHON ?= python3
# A CPU build of torch and torchvision (some 5 GB less): make install TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
BIN := .venv/bin
export HF_HUB_DISABLE_TELEMETRY ?= 1

.DEFAULT_GOAL := help
.PHONY: help install classify hub test test-slow check bench clean

help:  ## what the targets do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: .venv/installed  ## the library, editable, with the tools of its tests, into .venv

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hf_fashion needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make install PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install torch torchvision --index-url $(TORCH_INDEX))
	@echo "installing hf_fashion and what it needs (several GB with the CUDA build of torch; see README) ..."
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@# By itself: pip cannot resolve its pins together with all the others in one step.
	$(BIN)/python -m pip install --quiet --editable '.[litert]'
	@touch $@

classify: install  ## fine-tune a classifier on the sample photos: 3 minutes on 2 cores, no Hub
	$(BIN)/accelerate launch --quiet recipes/classify.py

hub: install  ## a Hub of your own on port 8765, in memory, to try pushing and pulling
	$(BIN)/python tests/hub_server.py --port 8765

test: install  ## the tests, without the slow ones
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: install  ## the slow tests
	$(BIN)/python -m pytest -m slow

check: install  ## format, lint, types, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/typos

# Photos to measure with, and a model trained on them: make bench DATA=clothing MODEL=runs/classify-1; without: the sample's.
DATA ?=
MODEL ?=
bench: install  ## peer, ours and ratio of each line, as a table, JSON and a plot in bench/
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/table.py $(if $(DATA),--data $(DATA)) $(if $(MODEL),--model $(MODEL)) --output bench

clean:  ## remove .venv and caches; runs/ stays
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
