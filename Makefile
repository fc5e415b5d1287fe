# DeepNets-1M toolkit. `make help` lists what there is; every target makes the virtual environment it needs.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

SPLITS      ?= all
SIZE        ?= 1000000
SEARCH_SIZE ?= 100000
OUT         ?= data
WORKERS     ?= $(JOBS)
BACKEND     ?=
ADDRESS     ?=
SEED        ?= 0
OVERWRITE   ?=

PRESET     ?= ghn2
TASK       ?= classification
IMAGES     ?= digits
IMAGE_ROOT ?=
TEXTS      ?= python
MINUTES    ?= $(if $(STEPS)$(EPOCHS),,$(if $(filter digits python,$(TRAIN_ON)),10))
STEPS      ?=
EPOCHS     ?=
DATA       ?= $(if $(wildcard data/deepnets1m_train.h5),data,data/small)
NETWORKS   ?= $(if $(filter text,$(TASK)),family:gpt2-widths,train)
RUN        ?=
TRAIN_ON    = $(if $(filter text,$(TASK)),$(TEXTS),$(IMAGES))
PROCESSES  ?= 1
ARGS       ?=
VERSIONS   ?= oldest newest
KEEP       ?=

comma      := ,
PREDICTORS ?=
LIMIT      ?= 6,wide=1
RESULTS    ?= results
BENCH      := $(if $(filter all,$(SPLITS)),test wide deep dense bnfree predefined,$(SPLITS))

.DEFAULT_GOAL := help
.PHONY: help dataset bench train test test-all test-floors check perf docs clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

ifneq ($(filter-out 0 1 no yes false true,$(OVERWRITE)),)
  $(error OVERWRITE: expected 1 or 0, got $(OVERWRITE))
endif

dataset: $(VENV)/core  ## build the corpus [SPLITS=all SIZE=1000000 SEARCH_SIZE=100000 OUT=data WORKERS= BACKEND=loky ADDRESS= SEED=0 OVERWRITE=1]
	@$(if $(filter dask ray,$(BACKEND)),$(MAKE) --no-print-directory $(VENV)/cluster,:)
	@$(BIN)/python -m generator build --splits '$(SPLITS)' --train-size '$(SIZE)' --search-size '$(SEARCH_SIZE)' \
	  --out '$(OUT)' --seed '$(SEED)' --backend '$(or $(BACKEND),loky)' \
	  $(if $(WORKERS),--workers '$(WORKERS)') $(if $(ADDRESS),--address '$(ADDRESS)') $(if $(filter 1 yes true,$(OVERWRITE)),--overwrite)

bench: $(VENV)/bench  ## compare predictors [IMAGES=digits IMAGE_ROOT= PREDICTORS= SPLITS= LIMIT=6,wide=1 (0: all networks) RESULTS=results WORKERS= BACKEND=threading ADDRESS= ARGS=]
	@$(if $(filter dask ray,$(BACKEND)),$(MAKE) --no-print-directory $(VENV)/cluster,:)
	@for split in $(filter val test wide deep dense bnfree search train,$(subst $(comma), ,$(BENCH))); do \
	  test -e "$(OUT)/deepnets1m_$$split.h5" || \
	  $(BIN)/python -m generator build --splits "$$split" --out '$(OUT)' --quiet || exit 1; done
	@$(BIN)/python -m benchmark run $(if $(PREDICTORS),--predictors $(PREDICTORS)) --splits $(BENCH) --images '$(IMAGES)' \
	  $(if $(IMAGE_ROOT),--image-root '$(IMAGE_ROOT)') --limit '$(LIMIT)' --data '$(OUT)' --out '$(RESULTS)' \
	  $(if $(WORKERS),--workers '$(WORKERS)') $(if $(BACKEND),--backend '$(BACKEND)') $(if $(ADDRESS),--address '$(ADDRESS)') $(ARGS)

