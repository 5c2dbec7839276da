# Two commands do everything: `make accept` and `make test`. Both make .venv and install what is missing.
PYTHON ?= python3
BIN := .venv/bin
OUT ?= out/report
SITE ?=
ARGS ?=
SEED ?= 0

# In an unpacked bundle the wheels lie beside: no index is asked, whatever this machine's own pip is set to.
ifneq ($(wildcard offline/wheelhouse),)
PIP_INSTALL := PIP_CONFIG_FILE=/dev/null $(BIN)/python -m pip --isolated install --no-index --find-links offline/wheelhouse
else
PIP_INSTALL := $(BIN)/python -m pip install
endif

.PHONY: accept test test-containers lint bench plants offline programs docker-programs images clean

accept: .venv/.installed $(if $(findstring compose,$(ARGS)),docker-programs,programs)
	$(BIN)/preflight accept $(if $(SITE),--site "$(SITE)") --out "$(OUT)" $(ARGS)

test: .venv/.installed-dev programs lint
	$(BIN)/python -m pytest tests --ignore tests/planted --ignore tests/offline

test-containers: .venv/.installed-dev programs images
	$(BIN)/python -m pytest tests/compose -m docker

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

offline: .venv/.installed-dev programs images
	$(BIN)/python -m pytest tests/offline $(ARGS)

docker-programs:
	@./install-programs docker.io iptables debootstrap docker-compose

images: .venv/.installed docker-programs
	$(BIN)/python -m compose.engine start
	compose/images/build

.venv/.made:
	$(PYTHON) -m venv .venv
	touch $@

.venv/.installed: .venv/.made pyproject.toml constraints.txt
	$(PIP_INSTALL) --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(PIP_INSTALL) --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv out build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
