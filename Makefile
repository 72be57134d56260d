# What a stranger types. Each makes .venv when it is missing or older than what it is made from.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp
TESTS  ?= tests

# Of the showcase: small or full, how many runs at a time, and the folder with the files of its data sets.
SIZE   ?= small
JOBS   ?= 2
DATA   ?= $(or $(CELLFM_BENCH_DATA),../shared/data)

.PHONY: env demo showcase test lint bench screenshots clean

env: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "cellfm-bench needs Python 3.11, 3.12 or 3.13; %s is %d.%d. Say which to use: make env PYTHON=python3.12" % (sys.executable, *v))'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "making $(VENV): about a minute, and torch's download where it is not on this machine"
	@$(BIN)/python -m pip install -qq --upgrade pip
	@$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/cellfm-bench run -m experiment=demo
	@$(BIN)/cellfm-bench report results=outputs/demo/results

# Killed, the same command goes on where it was.
showcase: $(STAMP)
	@$(BIN)/cellfm-bench showcase size=$(SIZE) jobs=$(JOBS) data=$(DATA)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder $(TESTS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pictures in README.md, of the board that `make showcase` made; needs Debian's chromium.
screenshots: $(STAMP)
	@$(BIN)/python -m reports.screenshot reports/showcase/index.html reports/screenshots

bench: $(STAMP)
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only --benchmark-group-by=group --benchmark-columns=min,median,max,rounds -o addopts=

clean:
	rm -rf $(VENV) outputs dist build
