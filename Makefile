# Two commands do everything: `make accept` and `make test`. Both make .venv and install what is missing.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out/report
SITE ?= lbconfig/sites/loopback.toml
ARGS ?=
SEED ?= 0

.PHONY: accept test lint bench plants programs docker-programs images clean

accept: .venv/.installed programs
	$(BIN)/preflight accept --site "$(SITE)" --out "$(OUT)" $(ARGS)

test: .venv/.installed-dev programs lint
	$(BIN)/python -m pytest tests --ignore tests/planted

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.installed-dev programs
	@./install-programs gcc libc6-dev wrk
	$(BIN)/python -m tests.benchmarks --out "$(or $(filter-out out/report,$(OUT)),out/bench.json)"

plants: .venv/.installed-dev programs
	$(BIN)/python -m pytest tests/planted $(ARGS)

programs:
	@./install-programs haproxy dcmtk

docker-programs:
	@./install-programs docker.io iptables debootstrap docker-compose

images: .venv/.installed docker-programs
	$(BIN)/python -m compose.engine start
	compose/images/build

.venv/.made:
	$(PYTHON) -m venv .venv
	touch $@

.venv/.installed: .venv/.made pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv out build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
