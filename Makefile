# What a stranger types. Each makes .venv when it is missing or older than what it is made from.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp
TESTS  ?= tests

.PHONY: env demo test lint bench screenshots clean

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

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder $(TESTS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pictures in README.md, of the board that `make demo` made last; needs Debian's chromium.
screenshots: demo
	$(BIN)/python -m reports.screenshot outputs/demo/leaderboard.html reports/screenshots/leaderboard.png

bench: $(STAMP)
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only --benchmark-group-by=group --benchmark-columns=min,median,max,rounds -o addopts=

clean:
	rm -rf $(VENV) outputs dist build
