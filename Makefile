# make demo | test | test-slow | test-latest | test-lowest | house | speed | pages | docs | clean        (PYTHON=python3.12 chooses the interpreter)
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
WORKERS ?= 2
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test test-slow test-latest test-lowest house speed pages docs quarto install clean

$(VENV)/.installed: settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"Python {v[0]}.{v[1]} found; lt_signals needs 3.10 to 3.13: make PYTHON=python3.12 ...") if not (3, 10) <= v[:2] <= (3, 13) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip install -q --python $(BIN)/python -e '.[dev]'
	@touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/lts_train exp_name=demo

test: install
	OMP_NUM_THREADS=1 $(BIN)/python tests/notebooks.py --workers $(WORKERS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations=25

test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python tests/notebooks.py --workers $(WORKERS) --flags slow
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m 'slow or not slow'

# the package alone, with the newest fastai and fastcore and without nbdev
.venv-latest/.installed: settings.ini setup.py pyproject.toml
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/python -m pip install -q uv
	.venv-latest/bin/uv pip install -q --python .venv-latest/bin/python . 'fastai==2.8.12' 'fastcore==2.2.39'
	@touch $@

test-latest: .venv-latest/.installed
	.venv-latest/bin/uv pip install -q --python .venv-latest/bin/python --no-deps --reinstall .
	cd tests && OMP_NUM_THREADS=1 ../.venv-latest/bin/python smoke.py

# the lowest versions that settings.ini allows, with the notebooks' tests
.venv-lowest/.installed: settings.ini setup.py pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install -q uv
	.venv-lowest/bin/uv pip install -q --python .venv-lowest/bin/python --resolution lowest-direct '.[openset,diffusion]' \
	  'nbdev==2.4.14' 'execnb==0.1.18' 'fastcore==1.14.5' 'ghapi<2' 'pytest>=8' 'pytest-xdist>=3.6' 'psutil>=5.9' 'ipywidgets>=8' 'ipykernel>=6.29'
	@touch $@

test-lowest: .venv-lowest/.installed
	.venv-lowest/bin/uv pip install -q --python .venv-lowest/bin/python --no-deps --reinstall .
	cd tests && OMP_NUM_THREADS=1 ../.venv-lowest/bin/python smoke.py
	OMP_NUM_THREADS=1 .venv-lowest/bin/python tests/notebooks.py --workers $(WORKERS)

# the order of the rooms: imports go down, none in a circle
house: install
	$(BIN)/lint-imports

# ours beside the fairest peers, by processor time; about ten minutes
speed: install
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/pages.py speed

# pages that are made: benchmarks from the rows in benchmarks/*.json, and the reference of fields, registries, commands; trains nothing
pages: install
	$(BIN)/python benchmarks/pages.py

# the site, and whether it answers
docs: quarto install
	$(BIN)/nbdev_docs
	$(BIN)/python tests/check_site.py _docs

quarto:
	@command -v quarto >/dev/null || { echo 'make docs needs Quarto 1.6 or later, which is not installed; nothing was built. Get it from https://quarto.org/docs/get-started'; exit 1; }

clean:
	rm -rf .venv .venv-latest .venv-lowest _docs _proc build dist *.egg-info