train: $(VENV)/torch  ## train a hypernetwork [PRESET=ghn2 TASK=classification (or text, MODULE:ATTRIBUTE) IMAGES=digits IMAGE_ROOT= TEXTS=python NETWORKS=train (or family:NAME) MINUTES= (10 for digits and python) STEPS= EPOCHS= DATA= (data, or data/small if it has no train) RUN= (default: runs/PRESET-IMAGES) PROCESSES=1 ARGS=]
	@$(if $(filter imagenet folder:% torchvision:%,$(IMAGES)),$(MAKE) --no-print-directory $(VENV)/bench,:)
	@$(if $(filter text,$(TASK)),$(MAKE) --no-print-directory $(VENV)/language,:)
	@$(if $(filter family:%,$(NETWORKS)),:,test -e '$(DATA)/deepnets1m_train.h5') || $(MAKE) --no-print-directory dataset SPLITS=train SIZE=100000 OUT='$(DATA)'
	@$(BIN)/python -m $(if $(filter-out 1,$(PROCESSES)),torch.distributed.run --standalone --nproc-per-node '$(PROCESSES)' -m )ghn_model train \
	  --preset '$(PRESET)' $(if $(filter-out classification,$(TASK)),--task '$(TASK)') $(if $(filter text,$(TASK)),--texts '$(TEXTS)',--images '$(IMAGES)') --networks '$(NETWORKS)' --data '$(DATA)' $(if $(RUN),--out '$(RUN)') $(if $(IMAGE_ROOT),--image-root '$(IMAGE_ROOT)') $(if $(MINUTES),--minutes '$(MINUTES)') \
	  $(if $(STEPS),--steps '$(STEPS)') $(if $(EPOCHS),--epochs '$(EPOCHS)') $(ARGS)

test: $(VENV)/development  ## run the fast tests and the examples of all docstrings
	@$(BIN)/python -m pytest -n auto -m 'not slow' --doctest-modules deepnets generator ghn_model benchmark tests $(PYTEST)

test-all: $(VENV)/development  ## run all tests
	@$(BIN)/python -m pytest -n auto --doctest-modules deepnets generator ghn_model benchmark tests $(PYTEST)

test-floors:  ## run the fast tests with the oldest and with the newest allowed versions of all packages [VERSIONS="oldest newest" KEEP="torch torchvision" (as in constraints.txt)]
	@set -e; for versions in $(VERSIONS); do venv=$(VENV)-$$versions; echo "$$versions versions, in $$venv"; \
	  $(PYTHON) -m venv $$venv; \
	  if [ $$versions = oldest ]; then \
	    $$venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || $$venv/bin/python -m pip install --quiet tomli; \
	    $$venv/bin/python -m tests.floors $(KEEP) > $$venv/constraints.txt; else : > $$venv/constraints.txt; fi; \
	  $$venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint $$venv/constraints.txt --editable '.[development]'; \
	  $$venv/bin/python -m pytest -n auto -m 'not slow' tests $(PYTEST); done

check: $(VENV)/development  ## lint, formatting, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

perf: $(VENV)/development  ## measure speed, size and memory on this machine [SIZE=1000000]
	@$(BIN)/python -m tests.perf --size '$(SIZE)'

docs: $(VENV)/docs  ## build the documentation site into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo 'site/index.html; with search: $(BIN)/python -m http.server --directory site'

clean:  ## remove the virtual environment and caches; data stays
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-newest site .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp is a set of installed packages, pinned by constraints.txt.
.DELETE_ON_ERROR:

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "error: Python 3.10 or later is needed, $(PYTHON) is " + sys.version.split()[0])'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/torch: $(VENV)/core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[torch]'
	@touch $@

$(VENV)/bench: $(VENV)/core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[vision,plotting]'
	@touch $@

$(VENV)/language: $(VENV)/core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[language]'
	@touch $@

$(VENV)/cluster: $(VENV)/core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cluster]'
	@touch $@

$(VENV)/docs: $(VENV)/core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

$(VENV)/development: $(VENV)/core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[development]'
	@touch $@
