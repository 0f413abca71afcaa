# make repro: the whole flow on the data of params.yaml (the generated demo, as shipped)
# make test:  the tests          make check: lint, types and tests, as CI runs them
# make run PRESET=presets/X.yaml: another params.yaml in a work tree of its own
# make real:  films to films and fashion, on data that lie beside the checkout; with three seeds or four
#   user encoders: PRESET=presets/films-seeds.yaml, films-users.yaml
# make break-even: how many users it takes before end to end pays, on films from beside the checkout;
#   PRESET=params.yaml USERS="500 1000 0" for your own data (0 = all), and if params.yaml lists
#   several, TARGET=..., CONTENT=..., USER_ENCODER=...

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
SCRATCH := artifacts/scratch

.PHONY: repro test check lint run real

repro: $(READY)
	$(BIN)/python -m stages.repro --scratch $(SCRATCH)

# A process a core, up to four, each on one thread; a file's tests stay together.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

run: $(READY)
	$(BIN)/python -m stages.preset --scratch $(SCRATCH) --preset $(PRESET)

real: $(READY)
	$(BIN)/python -m stages.preset --scratch $(SCRATCH) \
		--preset $(or $(PRESET),presets/films-fashion.yaml) \
		--unpack ../shared/data/unpack.sh --data films-fashion

.PHONY: break-even
break-even: $(READY)
	$(BIN)/python -m stages.breakeven --scratch $(SCRATCH) \
		--cards artifacts/cards --evaluated artifacts/evaluate --costs artifacts/costs \
		$(if $(PRESET),--preset $(PRESET),--preset presets/break-even.yaml \
		--unpack ../shared/data/unpack.sh --data films-fashion) \
		$(foreach n,$(or $(USERS),750 1500 3000 0),--users $(n)) \
		$(if $(TARGET),--target $(TARGET)) $(if $(CONTENT),--content $(CONTENT)) \
		$(if $(USER_ENCODER),--user-encoder $(USER_ENCODER)) \
		--out artifacts/breakeven

# Benchmarks, each with its table in benchmarks/README.md; ARGS: options, which --help lists.

# Embedding against the bare encoder; less of it: ARGS="--items 512".
.PHONY: bench-embed
bench-embed: $(READY)
	$(BIN)/python -m benchmarks.embed $(ARGS)

# Search against bare FAISS; less of it: ARGS="--shape 2000x8000x64 --no-growth".
.PHONY: bench-search
bench-search: $(READY)
	$(BIN)/python -m benchmarks.search $(ARGS)

# The user encoder beside other libraries; PEERS: a folder with their virtual environments, SCRIPTS:
# one with their scripts.
.PHONY: bench-sequence
bench-sequence: $(READY)
	$(BIN)/python -m benchmarks.sequence $(if $(PEERS),--peers $(PEERS)) \
		$(if $(SCRIPTS),--scripts $(SCRIPTS)) $(ARGS)

# Quality on MovieLens-1M beside published values, hours a recipe; killed, it goes on where it was.
# One recipe: ARGS="--recipe sasrec-softmax"; how far they are: ARGS=--report.
.PHONY: bench-ml1m
bench-ml1m: $(READY)
	$(BIN)/python -m benchmarks.ml1m $(ARGS)

# A training step beside NineRec's; some of it: ARGS="--part steps --data hm --content text".
.PHONY: bench-end2end
bench-end2end: $(READY)
	$(BIN)/python -m benchmarks.end2end $(ARGS)

# Preparing a domain of 25 M interactions; less of it: ARGS="--interactions 100000 --no-noop".
.PHONY: bench-prepare
bench-prepare: $(READY)
	$(BIN)/python -m benchmarks.prepare $(ARGS)

$(READY): requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $(READY)
