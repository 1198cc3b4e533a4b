# Everything this project does, one word each. The first use makes .venv and installs into it.
#   make run PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"   takes torch's CPU build
PYTHON ?= python3
PIP_ARGS ?=
PROFILE ?= default
VENV := .venv
PY := $(VENV)/bin/python
# No model hub is needed: nothing is downloaded while the course runs.
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM = false

.PHONY: run test test-all bar bench lab outputs data check-data tiny-model memory-trace cpu-probe gpu-probe lint clean

run: $(VENV)/.installed  ## the five notebooks, headless, into runs/default (PROFILE=name takes params/name)
	$(PY) -m tools.course.run --profile $(PROFILE)

test: $(VENV)/.installed  ## every test that takes seconds, and all five notebooks at smoke size
	$(PY) -m ruff check . && $(PY) -m ruff format --check .
	$(PY) -m pytest -m "not slow and not browser"

test-all: $(VENV)/.installed  ## the long ones too
	$(PY) -m pytest

bar: $(VENV)/.installed  ## three seeds of the default run, measured on test; exit 1 below the bar
	$(PY) -m tools.course.acceptance

bench: $(VENV)/.installed  ## rewards, answering and training against other ways; exit 1 below a target
	$(PY) -W ignore -m tools.benchmarks.rewards && $(PY) -W ignore -m tools.benchmarks.training

lab: $(VENV)/.installed  ## JupyterLab on the notebooks
	$(VENV)/bin/jupyter lab notebooks

outputs: $(VENV)/.installed  ## run the course and commit-ready its executed notebooks into notebooks/
	$(PY) -m tools.course.run --profile default --write-outputs

data: $(VENV)/.installed  ## data/*.json from the norm cards
	$(PY) -m tools.corpus.build

check-data: $(VENV)/.installed  ## counts, rates and every check of the data; exit 1 on a fault
	$(PY) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev,check]"
	$(PY) -m tools.corpus.check

tiny-model: $(VENV)/.installed  ## train the embedded model into data/tiny_model
	$(PY) -m tools.tiny_model.train

memory-trace: $(VENV)/.installed  ## closed form against a trace of the real graph; exit 1 above 3 percent
	$(PY) -W ignore -m tools.benchmarks.memory_trace

cpu-probe gpu-probe: %-probe: $(VENV)/.installed  ## memory and seconds of real training steps, measured; resumable
	$(PY) -W ignore -m tools.benchmarks.memory_probe --device $(subst gpu,cuda,$*)

lint: $(VENV)/.installed
	$(PY) -m ruff check --fix . && $(PY) -m ruff format .

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV): minutes, in silence; torch's CPU build is 0.2 GB, the CUDA build several"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
