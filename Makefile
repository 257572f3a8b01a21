# make setup       install everything into .venv (once)
# make demo        run the whole pipeline on the demo's clips
# make test        check style, workflow and behaviour
# make test-slurm  run the workflow on a Slurm that is installed and started for it; needs root

VENV := .venv
SETUP := $(VENV)/.complete

.PHONY: setup demo test test-slurm
setup: $(SETUP)

$(SETUP): requirements.txt pyproject.toml
	@test -x $(VENV)/bin/python || { \
	    for python in python3.11 python3 python; do \
	        if $$python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then \
	            echo "Making $(VENV) with $$($$python --version)."; exec $$python -m venv $(VENV); \
	        fi; \
	    done; \
	    echo "Python 3.11 is needed: install it so that python3.11 or python3 starts it, then run make again." >&2; \
	    exit 1; }
	@echo "Installing PyTorch."
	@$(VENV)/bin/python -m pip install -q --disable-pip-version-check "$$(grep '^torch==' requirements.txt)"
	@echo "Installing the other $$(grep -c == requirements.txt) packages: a few minutes the first time."
	@$(VENV)/bin/python -m pip install -q --disable-pip-version-check -r requirements.txt
	@$(VENV)/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
	@echo "Done: everything is in $(VENV)."

demo: setup
	@$(VENV)/bin/snakemake
	@echo
	@echo "Open results/report/index.html"

test: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/snakefmt --check Snakefile rules
	$(VENV)/bin/snakemake --lint
	$(VENV)/bin/pytest -n 2 --dist loadfile

test-slurm: setup
	@$(VENV)/bin/python -m tests.slurm
