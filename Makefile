PY = .venv/bin/python
# Real browsers and killed processes on a busy machine: a test may fail once, and is then named.
RERUNS = --reruns 1 -r fER

# The suite starts some two hundred Python processes: each reads compiled files, none compiles again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install run test test-all check bench

install: .venv/installed

.venv/installed: requirements.txt requirements-dev.txt
	python3 -m venv .venv
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet -r requirements.txt -r requirements-dev.txt
	touch $@

run: install
	$(PY) server.py

test: install
	$(PY) -m pytest -n 2 --dist worksteal $(RERUNS) -m "not slow and not gpu"

test-all: install
	$(PY) -m pytest -n 2 --dist worksteal $(RERUNS) -m "not gpu"

check: install
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

bench: install
	for file in benchmarks/[a-z]*.py; do $(PY) $$file || exit 1; done
