# Two commands do everything on a machine that has Python 3.11 and make:
#   make run     environment, install, then the stable: supervisor, paper gateway, sample bots, live table
#   make test    environment, install, then the whole test suite
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTEST_ARGS ?=
BENCH_ARGS ?=
MINUTES ?= 60
SOAK_REPORT ?=

.DEFAULT_GOAL := help
.PHONY: help env run test check format docs bench soak soak-orders lock clean

help:            ## show the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

env: $(STAMP)    ## make the environment in .venv, pinned by requirements.lock

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "stablehand needs $(PYTHON) on the PATH (or: make PYTHON=/path/to/python3.11)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: env         ## start the stable in the foreground with the shipped supervisor.toml
	@$(BIN)/stablehand up

test: env        ## run the whole test suite
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

check: env       ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: env      ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: env        ## write the generated pages again (lifecycle, configuration, CLI)
	$(BIN)/python -m docs.generate

bench: env       ## measure, beside peers and limits in the same run
	$(BIN)/python -m bench $(BENCH_ARGS)

soak: env        ## random faults for MINUTES, then the fault cases at their full sizes and the fuzzer; SOAK_REPORT=FILE
	STABLEHAND_SCALE=soak STABLEHAND_SOAK_MINUTES=$(MINUTES) STABLEHAND_SOAK_REPORT=$(SOAK_REPORT) \
	  $(BIN)/python -m pytest tests/soak tests/acceptance tests/faults tests/fuzz -s --timeout=0 $(PYTEST_ARGS)

soak-orders: env ## 1,000 rounds of faults on the order path, and docs/soak-orders.md with what they came to
	STABLEHAND_SCALE=soak STABLEHAND_SOAK_MINUTES=$(MINUTES) $(BIN)/python -m pytest tests/faults/test_orders_random.py -s --timeout=0 --write-table docs/soak-orders.md

lock:            ## resolve pyproject.toml again into requirements.lock (needs uv)
	uv pip compile --universal --generate-hashes --extra dev --no-emit-index-url --no-annotate --no-header \
	  -p 3.11 pyproject.toml -o requirements.lock

clean:           ## remove the environment and caches (never the data)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
