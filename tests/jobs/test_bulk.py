"""Many jobs at once: what is counted, what is moved, what is left alone, and what the history says of each."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from jobtrail.errors import InvalidInputError
from jobtrail.jobs.bulk import Action, bulk
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.query import Filter
from jobtrail.jobs.retry import retry
from jobtrail.jobs.services import Services
from jobtrail.status import Status
from support.bulk import NOOP, counts, failed, statuses
from support.rows import in_status, moved, trail
from support.world import Place

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("action", "status", "reason"),
    [
        (Action.RETRY, Status.FAILED, None),
        (Action.RETRY, Status.CANCELLED, None),
        (Action.CANCEL, Status.PENDING, "wrong file"),
        (Action.CANCEL, Status.PENDING, None),
        (Action.CANCEL, Status.RUNNING, "wrong file"),
    ],
)
async def test_a_bulk_move_is_many_single_ones(
    services: Services, place: Place, action: Action, status: Status, reason: str | None
) -> None:
    single, *many = [await in_status(place, status, tags=["a"]) for _ in range(3)]
    if action is Action.RETRY:
        await retry(services, single, by="ann")
    else:
        await cancel(services, single, by="ann", reason=reason)
    assert counts(await bulk(services, action, NOOP, by="ann", reason=reason)) == (2, 2, 0)
    await assert_alike(place, single, many)
    query = "SELECT actor, reason FROM jobtrail.transitions WHERE job_id = $1 ORDER BY seq DESC LIMIT 1"
    if action is Action.CANCEL and status is Status.PENDING:
        assert await place.rows(query, many[0]) == [{"actor": "ann", "reason": reason or "cancelled"}]


async def assert_alike(place: Place, single: UUID, many: Sequence[UUID]) -> None:
    """Rows and histories, but for ids; of times only whether there is one."""
    kept = """to_jsonb(x) - ARRAY['id', 'job_id', 'trace_id', 'xact', 'node_id']
        || (SELECT jsonb_object_agg(name, value IS NOT NULL) FROM jsonb_each_text(to_jsonb(x)) e(name, value)
             WHERE name LIKE '%\\_at' OR name IN ('at', 'lease_until'))"""
    row = f"SELECT {kept} AS found FROM jobtrail.jobs x WHERE id = $1"
    moves = f"SELECT {kept} AS found FROM jobtrail.transitions x WHERE job_id = $1 ORDER BY seq"
    for query in (row, moves):
        expected = await place.rows(query, single)
        assert expected
        assert [await place.rows(query, each) for each in many] == [expected] * len(many)


@pytest.mark.usefixtures("pairs")
async def test_batches_are_told_and_are_commits_of_their_own_and_the_most_are_the_oldest(
    services: Services, place: Place
) -> None:
    jobs = await failed(place, 5)
    told: list[tuple[int, int]] = []
    done = await bulk(services, Action.RETRY, NOOP, by="ann", most=3, on_batch=lambda *each: told.append(each))
    assert (counts(done), told) == ((5, 3, 2), [(2, 3), (3, 3)])
    found = await statuses(place)
    assert [found[job] for job in jobs] == ["pending"] * 3 + ["failed"] * 2
    moves = await place.rows("SELECT count(*) AS jobs FROM jobtrail.transitions WHERE actor = 'ann' GROUP BY xact")
    assert sorted(move["jobs"] for move in moves) == [1, 2]
    assert counts(await bulk(services, Action.RETRY, NOOP, by="ann", most=3)) == (2, 2, 0)


@pytest.mark.parametrize("action", Action)
async def test_a_dry_run_counts_and_changes_nothing(services: Services, place: Place, action: Action) -> None:
    for status in Status:
        await in_status(place, status)
    before = await place.rows("SELECT * FROM jobtrail.jobs ORDER BY id")
    done = await bulk(services, action, NOOP, by="ann", dry_run=True)
    assert counts(done) == (2, 0, 2)
    assert await place.rows("SELECT * FROM jobtrail.jobs ORDER BY id") == before


THEN = datetime.fromisoformat("2020-01-31T12:00:00Z")


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [(Action.RETRY, Status.FAILED, "pending"), (Action.CANCEL, Status.PENDING, "cancelled")],
)
@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"queue": "mail"}, {"queue": ("mail", "post")}),
        ({"task": "other"}, {"task": ("other",)}),
        ({"tags": ["a", "b"]}, {"tags": ("b", "a")}),
        ({"trace_id": TRACE}, {"trace_id": (TRACE,)}),
        ({"created_at": THEN}, {"created_after": THEN - timedelta(1), "created_before": THEN + timedelta(1)}),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else None,
)
async def test_a_filter_chooses_as_in_the_list(
    services: Services,
    place: Place,
    action: Action,
    before: Status,
    after: str,
    columns: dict[str, Any],
    wanted: dict[str, Any],
) -> None:
    untouched = {await in_status(place, status): status for status in Status}
    chosen = await in_status(place, before, **columns)
    done = await bulk(services, action, Filter(**wanted), by="ann")
    assert counts(done) == (1, 1, 0)
    assert await statuses(place) == untouched | {chosen: after}


async def test_a_running_job_is_asked_once(services: Services, place: Place) -> None:
    asked, running = [await in_status(place, Status.RUNNING) for _ in range(2)]
    await cancel(services, asked, by="bob", reason="first")
    assert counts(await bulk(services, Action.CANCEL, NOOP, by="ann", reason="second")) == (1, 1, 0)
    assert counts(await bulk(services, Action.CANCEL, NOOP, by="ann", reason="third")) == (0, 0, 0)
    rows = await place.rows("SELECT id, cancel_requested_by, cancel_reason FROM jobtrail.jobs")
    assert {row["id"]: (row["cancel_requested_by"], row["cancel_reason"]) for row in rows} == {
        asked: ("bob", "first"), running: ("ann", "second")
    }  # fmt: skip
    assert len(await trail(place, running)) == 2


async def test_what_was_counted_is_what_is_moved(services: Services, place: Place) -> None:
    counted = await failed(place, 2)
    running = await in_status(place, Status.RUNNING)
    dry = await bulk(services, Action.RETRY, NOOP, by="ann", dry_run=True)
    await failed(place, 1)
    await moved(place, running, Status.FAILED)
    assert counts(await bulk(services, Action.RETRY, NOOP, by="ann", as_of=dry.as_of)) == (2, 2, 0)
    assert {job for job, status in (await statuses(place)).items() if status == "pending"} == set(counted)


@pytest.mark.parametrize("action", Action)
async def test_what_cannot_be_meant_is_refused(services: Services, place: Place, action: Action) -> None:
    for status in Status:
        await in_status(place, status)
    before = await statuses(place)
    for empty in (Filter(), Filter([], [], [], [], [])):
        with pytest.raises(InvalidInputError, match="an empty filter would mean every job"):
            await bulk(services, action, empty, by="ann")
    fitting = "failed or cancelled" if action is Action.RETRY else "pending or running"
    for status in {*Status} - {*action.statuses}:
        with pytest.raises(InvalidInputError) as error:
            await bulk(services, action, Filter(status=(*action.statuses, status)), by="ann")
        (flaw,) = error.value.flaws
        assert flaw.pointer == "/status/2"
        assert flaw.detail == f"a {action} never fits a job that is {status}, only one that is {fitting}"
    with pytest.raises(InvalidInputError, match="/reason: at most 1000 characters"):
        await bulk(services, action, Filter(task=("noop",)), by="ann", reason="x" * 1001)
    assert await statuses(place) == before
