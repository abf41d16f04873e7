# Every target installs what it needs, on a bare machine with Python 3.11 or newer; none needs another.
PYTHON ?= python3
NEWEST_PYTHON ?= python3.14
VENV ?= .venv
OLDEST ?= .venv-oldest
NEWEST ?= .venv-newest
BIN := $(VENV)/bin
PLUGINS := plugins/baselines plugins/expressnet_moe plugins/himoe plugins/mcoenet
PROJECTS := pyproject.toml $(PLUGINS:%=%/pyproject.toml)
EVERYTHING := train,faces,events,fast,signals,presets,video,live,report,cards,docs,demo,examples
# Tests must not compute with more threads than they are given cores, nor ask anything of the network.
QUIET := HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 OMP_NUM_THREADS=1
FAST := -m "not slow and not external"

.PHONY: demo check types test test-slow test-external test-deepspeed test-oldest test-newest lint dist docs benchmark fuzz clean
.DELETE_ON_ERROR:

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.installed: $(PROJECTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[faces,signals,examples]" $(PLUGINS:%=-e %)
	touch $@

$(VENV)/test.installed: $(PROJECTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[$(EVERYTHING),test]" $(PLUGINS:%=-e %)
	touch $@

$(VENV)/docs.installed: $(PROJECTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e ".[docs,train]" $(PLUGINS:%=-e %)
	touch $@

$(VENV)/release.installed: $(PROJECTS) | $(BIN)/python
	$(BIN)/python -m pip install --quiet "build>=1.2" "twine>=6.1"
	touch $@

$(OLDEST)/test.installed: $(PROJECTS) tests/oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --constraint tests/oldest.txt -e ".[$(EVERYTHING),test]" $(PLUGINS:%=-e %)
	touch $@

$(NEWEST)/test.installed: $(PROJECTS)
	$(NEWEST_PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet -e ".[$(EVERYTHING),test]" $(PLUGINS:%=-e %)
	touch $@

demo: $(VENV)/demo.installed
	$(QUIET) $(BIN)/python examples/portraits.py --output_dir out/demo

# While you work: style, and all unit and plugin tests that start no process of their own. Types are slower, and beside it.
check: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(QUIET) $(BIN)/python -m pytest -n auto --no-processes $(FAST) tests/unit plugins

types: $(VENV)/test.installed
	$(BIN)/pyright --pythonpath $(BIN)/python

lint: $(VENV)/test.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

test: $(VENV)/test.installed
	$(QUIET) $(BIN)/python -m pytest -n auto $(FAST)

test-slow: $(VENV)/test.installed
	$(QUIET) $(BIN)/python -m pytest -n auto --dist loadgroup -m "slow"

# transformers' own tests, fetched from its source distribution: the one target that asks the package index for more than packages.
test-external: $(VENV)/test.installed
	$(QUIET) $(BIN)/python -m pytest tests/external --results out/external
	$(BIN)/python tests/external/summary.py out/external

# What the usual suites do without, beside the environment, whose other packages change their ways where they find it.
test-deepspeed: $(VENV)/test.installed
	$(BIN)/python -m pip install --quiet --no-deps --target $(VENV)/deepspeed --upgrade deepspeed hjson msgpack ninja einops py-cpuinfo
	$(QUIET) PYTHONPATH=$(VENV)/deepspeed $(BIN)/python -m pytest -m slow tests/journeys/test_any_architecture.py -k ZeRO

# The other end of the supported range, in an environment of its own (5 GB).
test-oldest: $(OLDEST)/test.installed
	$(QUIET) $(OLDEST)/bin/python -m pytest -n auto $(FAST)
	$(QUIET) $(OLDEST)/bin/python -m pytest tests/external --results out/external

# The newest Python that there is, in an environment of its own (5 GB): make test-newest NEWEST_PYTHON=python3.13
test-newest: $(NEWEST)/test.installed
	$(QUIET) $(NEWEST)/bin/python -m pytest -n auto $(FAST)

# The five distributions, built, checked as an index checks them, and tried in an environment that holds nothing else (5 GB).
dist: $(VENV)/release.installed
	rm -rf dist
	for project in . $(PLUGINS); do $(BIN)/python -m build --outdir dist $$project || exit 1; done
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python tests/installed.py dist out/dist-venv

# Damaged files for every reader, for an hour; FUZZ_SECONDS=600 for less. Ends with 1 where anything but an answer or an error of ours
# came of one.
FUZZ_SECONDS ?= 3600
fuzz: $(VENV)/test.installed
	$(QUIET) $(BIN)/python benchmarks/fuzz.py --seconds $(FUZZ_SECONDS)

benchmark: $(VENV)/test.installed
	$(BIN)/python benchmarks/faces.py

# Strict: a warning, such as a link that leads nowhere, is an error. Building asks nothing of the network.
docs: $(VENV)/docs.installed
	$(QUIET) $(BIN)/python -m sphinx -W --keep-going -q -b html docs out/docs
	@echo "The site: out/docs/index.html"

clean:
	rm -rf $(VENV) $(OLDEST) $(NEWEST) dist out
