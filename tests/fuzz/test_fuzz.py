"""A small run of `python -m fuzz`, always the same."""

from pathlib import Path

from fuzz.fuzzing import fuzz
from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.testing import scratch_database

CALLS = 27


async def test_no_call_breaks_its_contract(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with scratch_database(postgres.url) as database:
        figures = await fuzz(tmp_path, database.url, cases=1, seed=1, examples=4, phases=["coverage", "stateful"])
    assert (figures.failures, figures.errors, figures.logged) == ({}, [], []), figures.said
    assert figures.cases > 500
    assert len(figures.accepted) == CALLS
    # they did what they are for, and were not only refused
    assert {
        "POST /v1/jobs",
        "POST /v1/jobs/batch",
        "POST /v1/jobs/bulk",
        "PATCH /v1/jobs/{job_id}",
    } <= set(+figures.accepted)
    assert figures.reached.keys() >= {"pending", "running", "succeeded"}
