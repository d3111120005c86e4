"""Who may only submit sees and cancels what it submitted; of all else it cannot even tell that it is there."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from starlette.requests import Request

from jobtrail.api.routes import install
from jobtrail.callers import Caller, Scope
from jobtrail.errors import JobNotFoundError
from jobtrail.jobs.cancel import cancel
from jobtrail.status import Status
from support import rows
from support.service import NoAuth, Service
from support.world import Place, services_at, submitted


class Told(NoAuth):
    """Callers say who they are and what they may."""

    def caller(self, request: Request) -> Caller:
        scopes: list[Scope] = request.headers["scopes"].split()  # type: ignore[assignment]
        return Caller(request.headers["name"], frozenset(scopes))


@pytest.fixture(scope="module")
async def kept_service(kept_place: Place) -> AsyncIterator[Service]:
    made = Service(services_at(kept_place), access=Told())
    install(made.app, made.context)
    async with made.client:
        yield made


ANN = {"name": "ann", "scopes": "submit"}
BOB = {"name": "bob", "scopes": "submit"}
READER = {"name": "bob", "scopes": "submit read"}
OPERATOR = {"name": "bob", "scopes": "operate"}

CALLS = [
    ("GET", ""), ("GET", "/transitions"), ("GET", "/log"), ("GET", "/log?attempt=1"), ("DELETE", ""),
    ("POST", "/cancel"),
]  # fmt: skip


async def asked(service: Service, method: str, job_id: UUID, rest: str, who: dict[str, str]) -> httpx.Response:
    return await service.client.request(method, f"/v1/jobs/{job_id}{rest}", headers=who)


def shape_of(answer: httpx.Response, job_id: UUID) -> Any:
    """All that a caller could learn from an answer."""
    text = answer.text.replace(str(job_id), "ID").replace(answer.headers["X-Trace-Id"], "TRACE")
    return answer.status_code, text, sorted(set(answer.headers) - {"x-trace-id"})


async def test_of_a_stranger_s_job_with_the_same_unique_key_it_sees_that_it_is_there(service: Service) -> None:
    wanted: dict[str, Any] = {"task": "noop", "args": {"n": 1}, "unique_key": "k:{n}", "tags": ["of ann"]}
    traced = f"00-{'ab' * 16}-{'cd' * 8}-01"
    first = await service.client.post("/v1/jobs", json=wanted, headers=ANN | {"traceparent": traced})
    again = await service.client.post("/v1/jobs", json=wanted, headers=ANN)
    assert (first.status_code, again.status_code, again.json()) == (202, 200, first.json())
    assert (again.headers["Location"], "Idempotency-Replayed" in again.headers) == (first.headers["Location"], False)
    strange = await service.client.post("/v1/jobs", json=wanted, headers=BOB)
    seen = strange.json()
    assert (strange.status_code, seen["id"], seen["status"], seen["unique_key"]) == (
        200, first.json()["id"], "pending", "k:1"
    )  # fmt: skip
    assert (seen["args"], seen["tags"], seen["created_by"]) == ({}, [], "another caller")
    traces = [each.headers["X-Trace-Id"] for each in (first, strange)]
    assert (seen["run_at"], seen["trace_id"]) == (None, traces[1])
    assert traces[0] == traced[3:35] != traces[1]
    listed = await service.client.post("/v1/jobs/batch", json={"jobs": [wanted]}, headers=BOB)
    assert (listed.status_code, listed.json()["items"]) == (202, [seen])
    assert (await service.client.post("/v1/jobs", json=wanted, headers=READER)).json() == first.json()
    assert (await service.client.post("/v1/jobs", json=wanted, headers=BOB | {"Idempotency-Key": "k"})).json()[
        "errors"
    ][0]["pointer"] == "Idempotency-Key:"
    batch = await service.client.post("/v1/batches", json={"jobs": [wanted], "on_done": wanted}, headers=ANN)
    assert [each["pointer"] for each in batch.json()["errors"]] == ["/jobs/0/unique_key", "/on_done/unique_key"]


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize(("method", "rest"), CALLS)
async def test_the_jobs_of_others_are_not_there(
    service: Service, place: Place, method: str, rest: str, status: Status
) -> None:
    job_id, nobodys = await rows.in_status(place, status, created_by="ann", moved_by="ann"), uuid4()
    await place.psql.execute("INSERT INTO jobtrail.log_lines VALUES ($1, 1, 1, now(), 'INFO', 'shop', 'said')", job_id)
    before = await place.rows("SELECT * FROM jobtrail.jobs")
    refused, missing = [await asked(service, method, each, rest, BOB) for each in (job_id, nobodys)]
    assert refused.status_code == 404
    assert shape_of(refused, job_id) == shape_of(missing, nobodys)
    assert await place.rows("SELECT * FROM jobtrail.jobs") == before
    assert (await asked(service, method, job_id, rest, ANN)).status_code != 404


@pytest.mark.parametrize("who", [READER, OPERATOR])
@pytest.mark.parametrize(("method", "rest"), CALLS)
async def test_who_sees_all(service: Service, method: str, rest: str, who: dict[str, str]) -> None:
    """But to see is not to cancel: that is for who may operate, or submitted it."""
    job = await submitted(service.services, "noop", by="ann")
    allowed = method == "GET" or who is OPERATOR
    assert (await asked(service, method, job.id, rest, who)).status_code == (200 if allowed else 403)
    mine = await submitted(service.services, "noop", by="bob")
    assert (await asked(service, method, mine.id, rest, who)).status_code == 200
    if not allowed:
        assert (await asked(service, "GET", job.id, "", who)).json()["status"] == "pending"
        assert (await asked(service, method, uuid4(), rest, who)).status_code == 404


async def test_the_history_of_a_purged_job_is_its_submitters(service: Service, place: Place) -> None:
    job_id = await rows.in_status(place, Status.SUCCEEDED, created_by="ann", moved_by="ann")
    await place.psql.execute("UPDATE jobtrail.jobs SET ttl = '0', expires_at = finished_at WHERE id = $1", job_id)
    await place.psql.execute("DELETE FROM jobtrail.jobs WHERE id = $1", job_id)
    answers = [await asked(service, "GET", job_id, "/transitions", who) for who in (ANN, BOB, READER)]
    assert [answer.status_code for answer in answers] == [200, 404, 200]
    assert [move["to_status"] for move in answers[0].json()["items"]] == ["pending", "running", "succeeded", "purged"]


async def test_a_list_has_ones_own(service: Service) -> None:
    mine = [str((await submitted(service.services, "noop", by="ann")).id) for _ in range(3)]
    other = str((await submitted(service.services, "noop", by="bob")).id)
    for who, expected in ((ANN, mine), (BOB, [other]), (READER, [*mine, other]), ({**BOB, "name": "eve"}, [])):
        found, cursor = [], ""
        while True:  # page by page, since a cursor must not lead out of it
            answer = (await service.client.get(f"/v1/jobs?limit=2{cursor}", headers=who)).json()
            found += [job["id"] for job in answer["items"]]
            if not answer["next_cursor"]:
                break
            cursor = f"&cursor={answer['next_cursor']}"
        assert found == expected[::-1], who


async def test_in_one_group_each_is_told_what_is_its_own(service: Service) -> None:
    """What is cancelled at the same moment shares a statement."""
    job = await submitted(service.services, "noop", by="ann")
    results = await asyncio.gather(
        *(cancel(service.services, job.id, by=who, only_of=who) for who in ("bob", "ann", "bob", "eve")),
        return_exceptions=True,
    )
    assert [getattr(each, "status", type(each)) for each in results] == [
        JobNotFoundError, Status.CANCELLED, JobNotFoundError, JobNotFoundError,
    ]  # fmt: skip


@pytest.mark.parametrize("who", [ANN, READER, OPERATOR])
async def test_tracebacks_are_for_who_may_operate(service: Service, place: Place, who: dict[str, str]) -> None:
    job_id = await failed(place)
    told = [
        (await asked(service, "GET", job_id, "", who)).json()["error"],
        (await asked(service, "GET", job_id, "/transitions", who)).json()["items"][-1]["error"],
        (await service.client.get("/v1/jobs?include=traceback", headers=who)).json()["items"][0]["error"],
    ]
    trace = {"traceback": "Traceback"} if who is OPERATOR else {}
    assert told == [{"type": "E", "message": "m", "attempt": 1, **trace}] * 3
    assert "traceback" not in (await service.client.get("/v1/jobs", headers=who)).json()["items"][0]["error"]
    lines = (await asked(service, "GET", job_id, "/log", who)).json()["items"]
    assert [line["message"] for line in lines] == [
        message if who is OPERATOR else shown for message, shown in LINES.items()
    ]


_HIDDEN = "[a traceback, for who may operate]"
LINES = {
    "plain": "plain",
    'broken\nTraceback (most recent call last):\n  File "a.py", line 1, in f\nValueError: x': f"broken\n{_HIDDEN}",
    "  + Exception Group Traceback (most recent call last):\n  | x": _HIDDEN,
    "here\nStack (most recent call last):\n  x": f"here\n{_HIDDEN}",
    'cut … [cut: 9 characters in all] …\n  File "a.py", line 1, in f\nE: x': (
        f"cut … [cut: 9 characters in all] …\n{_HIDDEN}"
    ),
    "Tell me the most recent call": "Tell me the most recent call",
}


async def failed(place: Place) -> UUID:
    """A job of Ann's, with tracebacks wherever there can be one."""
    job_id = await rows.in_status(place, Status.RUNNING, created_by="ann", moved_by="ann")
    await place.psql.execute(
        """UPDATE jobtrail.jobs SET status = 'failed', lease_until = NULL, finished_at = now(),
                  expires_at = now() + ttl_failed,
                  error = '{"type": "E", "message": "m", "traceback": "Traceback", "attempt": 1}'
            WHERE id = $1""",
        job_id,
    )
    for number, message in enumerate(LINES, 1):
        await place.psql.execute(
            "INSERT INTO jobtrail.log_lines VALUES ($1, 1, $2, now(), 'INFO', 'shop', $3)", job_id, number, message
        )
    return job_id


async def test_who_sees_only_its_own_jobs_comes_after_no_other(service: Service) -> None:
    jobs = [await submitted(service.services, "noop", by=by) for by in ("ann", "bob")]
    asked = [(ANN, jobs[0], 202), (ANN, jobs[1], 422), (READER, jobs[0], 202), (READER, jobs[1], 202)]
    for number, (who, job, code) in enumerate(asked):
        for key in ({}, {"Idempotency-Key": f"k{number}"}):
            body = {"task": "noop", "after": [str(job.id)]}
            assert (await service.client.post("/v1/jobs", json=body, headers={**who, **key})).status_code == code
    several = {"jobs": [{"task": "noop"}, {"task": "noop", "after": [str(jobs[1].id)]}]}
    answer = await service.client.post("/v1/jobs/batch", json=several, headers=ANN)
    assert (answer.status_code, answer.json()["errors"]) == (
        422, [{"pointer": "/jobs/1/after/0", "detail": f"no job has the id {jobs[1].id}"}]
    )  # fmt: skip
