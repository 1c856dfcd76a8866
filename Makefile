# Needs Python (3.11 or newer) and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: demo test lint evidence clean
demo: $(READY)
	$(VENV)/bin/accordion demo

test: $(READY)
	$(VENV)/bin/python -m pytest

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# Tables and pictures of docs/evidence.md and docs/comparisons*.md, from experiments/data, and tables of zoo/README.md.
evidence: $(READY)
	$(VENV)/bin/python -m experiments tables
	$(VENV)/bin/python -m experiments figures

clean:
	rm -rf $(VENV) build dist demo-output

# torch goes in first and by name: a plain `torch` fetches several GB of CUDA libraries on some platforms.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet torch==2.13.0
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)
