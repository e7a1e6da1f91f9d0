# `make run` serves the gateway from a bare checkout; `make test` runs every test.
PYTHON ?= python3
BIN := .venv/bin
PORT ?=

.PHONY: setup run test lint audit bench mutation clean

setup: .venv/installed

.venv/installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

.venv/installed-mutation: requirements-mutation.txt .venv/installed-dev
	$(BIN)/python -m pip install --quiet --requirement requirements-mutation.txt
	touch $@

.env: | .venv/installed
	$(BIN)/python -m llmbatch.first_env .env

run: .venv/installed .env
	$(BIN)/python manage.py migrate --verbosity 0
	$(BIN)/python manage.py create_first_admin
	exec $(BIN)/python manage.py serve $(if $(PORT),--port $(PORT))

test: .venv/installed-dev
	$(BIN)/python -m pytest -q -n 4 --dist loadgroup $(ARGS)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive batching chats settings_app llmbatch
	$(BIN)/python manage.py makemigrations --check --dry-run

audit: .venv/installed-dev
	$(BIN)/pip-audit --local --progress-spinner off

bench: .venv/installed-dev
	$(BIN)/python -m bench $(ARGS)

mutation: .venv/installed-mutation
	$(BIN)/python -m bench.mutation $(ARGS)

clean:
	rm -rf .venv staticfiles .pytest_cache .ruff_cache .mypy_cache
