"""A run of `python -m fuzz`, always the same."""

import json
from pathlib import Path

import pytest

from fuzz.fuzzing import Figures, fuzz
from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.testing import scratch_database

SNAPSHOT = Path(__file__).parents[2] / "api" / "openapi.json"
CALLS = {
    f"{method.upper()} {path}" for path, calls in json.loads(SNAPSHOT.read_text())["paths"].items() for method in calls
}


async def fuzzed(postgres: EmbeddedPostgres, folder: Path, *phases: str, cases: int, examples: int) -> Figures:
    with scratch_database(postgres.url) as database:
        figures = await fuzz(folder, database.url, cases=cases, seed=1, examples=examples, phases=phases)
    assert (figures.failures, figures.errors, figures.logged) == ({}, [], []), figures.said
    assert figures.reached.keys() >= {"pending", "running", "succeeded"}
    return figures


async def test_some_calls_break_no_contract(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    figures = await fuzzed(postgres, tmp_path, "fuzzing", cases=1, examples=2)
    assert figures.cases >= len(CALLS)


@pytest.mark.verify
async def test_no_call_breaks_its_contract(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    figures = await fuzzed(postgres, tmp_path, "coverage", "fuzzing", "stateful", cases=1000, examples=10)
    assert figures.accepted.keys() == CALLS
    # they did what they are for, and were not only refused
    assert {
        "POST /v1/jobs",
        "POST /v1/jobs/batch",
        "POST /v1/jobs/bulk",
        "PATCH /v1/jobs/{job_id}",
    } <= set(+figures.accepted)
