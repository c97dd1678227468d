# Everything a newcomer or CI needs, with nothing on the machine but Python >= 3.11 and make. `make` lists it.

PYTHON ?= python3
VENV ?= .venv
# Options for the command that a target runs: make serve ARGS="--port 9000".
ARGS ?=
# A folder of data, for `make train`, `make errors` and `make results`.
DATA ?=
# A package index with another build of PyTorch (CPU, CUDA). Remembered until `make clean`.
TORCH_INDEX_URL ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
REMEMBERED := $(VENV)/.torch-index
INDEX := $(strip $(or $(TORCH_INDEX_URL),$(shell cat $(REMEMBERED) 2>/dev/null)))

# Through the environment, so that pip pins what builds the package too: PIP_CONSTRAINT in older versions of pip,
# PIP_BUILD_CONSTRAINT in newer ones.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# A stamp is younger than all it was made from, or its step runs again. DEV includes BASE, never the other way round:
# serving after testing, and testing after serving, installs nothing twice.
BASE := $(VENV)/.base
DEV := $(VENV)/.dev

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help serve test browser lint format bench load clients errors results train clean FORCE

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  ARGS="--port 9000"      options for the command of serve, test, bench, load, clients, errors, results, train'
	@echo '  PYTHON=python3.12       the Python that .venv is made with'
	@echo '  TORCH_INDEX_URL=URL     take PyTorch from this index: a CPU or CUDA build; remembered until make clean'

serve: $(BASE) ## Host the bundled model on http://127.0.0.1:8000 (ARGS: see renorm serve --help)
	@$(BIN)/renorm serve $(ARGS)

# Images of Python forbid it to keep what it compiled; every worker and every command in a test would compile anew.
test: lint browser ## Run all checks: ruff, mypy, pytest with warnings as errors (ARGS: for pytest)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 PYTHONHASHSEED=random $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

browser: ## Install Chromium, in which tests use /docs as a person does: pip does not bring it (Debian, as root)
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit; done; \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium >/dev/null || \
	  echo 'There is no Chromium, with which tests look at /docs: apt install chromium'

lint: $(DEV) ## Check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(DEV) ## Rewrite the code in the project's format, and the synchronous client from the asynchronous one
	$(BIN)/python -m tools.generate_client
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(DEV) ## Measure what adapting costs against not adapting (about 15 minutes; ARGS=--quick: less than one)
	$(BIN)/python -m benchmarks.speed $(ARGS)

load: $(DEV) ## Measure the server under load, beside LitServe and MLServer (about 15 minutes; ARGS=--quick: one)
	$(BIN)/python -m benchmarks.load $(ARGS)

clients: $(DEV) ## Try the clients of KServe and MLServer on a server of its own (ARGS: see python -m benchmarks.clients --help)
	$(BIN)/python -m benchmarks.clients $(ARGS)

errors: $(DEV) ## Errors of source and auto on shifted streams; goes on where it was stopped (DATA=folder, by default the sample; ARGS: see renorm evaluate --help)
	$(BIN)/renorm evaluate --data "$(or $(DATA),benchmarks/sample)" --strategies source,auto --protocol single,clean \
	  --order iid --batch-size 50 --limit 0 --anew --output results/errors $(ARGS)

results: $(DEV) ## Measure every strategy, about an hour on one core, and write docs/results.md (DATA=folder with corrupted CIFAR-10)
	@test -n "$(DATA)" || { echo 'make results needs the folder with corrupted CIFAR-10: make results DATA=path/to/cifar10c'; exit 1; }
	$(BIN)/python -m benchmarks.results --data "$(DATA)" --out results $(ARGS)

train: $(BASE) ## Train the bundled model (DATA=folder with CIFAR-10)
	@test -n "$(DATA)" || { echo 'make train needs the folder with CIFAR-10: make train DATA=path/to/cifar10'; exit 1; }
	$(BIN)/python -m benchmarks.training.train_cifar10 --data "$(DATA)" $(ARGS)

clean: ## Remove .venv, caches and build outputs
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BASE): pyproject.toml constraints.txt $(VENV)/.index-torch
	$(PIP) install $(if $(INDEX),--extra-index-url "$(INDEX)") --editable .
	@touch $@

$(DEV): pyproject.toml constraints.txt $(VENV)/.index-torch $(VENV)/.index-torchvision
	$(PIP) install $(if $(INDEX),--extra-index-url "$(INDEX)") --editable '.[dev]'
	@touch $(BASE) $@

# Where the index changed or the pins did, the package is taken from that index and no other; what it depends on comes
# with the rest. Without an index this installs nothing.
$(VENV)/.index-%: $(REMEMBERED) constraints.txt
	$(if $(INDEX),$(PIP) install --no-deps --force-reinstall --index-url "$(INDEX)" $*)
	@touch $@

ifneq ($(INDEX),$(shell cat $(REMEMBERED) 2>/dev/null))
$(REMEMBERED): FORCE
endif
$(REMEMBERED): | $(VENV)/.made
	@printf '%s' "$(INDEX)" > $@

# An environment that works is kept, whoever made it.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Renorm needs Python 3.11 or newer: make PYTHON=/path/to/python3.11'; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || \
	  { echo 'No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv'; exit 1; }
	@touch $@
