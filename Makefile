# Every target sets up what it needs: Python 3.11+ and make are enough.
# `make demo` and `make test` are the two commands of the README.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# Compiled at installation, as pip does: every later start of a process is seconds faster.
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python
FLOOR := .venv-floor
PYTEST := $(BIN)/python -m pytest
# In the order of the folders: what takes longest is not left for the end.
IN_TWO := -n 2 --dist loadfile --no-loadscope-reorder
# No telemetry of MLflow's own from our tests and demos.
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help demo demo-multiclass test test-system test-slow test-resilience test-floor check format benchmarks clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

$(VENV)/bin/uv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, got none on the PATH."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/uv
	$(UV) -e '.[all]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/uv
	$(UV) -e '.[all]' --group dev
	touch $@ $(VENV)/.demo

demo: $(VENV)/.demo ## The main job on real data, end to end
	$(BIN)/python examples/quickstart.py

demo-multiclass: $(VENV)/.demo ## Two versions of a digits classifier, told apart by the gate
	$(BIN)/python examples/digits_two_versions.py

test: check ## Lint, types, all quick tests
	$(PYTEST) $(IN_TWO) -m "not slow and not system"

test-system: $(VENV)/.dev ## Whole systems of real processes: guarded servers, browsers, kills
	$(PYTEST) $(IN_TWO) -m "system and not slow"

test-slow: $(VENV)/.dev ## Simulations and load tests
	$(PYTEST) -m slow

test-resilience: $(VENV)/.dev ## Real processes under load while everything around them fails; needs the right to mount a file system
	$(PYTEST) -s -m "slow or not slow" tests/resilience

test-floor: ## The glue on the oldest supported MLflow, pandas 2 and scikit-learn
	test -x $(FLOOR)/bin/uv || { $(PYTHON) -m venv $(FLOOR) && $(FLOOR)/bin/python -m pip install --quiet uv; }
	$(FLOOR)/bin/uv pip install --quiet --compile-bytecode --python $(FLOOR)/bin/python -e '.[evaluate]' --group floor
	$(FLOOR)/bin/python -m pytest $(IN_TWO) -m "not slow" tests/flavor tests/evaluator tests/gate tests/model

check: $(VENV)/.dev ## Lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: $(VENV)/.dev ## Ratios against the peers, as in docs/benchmarks.md
	for script in numerics online evaluator save serve "serve --live" guard guard_pages review_queue live_reports live_service report_files spark kafka rollups capacity; do \
		set -- $$script; name=$$1; shift; echo; echo $$script; $(BIN)/python tests/benchmarks/$$name.py $$@; done

clean: ## Remove environments, caches and what the demo left
	rm -rf $(VENV) $(FLOOR) build dist demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
