"""The calls about jobs, of both faces, on a service that is a process of its own."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from jobtrail import errors, task
from jobtrail.client import ApiError, AsyncClient, Submission, submission
from jobtrail.jobs.query import read
from jobtrail.records import Job
from jobtrail.status import Status
from support.errands import add, fail, nap, only_one, wait_for
from support.faces import FACES, client_at
from support.until import until
from support.world import Place, services_at

LATER = datetime(2100, 1, 1, tzinfo=UTC)


@task(name="add")
def older_add(a: int) -> int:
    return a


async def test_a_task_at_hand_has_a_typed_result(client: Any) -> None:
    job = await client.submit(add, 2, b=3)
    assert (job.job.status, job.job.args) == (Status.PENDING, {"a": 2, "b": 3})
    assert await job.wait(60) == 5
    assert (await job.read()).status is Status.SUCCEEDED
    named = await client.submit("add", a=20, b=30)
    assert (await named.wait(60), await client.wait(str(named.id))) == (50, 50)


async def test_a_job_is_the_record_that_the_database_has(client: Any, kept_place: Place) -> None:
    options = client.options(
        queue="mail", priority=7, tags=("a", "b"), run_at=LATER, ttl=None, timeout=0.5, max_attempts=3
    )
    job = await options.submit("nap", seconds=1)
    stored = await read(services_at(kept_place), job.id)
    assert isinstance(job.job, Job)
    assert job.job == await client.get(job.id) == replace(stored, seq=0)
    assert (stored.timeout, stored.ttl, stored.tags) == (timedelta(seconds=0.5), None, ["a", "b"])
    assert (await client.list(tags=["a", "b"], queue="mail", task=nap, limit=1)).items[0] == job.job


async def test_a_list_goes_on_at_its_cursor(client: Any) -> None:
    tag = uuid4().hex
    ids = [(await client.options(tags=[tag], run_at=LATER).submit(nap)).id for _ in range(3)]
    first = await client.list(tags=tag, status="pending", limit=2)
    second = await client.list(tags=tag, status="pending", limit=2, cursor=first.next_cursor)
    assert [job.id for job in [*first.items, *second.items]] == ids[::-1]
    assert second.next_cursor is None
    moment = second.items[0].created_at
    assert [job.id for job in (await client.list(tags=tag, created_before=moment)).items] == []


async def test_a_pending_job_is_changed_cancelled_and_retried(client: Any) -> None:
    job = await client.options(run_at=LATER).submit(add, 1, 1)
    changed = await client.amend(job.id, ttl=172_800, tags=("x",), priority=2)
    assert (changed.ttl, changed.tags, changed.priority) == (timedelta(days=2), ["x"], 2)
    cancelled = await client.cancel(job.id, reason="no longer needed")
    assert (cancelled.status, cancelled.cancel_reason) == (Status.CANCELLED, "no longer needed")
    assert (await job.cancel()).status is Status.CANCELLED
    with pytest.raises(errors.JobCancelledError, match="no longer needed"):
        await job.wait(60)
    assert (await client.retry(job.id)).status is Status.PENDING
    assert await job.wait(60) == 2
    moves = await client.transitions(job.id)
    assert [move.to_status for move in moves] == [
        "pending", "pending", "cancelled", "pending", "running", "succeeded",
    ]  # fmt: skip
    assert (moves[2].job_id, moves[2].reason, moves[2].actor) == (job.id, "no longer needed", "anonymous")


async def test_a_failed_job_tells_its_error(client: Any) -> None:
    job = await client.submit(fail, message="as asked")
    with pytest.raises(errors.JobFailedError, match="as asked") as caught:
        await job.wait(60)
    assert (caught.value.job_id, caught.value.type) == (job.id, "ValueError")
    assert (await client.transitions(job.id))[-1].error["message"] == "as asked"


async def test_the_log_of_a_job(client: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    job = await client.submit(wait_for, gate=gate)
    assert await job.wait(60) == "attempt 1"
    lines = await until(lambda: client.log(job.id, attempt=1))
    assert [(line.attempt, line.message) for line in lines] == [(1, "the gate is there")]


async def test_one_waits_no_longer_than_one_said(client: Any) -> None:
    job = await client.options(run_at=LATER).submit(nap)
    for seconds in (0, 0.05, 1.05):
        with pytest.raises(TimeoutError, match=f"within {seconds:g} s; it is pending"):
            await job.wait(seconds)


async def test_a_client_that_is_lent_waits_in_the_service_and_stays_open(url: str, tmp_path: Path) -> None:
    gate, sent = tmp_path / "gate", list[httpx.Request]()

    async def hear(request: httpx.Request) -> None:
        sent.append(request)
        if request.method == "GET":
            gate.touch()

    async with httpx.AsyncClient(event_hooks={"request": [hear]}, headers={"X-From": "here"}) as lent:
        async with AsyncClient(url, http=lent) as client:
            job = await client.submit(wait_for, gate)
            assert await job.wait(60) == "attempt 1"
        assert not lent.is_closed
    assert [request.method for request in sent] == ["POST", "GET"]
    assert (sent[1].headers["Prefer"], sent[1].headers["X-From"]) == ("wait=30", "here")


async def test_several_at_once_or_none(client: Any) -> None:
    jobs = await client.submit_all([submission(add, 1, 2), Submission(task="add", args={"a": 3, "b": 4})])
    assert [await client.wait(job.id, 60) for job in jobs] == [3, 7]
    with pytest.raises(errors.InvalidArgumentsError) as caught:
        await client.submit_all([submission(add, 1, 2), submission("add", a="x", b=1)])
    assert [flaw.pointer for flaw in caught.value.flaws] == ["/jobs/1/args/a"]


async def test_a_unique_key_goes_with_no_other_key(client: Any, url: str) -> None:
    """Where only the service knows the task, the first answer tells of its unique key."""
    name = uuid4().hex
    ids = {(await client.submit(each, name=name)).id for each in (only_one, "only_one", only_one, "only_one")}
    assert len(ids) == 1
    ids = {(await client.options(unique_key=name, run_at=LATER).submit(nap)).id for _ in range(2)}
    assert len(ids) == 1
    for face in FACES:
        async with client_at(face, url) as other:
            with pytest.raises(errors.InvalidInputError, match="this job has a unique key"):
                await other.options(idempotency_key="mine").submit("only_one", name=name)


async def test_a_key_of_the_callers_own(client: Any) -> None:
    key = f'"{uuid4().hex}\\ é'[:-1]
    first, again = [await client.options(idempotency_key=key, run_at=LATER).submit(add, 1, 2) for _ in range(2)]
    assert first.id == again.id
    with pytest.raises(errors.IdempotencyKeyReusedError) as caught:
        await client.options(idempotency_key=key).submit(add, 3, 4)
    assert len(caught.value.flaws) == 1
    with pytest.raises(errors.InvalidInputError, match="/idempotency_key"):
        await client.options(idempotency_key="é").submit(add, 1, 2)


async def test_refusals_are_the_errors_of_python(client: Any) -> None:
    gone = uuid4()
    with pytest.raises(errors.JobNotFoundError, match=str(gone)) as missing:
        await client.get(gone)
    assert missing.value.job_id == gone
    with pytest.raises(errors.JobNotFoundError):
        await client.transitions(gone)
    with pytest.raises(ValueError, match="badly formed"):
        await client.get("../health")
    job = await client.submit(add, 1, 1)
    await job.wait(60)
    with pytest.raises(errors.JobFinishedError, match="cannot be cancelled") as finished:
        await job.cancel()
    assert (finished.value.job_id, finished.value.status) == (job.id, None)
    with pytest.raises(errors.JobConflictError):
        await client.retry(job.id)
    with pytest.raises(errors.UnknownTaskError, match="did you mean add"):
        await client.submit("ad", a=1, b=2)
    with pytest.raises(errors.InvalidArgumentsError) as flawed:
        await client.submit("add", a=1, b="x")
    assert flawed.value.flaws[0].pointer == "/args/b"
    with pytest.raises(errors.InvalidInputError, match="/priority"):
        await client.options(priority=10).submit(add, 1, 2)
    with pytest.raises(errors.InvalidInputError, match=r"\?limit"):
        await client.list(limit=1000)
    with pytest.raises(errors.InvalidInputError, match="/priority"):
        await client.amend(job.id, priority=10)


async def test_arguments_are_checked_before_they_are_sent(client: Any) -> None:
    with pytest.raises(errors.InvalidArgumentsError):
        await client.submit(add, 1, "x")
    with pytest.raises(TypeError, match="go by name"):
        await client.submit("add", 1, 2)
    with pytest.raises(errors.InvalidArgumentsError):  # what the service knows counts
        await client.submit(older_add, 1)


@pytest.mark.parametrize("face", FACES)
async def test_a_wrong_address_is_told(url: str, face: str) -> None:
    with pytest.raises(ValueError, match="is no address of a service"):
        async with client_at(face, "127.0.0.1:8000"):
            pass
    async with client_at(face, url.removesuffix("/v1")) as client:
        with pytest.raises(ApiError) as caught:
            await client.list()
        assert (caught.value.status, caught.value.type, caught.value.title) == (404, "not-found", "Nothing is here")
    async with client_at(face, f"{url.removesuffix('v1')}docs?") as client:
        with pytest.raises(ApiError, match="Not an answer of Jobtrail"):
            await client.list()
