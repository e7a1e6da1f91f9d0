# `make run` serves the gateway from a bare checkout; `make test` runs every test.
PYTHON ?= python3
BIN := .venv/bin
PORT ?=
PIP := $(BIN)/python -m pip install --disable-pip-version-check --requirement
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
USABLE = $(BIN)/python -c "import pip; $(NEW_ENOUGH)" 2>/dev/null
fail = { echo "$(1)" >&2; exit 1; }

.PHONY: setup run test lint audit bench mutation clean

setup: .venv/installed

# An environment can be half made (without pip), too old, or broken by an update of the system's
# Python. Then it is made again, even if the packages were once installed.
ifneq ($(shell $(USABLE) && echo yes),yes)
.PHONY: .venv/installed
endif

.venv/installed: requirements.txt
	@$(USABLE) || command -v $(PYTHON) >/dev/null || $(call fail,There is no $(PYTHON): install Python 3.11 or newer (Debian: apt install python3 python3-venv) and repeat the command.)
	@$(USABLE) || $(PYTHON) -c "$(NEW_ENOUGH)" || $(call fail,$(PYTHON) is $$($(PYTHON) --version 2>&1) but Python 3.11 or newer is needed: install it and repeat the command with PYTHON=python3.11 (or the name of the newer one).)
	@$(USABLE) || $(PYTHON) -c "import ensurepip" 2>/dev/null || $(call fail,$(PYTHON) cannot make an environment because its module ensurepip is missing: install it (Debian: apt install python3-venv) and repeat the command.)
	@$(USABLE) || { echo "Making the environment .venv/"; rm -rf .venv && $(PYTHON) -m venv .venv; }
	@echo "Installing the packages of $< into .venv/ (the first time takes about a minute)"
	@$(PIP) $< || $(call fail,The packages could not be installed: pip names the cause above. Repeat the command after it is mended.)
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(PIP) $<
	@touch $@

.venv/installed-mutation: requirements-mutation.txt .venv/installed-dev
	$(PIP) $<
	@touch $@

.env: | .venv/installed
	$(BIN)/python -m llmbatch.first_env .env

run: .venv/installed .env
	./gateway migrate --verbosity 0
	./gateway create_first_admin
	exec ./gateway serve $(if $(PORT),--port $(PORT))

test: .venv/installed-dev
	$(BIN)/python -m pytest -q -n 4 --dist loadgroup $(ARGS)

lint: .venv/installed-dev
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m bandit --quiet --configfile pyproject.toml --recursive batching chats settings_app llmbatch
	./gateway makemigrations --check --dry-run

audit: .venv/installed-dev
	$(BIN)/python -m pip_audit --local --progress-spinner off

bench: .venv/installed-dev
	$(BIN)/python -m bench $(ARGS)

mutation: .venv/installed-mutation
	$(BIN)/python -m bench.mutation $(ARGS)

clean:
	rm -rf .venv staticfiles .pytest_cache .ruff_cache .mypy_cache
