# Everything a user or a developer runs. Each command sets up what it needs first:
#   make demo            train a potential on embedded data and run molecular dynamics with it
#   make test            the whole test suite, linters, type checker and the site
#   make docs            the site, into `site/`
# By default they work in `.venv`, made on the first call. In an environment of your own:
#   make demo PYTHON=python
PYTHON ?= .venv/bin/python
# The build that the tests run with; used only where no torch is installed yet. Another one, for CPUs say:
#   make demo TORCH="what pip is to install, with its options"
TORCH ?= torch==2.13.0
OUT ?= demo

.PHONY: demo test check docs environment install install-dev

demo: install
	$(PYTHON) -m tensornet demo --out $(OUT) --overwrite
ifeq ($(PYTHON),.venv/bin/python)
	@echo "The command is in .venv: . .venv/bin/activate"
endif

test: check docs
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n auto

check: install-dev
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) -c "from importlinter.cli import lint_imports_command as main; main()" --no-cache

docs: install-dev
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs --quiet build --strict

install: environment
	$(PYTHON) -m pip install --quiet --editable .

install-dev: environment
	$(PYTHON) -m pip install --quiet --editable ".[dev,generate]"

environment:
ifeq ($(PYTHON),.venv/bin/python)
	@test -x .venv/bin/python || python3 -m venv .venv
endif
	@$(PYTHON) -c "import torch" 2>/dev/null || $(PYTHON) -m pip install --quiet $(TORCH)
