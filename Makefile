# `make run` and `make test` do their own set-up: nothing but Python 3.11 and make is needed.

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin

.PHONY: run test check lint types layers pure bench bench-postgres bench-transfers soak clean

run: $(VENV)/run
	$(BIN)/groundswell demo $(DEMO)

test: $(VENV)/dev
	$(BIN)/python -m pytest $(TESTS)

check: lint types layers pure test

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

layers: $(VENV)/dev
	$(BIN)/lint-imports

# The pure layers have to be covered whole, by their own tests.
PURE = errors model accounts kinds revision consistency
pure: $(VENV)/dev
	$(BIN)/coverage run -m pytest -q $(PURE:%=tests/test_%.py)
	$(BIN)/coverage report

bench: $(VENV)/dev
	$(BIN)/python benchmarks/speed.py

bench-transfers: $(VENV)/dev
	$(BIN)/python benchmarks/transfers.py $(BENCH)

bench-postgres: $(VENV)/dev
	$(BIN)/python benchmarks/postgres.py $(BENCH)

# Ten minutes of combined faults on each topology.
SOAK ?= 600
soak: $(VENV)/dev
	for topology in sqlite postgres postgres-standby; do \
		$(BIN)/groundswell verify --topology $$topology --nodes 3 --faults --seconds $(SOAK) \
			--sessions 4 --report verify-$$topology.html || exit; \
	done

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	touch $@

$(VENV)/dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[demo,testing,dev]'
	touch $@ $(VENV)/run
