# `make demo` and `make test` set up all that they need in .venv: Python >= 3.10, pip and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
TORCH ?= 2.13.0
GPU := $(shell nvidia-smi -L 2>/dev/null)

MINUTES ?= 30
JOBS ?= 1000
KILLS ?= 20

.PHONY: check demo test test-host fuzz soak locales lint types clean

demo: $(BIN)/.standalone
	$(BIN)/firstframe animate firstframe/tiny/example.png --prompt "a red heart moves right quickly, still camera" -o demo/demo.mp4

test: $(BIN)/.test
	$(BIN)/python -m pytest
	$(BIN)/python tests/host/run.py

test-host: $(BIN)/.test
	$(BIN)/python tests/host/run.py

fuzz: $(BIN)/.test  # new cases each time; a crash prints how to repeat it
	$(BIN)/python tests/fuzz/campaign.py --minutes $(MINUTES)
	FIRSTFRAME_FUZZ=$(MINUTES) $(BIN)/python tests/host/run.py -k test_fuzz_nodes -s

soak: $(BIN)/.test  # one ComfyUI server after another, for hours
	$(BIN)/python tests/host/run.py --program tests/soak/soak.py --jobs $(JOBS) --kills $(KILLS)

locales: $(BIN)/.test  # locales/en, from what the nodes say of themselves; locales/zh is written by hand
	FIRSTFRAME_FREEZE=1 $(BIN)/python tests/host/run.py -k test_english_is_what_the_nodes_say

check: lint types test  # all that CI runs

lint: $(BIN)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(BIN)/.dev  # the nodes import the package relatively, from a folder whose name need not be one of Python's
	$(BIN)/mypy -p firstframe
	mkdir -p $(VENV)/types && ln -sfn $(CURDIR) $(VENV)/types/pack
	MYPYPATH=$(VENV)/types $(BIN)/mypy -p pack.nodes

$(BIN)/.torch:
	$(PYTHON) -m venv $(VENV)
ifdef GPU
	$(PIP) torch==$(TORCH)
else  # the CPU build: from where pip is told to look, else from PyTorch's own index, which uv knows, else what there is
	$(PIP) torch==$(TORCH)+cpu 2>/dev/null \
	|| { $(PIP) uv && $(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend=cpu torch==$(TORCH); } \
	|| $(PIP) torch==$(TORCH)
endif
	touch $@

$(BIN)/.standalone: $(BIN)/.torch pyproject.toml
	$(PIP) --editable ".[standalone]"
	touch $@

$(BIN)/.test: $(BIN)/.torch pyproject.toml
	$(PIP) --editable ".[test]"
	touch $@

$(BIN)/.dev: $(BIN)/.torch pyproject.toml
	$(PIP) --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .venv-host* demo reports
