# make demo | test | bar | check | bench: each creates its environment in .venv on first use.
# FAULT=deploy|sync|auth chooses what is broken in the demo.
# Only Python 3.11 or newer is needed; PYTHON=/path/to/python3 chooses one, VENV=folder another place.

VENV ?= .venv
CANDIDATES = python3.13 python3.12 python3.11 python3 python3.14
USABLE = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in $(CANDIDATES); do \
	$$python -c '$(USABLE)' >/dev/null 2>&1 && { command -v $$python; break; }; done)
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test bar check format bench setup clean

help:
	@echo "make demo    run the server on a school morning with an outage; FAULT=deploy|sync|auth chooses which"
	@echo "make test    run the tests"
	@echo "make bar     the emitter's rows of the reliability bar, with all the trials they name"
	@echo "make check   formatting, lint, types, generated pages, the alert catalogue"
	@echo "make format  format the code and write the generated pages again"
	@echo "make bench   measure, with the peers beside"

demo: $(VENV)/installed-demo
	$(VENV)/bin/tocsin demo --fault $(or $(FAULT),deploy)

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest -n auto

bar: $(VENV)/installed-dev
	BAR_SCALE=$(or $(BAR_SCALE),20) $(VENV)/bin/python -m pytest tests/tocsin -k "test_S"

check: $(VENV)/installed-dev
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m tocsin_server.export.thresholds --check docs/ALERT_THRESHOLDS.md
	$(VENV)/bin/python -m pytest tests/tocsin_server/export/test_events_page.py
	$(VENV)/bin/tocsin check

format: $(VENV)/installed-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/python -m tocsin_server.export.thresholds --write docs/ALERT_THRESHOLDS.md
	$(VENV)/bin/python -m tocsin_server.export.events_page docs/events.md

bench: $(VENV)/installed-bench
	$(VENV)/bin/python -m benchmarks

setup: $(VENV)/installed-dev

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { \
		echo "Tocsin needs Python 3.11 or newer with venv; none was found." >&2; \
		echo "Install it (Debian, Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@"$(PYTHON)" -c '$(USABLE)' || { \
		echo "$(PYTHON) is older than Python 3.11 or lacks venv; name another: make PYTHON=/path/to/python3" >&2; \
		exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/installed-%: pyproject.toml hatch_build.py package-lock.json | $(VENV)/bin/python
	$(PIP) --editable '.[$*]'
	@touch $@
