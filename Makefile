# `make demo` and `make test` each install what they need, on a bare machine with Python 3.11 or newer; neither needs the other.
PYTHON ?= python3
VENV ?= .venv
OLDEST ?= .venv-oldest
BIN := $(VENV)/bin
PLUGINS := plugins/expressnet_moe plugins/himoe plugins/mcoenet
PROJECTS := pyproject.toml $(PLUGINS:%=%/pyproject.toml)
EVERYTHING := faces,events,signals,video,report,cards,demo
# Tests must not compute with more threads than they are given cores, nor ask anything of the network.
OFFLINE := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1

.PHONY: demo test test-slow test-external test-oldest lint benchmark clean
.DELETE_ON_ERROR:

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.installed: $(PROJECTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[faces,demo]" $(PLUGINS:%=-e %)
	touch $@

$(VENV)/test.installed: $(PROJECTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[$(EVERYTHING),test]" $(PLUGINS:%=-e %)
	touch $@

$(OLDEST)/bin/python:
	$(PYTHON) -m venv $(OLDEST)

$(OLDEST)/test.installed: $(PROJECTS) tests/oldest.txt | $(OLDEST)/bin/python
	$(OLDEST)/bin/python -m pip install --quiet --constraint tests/oldest.txt -e ".[$(EVERYTHING),test]" $(PLUGINS:%=-e %)
	touch $@

demo: $(VENV)/demo.installed
	$(OFFLINE) $(BIN)/python examples/portraits.py --output_dir out/demo

test: $(VENV)/test.installed
	$(OFFLINE) $(BIN)/python -m pytest -m "not slow and not external"

test-slow: $(VENV)/test.installed
	$(OFFLINE) $(BIN)/python -m pytest -m "slow"

# transformers' own tests, fetched from its source distribution: the one target that asks the package index for more than packages.
test-external: $(VENV)/test.installed
	$(OFFLINE) $(BIN)/python -m pytest tests/external --results out/external
	$(BIN)/python tests/external/summary.py out/external

# The other end of the supported range, in an environment of its own (5 GB).
test-oldest: $(OLDEST)/test.installed
	$(OFFLINE) $(OLDEST)/bin/python -m pytest -m "not slow and not external"
	$(OFFLINE) $(OLDEST)/bin/python -m pytest tests/external --results out/external

lint: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

benchmark: $(VENV)/test.installed
	$(BIN)/python benchmarks/faces.py

clean:
	rm -rf $(VENV) $(OLDEST) out
