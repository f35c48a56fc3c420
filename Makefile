# Everything sets itself up: `make demo` and `make test` work on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/installed
	$(RUN)/taskvec demo --out demo

test: $(VENV)/installed-dev
	$(RUN)/python -m pytest

lint: $(VENV)/installed-dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/pyright

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first and by its exact version, so that nothing resolves to another one later. On Linux without a GPU,
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu makes that the small CPU build.
$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(RUN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo
