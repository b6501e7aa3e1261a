# The commands of the project. Each needs Python 3.11 or later and makes .venv by itself on its first run.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo serve test cover lint bench bench-serve clean

# Clean a sample through the streaming path; say where the result is and what was measured.
demo: $(VENV)/.core
	$(BIN)/riverrun demo -o out

# The page, the API and the live streams, on http://127.0.0.1:8000/. ARGS="--port 9000" goes elsewhere.
serve: $(VENV)/.core
	$(BIN)/riverrun serve $(ARGS)

# In two processes, and what is live at last in one. Tests of the page need Chromium; without it, and without the right
# to install it, they say so and are skipped.
test: $(VENV)/.test
	@command -v chromium > /dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium > /dev/null; } || true
	$(BIN)/python -m pytest -n 2 $(ARGS)

# Which lines the tests do not reach. It slows calls down that are live, and so is no part of `test`.
cover: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python .ci/links.py
	$(BIN)/mypy .lint/riverrun .lint/tests

# The evaluation tables of the README. ARGS="--real 12 --synthetic 12" makes it short. The other half is bench-serve.
bench: $(VENV)/.bench
	$(BIN)/riverrun bench restore $(ARGS)

# What serving costs and holds, in some 40 minutes of a machine that does nothing else: live sessions over both transports,
# steps by rows, the scheduler and 10,000 simulated sessions, lanes and processes, then a soak of MINUTES.
MINUTES ?= 30
bench-serve: $(VENV)/.core
	$(BIN)/riverrun load --sessions 8 --minutes 1 --aim 0
	$(BIN)/riverrun load --sessions 8 --minutes 1 --aim 0 --transport webrtc
	$(BIN)/python -m tests.benchmarks.restoration_step
	$(BIN)/python -m tests.benchmarks.scheduling
	$(BIN)/python -m tests.benchmarks.lanes
	$(BIN)/python -m tests.benchmarks.soak $(MINUTES)

clean:
	rm -rf out build .lint .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is too old or missing, expected 3.11 or later: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "$(PYTHON) has no venv; on Debian: apt install python3-venv" >&2; exit 1; }

# A stamp for each set of extras, renewed when pyproject.toml changes; an environment that is there is kept.
$(VENV)/.core: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[phonemes]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[test]'
	@touch $@ $(VENV)/.core

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[bench]'
	@touch $@ $(VENV)/.core
