# One command each. `make setup` once, then `make demo`; `make check test` before every commit.
PYTHON ?= python3
TORCH ?= torch==2.13.0
# On a machine without a GPU give the CPU index of PyTorch's install page, or CUDA's gigabytes come along:
#   make setup TORCH_INDEX=<the CPU index named there>
TORCH_INDEX ?=
WORKERS ?= 2

BIN := .venv/bin
STAMP := .venv/.setup-$(shell cksum pyproject.toml | cut -d' ' -f1)
GL_PACKAGES := libosmesa6 libegl1 libgl1 libgl1-mesa-dri libglx-mesa0 libegl-mesa0

# One thread a process: two processes of one thread each are faster and steadier here than one of two.
export OMP_NUM_THREADS ?= 1
ifeq ($(shell uname -s),Linux)
export MUJOCO_GL ?= $(shell ldconfig -p | grep -q libEGL.so.1 && echo egl || echo osmesa)
endif

.DEFAULT_GOAL := help
.PHONY: help setup system browser demo test test-all check fix pages wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: system $(STAMP) ## make .venv, torch first, then mindhand with its tools; skipped while pyproject.toml is unchanged

$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) -V); mindhand needs Python 3.11 or newer: make setup PYTHON=python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@rm -f .venv/.setup-*
	@touch $@

# Only the two libraries MuJoCo opens are asked for; the rest of the list is what they need to draw anything.
system: ## install the system libraries for headless rendering (as root), or print the line that does
	@if [ "$$(uname -s)" != Linux ]; then exit 0; fi; \
	if ldconfig -p | grep -q libEGL.so.1 && ldconfig -p | grep -q libOSMesa.so; then exit 0; fi; \
	line="apt-get install -y --no-install-recommends $(GL_PACKAGES)"; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing system libraries for headless rendering: $(GL_PACKAGES)"; \
	  export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && $$line -qq; \
	else \
	  echo "headless rendering needs EGL or OSMesa; run as root:"; echo "  $$line"; \
	fi

browser: ## install Chromium (as root), in which the reports are tested; without it those tests are skipped
	@if command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  export DEBIAN_FRONTEND=noninteractive; apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	else echo "to test reports in a browser, run as root: apt-get install chromium"; fi

demo: setup ## the whole path from nothing, with a report at the end
	$(BIN)/mindhand demo

test: setup ## the tests, seconds each, on two processes
	$(BIN)/python -m pytest -x -n $(WORKERS) --dist loadfile -m "not slow"

test-all: setup ## the slow ones too
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: setup ## style, types, import directions (sizes and words are tests: tests/house)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/ty check src
	$(BIN)/lint-imports --no-logo

fix: setup ## let ruff repair what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

pages: setup ## write what is generated: docs/catalogue.md, docs/methods/, the tables of docs/chatvla2.md and README
	$(BIN)/python -m mindhand.recipes.pages
	$(BIN)/python -m mindhand.recipes.claims_page
	$(BIN)/python -m tests.house.readme

wheel: setup ## build the wheel and run it from an empty folder
	$(BIN)/python tests/house/wheel.py

clean: ## remove what builds and tests leave; keeps .venv and runs/
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache src/*.egg-info
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
