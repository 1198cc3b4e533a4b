# Everything this project does, one word each: `make help` lists it. The first use creates .venv and installs into it.
#   make run CPU=1   installs torch's CPU build (0.2 GB instead of several)
PYTHON ?= python3
PIP_ARGS ?=
ifdef CPU
override PIP_ARGS += --extra-index-url https://download.pytorch.org/whl/cpu
endif
PROFILE ?= default
WORKERS ?= 2
# make site: the runs whose checkpoints answer in the pages with a model, where there are such folders.
DEMO_RUN ?= data/demo_runs/default
HACKED_RUN ?= data/demo_runs/hacked
THINKING_RUN ?= data/demo_runs/thinking
# make gpu-check: on what, where to, and the minutes that it may take (none: as long as it needs).
DEVICE ?= cuda
OUT ?= runs/gpu-check-$(DEVICE)
MINUTES ?=
VENV := .venv
PY := $(VENV)/bin/python
# The tests of one file stay on one worker; the longest files start first (tests/conftest.py).
PYTEST := $(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# Without the examples of the modules that load transformers' trainer: they run in make test.
LIGHT := -m "not heavy and not slow and not browser" --ignore grpo_helpers/callbacks.py --ignore grpo_helpers/live.py --ignore grpo_helpers/shared_prefix.py --ignore grpo_helpers/shared_prompts.py --ignore grpo_helpers/training.py
# No model hub is needed: nothing is downloaded while the course runs.
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM = false

.DEFAULT_GOAL := help
.PHONY: help run quick test test-all coverage check bar bench lab slides outputs data check-data site tiny-model thinking-model memory-trace cpu-probe gpu-probe gpu-check lint types spelling clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z][a-z -]*:.*## / { printf "  make %-22s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.installed  ## run the ten notebooks, headless, into runs/default (PROFILE=name uses params/name)
	$(PY) -m tools.course.run --profile $(PROFILE)

quick: $(VENV)/.installed  ## the tests that train nothing; under two minutes
	$(PYTEST) $(LIGHT)

test: check  ## lint, types, and every test that takes seconds, all ten notebooks at smoke size among them
	$(PYTEST) -m "not slow and not browser"

test-all: check  ## the long tests too, and those in a browser
	$(PYTEST)

coverage: $(VENV)/.installed  ## which lines of the package and the tools make quick reaches
	$(PYTEST) $(LIGHT) --cov --cov-report term:skip-covered --cov-report html:runs/coverage

check: $(VENV)/.installed  ## ruff and mypy, without changing anything
	$(PY) -m ruff check . && $(PY) -m ruff format --check .
	$(PY) -m mypy

bar: $(VENV)/.installed  ## train and test three seeds of the default run and of the thinking model; exit 1 if the gain is too small
	$(PY) -m tools.course.acceptance && $(PY) -m tools.course.thinking_bar

bench: $(VENV)/.installed  ## time rewards, answering and training; exit 1 if a target is missed
	$(PY) -W ignore -m tools.benchmarks.rewards && $(PY) -W ignore -m tools.benchmarks.training
	$(PY) -W ignore -m tools.benchmarks.sharing && $(PY) -W ignore -m tools.benchmarks.growth
	$(PY) -W ignore -m tools.benchmarks.step_profile && $(PY) -W ignore -m tools.benchmarks.packed_row

lab: $(VENV)/.installed  ## open JupyterLab on the notebooks
	$(VENV)/bin/jupyter lab notebooks

slides: $(VENV)/.installed  ## slides for six sessions, made of the notebooks' figures, into runs/slides.html
	$(PY) -m tools.course.slides

outputs: $(VENV)/.installed  ## run the course; refresh the committed notebooks and both READMEs' results
	$(PY) -m tools.course.run --profile default --write-outputs

data: $(VENV)/.installed  ## rebuild data/*.json from the norm cards
	$(PY) -m tools.corpus.build

check-data: $(VENV)/.installed  ## run every check of the data; exit 1 on a fault
	$(PY) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev,check]"
	$(PY) -m tools.corpus.check

# Not with --quiet: it hides warnings from the strict mode, too, which would let every broken link pass.
site: $(VENV)/.installed  ## build the course as a site of its own, into site/
	$(PY) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev,site]"
	$(PY) -m tools.site.demo.engine || echo "the site is built without the pages that have a model"
	DEMO_RUN=$(DEMO_RUN) HACKED_RUN=$(HACKED_RUN) THINKING_RUN=$(THINKING_RUN) NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build
	@echo "written: site/index.html (with a search: $(PYTHON) -m http.server --directory site)"

tiny-model: $(VENV)/.installed  ## train the embedded model from nothing into data/tiny_model
	$(PY) -m tools.tiny_model.train

thinking-model: $(VENV)/.installed  ## train the model of notebook 07 from nothing into data/thinking_model
	$(PY) -m tools.word_chain.train

memory-trace: $(VENV)/.installed  ## compare the memory formula with a traced graph; exit 1 above 3 percent
	$(PY) -W ignore -m tools.benchmarks.memory_trace

cpu-probe gpu-probe: %-probe: $(VENV)/.installed  ## measure memory and time of real training steps; resumable
	$(PY) -W ignore -m tools.benchmarks.memory_probe --device $(subst gpu,cuda,$*)

# With the packages that are there, in .venv or the machine's own: nothing is installed.
gpu-check:  ## measure all that only a card can tell, into OUT=folder; resumable; DEVICE=cpu rehearses it
	$(if $(wildcard $(PY)),$(PY),$(PYTHON)) -W ignore -m tools.gpu_check --device $(DEVICE) --out $(OUT) $(if $(MINUTES),--minutes $(MINUTES))

lint: $(VENV)/.installed  ## ruff: fix what it can and format
	$(PY) -m ruff check --fix . && $(PY) -m ruff format .

types: $(VENV)/.installed  ## mypy on the package and the tools
	$(PY) -m mypy

spelling: $(VENV)/.installed  ## codespell on the English of code, pages and notebooks
	$(VENV)/bin/codespell

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing into $(VENV): this takes a few minutes and prints nothing (torch: 0.2 GB for the CPU build, several GB for CUDA)"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	touch $@

clean:  ## remove .venv and the caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .coverage
