# make setup       install everything into .venv (once)
# make demo        run the whole pipeline on the demo's clips
# make test        check style, workflow and behaviour
# make test-all    the same with the checks that take minutes each
# make test-slurm  run the workflow on a Slurm that is installed and started for it; needs root

VENV := .venv
SETUP := $(VENV)/.complete
PIP = $(VENV)/bin/python -m pip install -q --disable-pip-version-check
FITS := import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
GET_PYTHON := "On Debian 12: apt install python3.11-venv; on Ubuntu 24.04: apt install python3.12-venv; elsewhere make" \
    "$(VENV) yourself, by conda create -p $(VENV) python=3.12 or uv venv --seed -p 3.12 $(VENV). Then run make again."

.PHONY: setup demo test test-all test-slurm
setup: $(SETUP)

$(SETUP): requirements.txt pyproject.toml
	@test -x $(VENV)/bin/python || { \
	    for python in python3.11 python3.12 python3 python; do \
	        if $$python -c '$(FITS)' 2>/dev/null; then \
	            echo "Making $(VENV) with $$($$python --version)."; \
	            $$python -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; exit 0; \
	        fi; \
	    done; \
	    echo "Python 3.11 or 3.12 is needed, as python3.11, python3.12 or python3." $(GET_PYTHON) >&2; exit 1; }
	@$(VENV)/bin/python -c '$(FITS)' || { \
	    echo "$(VENV) has $$($(VENV)/bin/python --version); 3.11 or 3.12 is needed: delete $(VENV)." $(GET_PYTHON) >&2; \
	    exit 1; }
	@echo "Installing PyTorch."
	@$(PIP) "$$(grep '^torch==' requirements.txt)"
	@echo "Installing the other $$(grep -c == requirements.txt) packages: a few minutes the first time."
	@$(PIP) --no-deps -r requirements.txt
	@$(PIP) --no-deps --no-build-isolation -e .
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
	$(VENV)/bin/pytest -n 2 --dist loadfile $(ALSO)

test-all: ALSO = -m ""
test-all: test

test-slurm: setup
	@$(VENV)/bin/python -m tests.slurm
