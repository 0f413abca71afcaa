# make repro: the whole flow on the data of params.yaml (the generated demo, as shipped)
# make test:  the tests          make check: lint, types and tests, as CI runs them
# make run PRESET=presets/X.yaml: another params.yaml in a work tree of its own
# make real:  films to films and fashion, on data that lie beside the checkout

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
SCRATCH := artifacts/scratch

.PHONY: repro test check lint run real

repro: $(READY)
	$(BIN)/python -m stages.repro --scratch $(SCRATCH)

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

run: $(READY)
	$(BIN)/python -m stages.preset --scratch $(SCRATCH) --preset $(PRESET)

real: $(READY)
	$(BIN)/python -m stages.preset --scratch $(SCRATCH) \
		--preset presets/films-fashion.yaml \
		--unpack ../shared/data/unpack.sh

$(READY): requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $(READY)
