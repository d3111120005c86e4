"""Cancel and retry of many jobs over HTTP."""

from typing import Any

import pytest

from jobtrail.api import schemas
from jobtrail.status import Status
from support import rows
from support.service import Service
from support.world import Place

TRACE = "0af7651916cd43dd8448eb211c80319c"
LATER = "2999-01-31T00:00:00Z"


async def asked(service: Service, action: str, wanted: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await service.client.post("/v1/jobs/bulk", json={"action": action, "filter": wanted, **more})
    assert answer.status_code == 200, answer.text
    schemas.Bulk.model_validate_json(answer.content, strict=True)
    return dict(answer.json())


async def moves(place: Place) -> list[dict[str, Any]]:
    query = "SELECT to_status, actor, reason FROM jobtrail.transitions WHERE seq > 1 AND reason <> 'sql'"
    return await place.rows(query)


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
async def test_a_bulk_retry(service: Service, place: Place, status: Status) -> None:
    for _ in range(3):
        await rows.in_status(place, status)
    wanted = {"status": [status], "task": ["noop"], "created_before": LATER}
    counts = {"action": "retry", "dry_run": True, "matched": 3, "changed": 0, "remaining": 3}
    assert await asked(service, "retry", wanted, dry_run=True) == counts
    assert await moves(place) == []
    assert await asked(service, "retry", wanted, limit=2) == counts | {"dry_run": False, "changed": 2, "remaining": 1}
    rest = counts | {"dry_run": False, "matched": 1, "changed": 1, "remaining": 0}
    assert await asked(service, "retry", wanted) == rest
    assert await moves(place) == [{"to_status": "pending", "actor": "anonymous", "reason": "retried by hand"}] * 3


@pytest.mark.parametrize("reason", ["wrong file: ünï", "", None])
async def test_a_bulk_cancel(service: Service, place: Place, reason: str | None) -> None:
    waiting = [(await service.submitted(queue="mail"))["id"] for _ in range(2)]
    running = str(await rows.in_status(place, Status.RUNNING, queue="mail"))
    elsewhere = (await service.submitted())["id"]
    done = await asked(service, "cancel", {"queue": ["mail"]}, reason=reason)
    assert done == {"action": "cancel", "dry_run": False, "matched": 3, "changed": 3, "remaining": 0}
    found = [await service.job(job_id) for job_id in (*waiting, running, elsewhere)]
    assert [job["status"] for job in found] == ["cancelled", "cancelled", "running", "pending"]
    assert [job["cancel_reason"] for job in found] == [reason or None] * 3 + [None]
    moved = {"to_status": "cancelled", "actor": "anonymous", "reason": reason or "cancelled"}
    assert await moves(place) == [moved] * 2


async def test_all_filters_at_once(service: Service, place: Place) -> None:
    wanted = {
        "status": ["pending", "running"],
        "task": ["noop", "other"],
        "queue": ["mail"],
        "tag": ["a", "b"],
        "trace_id": [TRACE],
        "created_after": "2020-01-31T00:00:00+01:00",
        "created_before": LATER,
    }
    fitting = {"task": "noop", "queue": "mail", "tags": ["b", "a", "c"], "trace_id": TRACE}
    chosen = str(await rows.born(place, **fitting))
    for other in ({"task": "third"}, {"queue": "post"}, {"tags": ["a"]}, {"trace_id": "ab" * 16}):
        await rows.born(place, **{**fitting, **other})
    assert (await asked(service, "cancel", wanted))["changed"] == 1
    assert (await service.job(chosen))["status"] == "cancelled"


async def test_retried_jobs_are_run_by_whoever_polls(running: Service) -> None:
    jobs = [(await running.submitted("fail", args={"how": "error"}))["id"] for _ in range(3)]
    for job_id in jobs:
        await running.ended(job_id)
    assert (await asked(running, "retry", {"task": ["fail"]}))["changed"] == 3
    assert {(await running.ended(job_id))["attempt"] for job_id in jobs} == {2}


async def test_a_process_that_shuts_down_cancels_but_does_not_retry(service: Service) -> None:
    service.accepting = False
    body = {"action": "retry", "filter": {"status": ["failed"]}}
    refused = await service.client.post("/v1/jobs/bulk", json=body)
    assert (refused.status_code, refused.json()["type"]) == (503, "/v1/problems/unavailable")
    assert (await asked(service, "cancel", {"status": ["pending"]}))["changed"] == 0


def body(**changed: Any) -> dict[str, Any]:
    return {"action": "cancel", "filter": {"task": ["noop"]}, **changed}


EMPTY = "name something: an empty filter would mean every job"
ANY = "an empty list would mean any: name one at least, or leave the field out"
RETRIES = "only one that is failed or cancelled"
CANCELS = "only one that is pending or running"

# body, pointer, and how its detail ends
REFUSED: dict[str, tuple[object, str, str]] = {
    "a list": ([], "", ""),
    "no action": ({"filter": {"task": ["noop"]}}, "/action", "Field required"),
    "no filter": ({"action": "cancel"}, "/filter", "Field required"),
    "unknown action": (body(action="delete"), "/action", "Input should be 'cancel' or 'retry'"),
    "action a list": (body(action=["cancel"]), "/action", "Input should be 'cancel' or 'retry'"),
    "unknown field": (body(force=True), "/force", "Extra inputs are not permitted"),
    "filter null": (body(filter=None), "/filter", ""),
    "filter a list": (body(filter=[]), "/filter", ""),
    "empty filter": (body(filter={}), "/filter", EMPTY),
    "empty filter of a dry run": (body(filter={}, dry_run=True), "/filter", EMPTY),
    "only nulls": (body(filter={"created_after": None}), "/filter", EMPTY),
    "empty list": (body(filter={"task": []}), "/filter/task", ANY),
    "one of the lists empty": (body(filter={"queue": ["a"], "tag": []}), "/filter/tag", ANY),
    "a typo": (body(filter={"stauts": ["failed"]}), "/filter/stauts", "Extra inputs are not permitted"),
    "a filter of the list": (body(filter={"task": ["a"], "limit": 5}), "/filter/limit", ""),
    "an id": (body(filter={"id": ["x"]}), "/filter/id", "Extra inputs are not permitted"),
    "status no list": (body(filter={"status": "pending"}), "/filter/status", "Input should be a valid list"),
    "status an object": (body(filter={"status": {"pending": 1}}), "/filter/status", "Input should be a valid list"),
    "unknown status": (body(filter={"status": ["done"]}), "/filter/status/0", ""),
    "status a number": (body(filter={"status": [1]}), "/filter/status/0", ""),
    "task a number": (body(filter={"task": [5]}), "/filter/task/0", "Input should be a valid string"),
    "task empty": (body(filter={"task": [""]}), "/filter/task/0", ""),
    "task too long": (body(filter={"task": ["x" * 201]}), "/filter/task/0", ""),
    "too many tasks": (body(filter={"task": ["x"] * 51}), "/filter/task", ""),
    "tag null": (body(filter={"tag": [None]}), "/filter/tag/0", "Input should be a valid string"),
    "trace": (body(filter={"trace_id": ["xyz"]}), "/filter/trace_id/0", ""),
    "time without a zone": (body(filter={"created_after": "2030-01-31T12:00:00"}), "/filter/created_after", ""),
    "time a number": (body(filter={"created_before": 1900000000}), "/filter/created_before", ""),
    "dry_run a text": (body(dry_run="true"), "/dry_run", "Input should be a valid boolean"),
    "dry_run a number": (body(dry_run=1), "/dry_run", "Input should be a valid boolean"),
    "dry_run null": (body(dry_run=None), "/dry_run", "Input should be a valid boolean"),
    "limit 0": (body(limit=0), "/limit", "Input should be greater than or equal to 1"),
    "limit 10001": (body(limit=10_001), "/limit", "Input should be less than or equal to 10000"),
    "limit a text": (body(limit="5"), "/limit", "Input should be a valid integer"),
    "limit true": (body(limit=True), "/limit", "Input should be a valid integer"),
    "limit 5.5": (body(limit=5.5), "/limit", "Input should be a valid integer"),
    "reason a number": (body(reason=1), "/reason", "Input should be a valid string"),
    "reason too long": (body(reason="x" * 1001), "/reason", "String should have at most 1000 characters"),
    "reason of a retry": (body(action="retry", reason="x"), "/reason", "only a cancel has a reason"),
    "retry of succeeded": (body(action="retry", filter={"status": ["succeeded"]}), "/filter/status/0", RETRIES),
    "pending too": (body(action="retry", filter={"status": ["failed", "pending"]}), "/filter/status/1", RETRIES),
    "cancel of failed": (body(filter={"status": ["failed"]}), "/filter/status/0", CANCELS),
    "cancel of cancelled": (body(filter={"status": ["cancelled"]}), "/filter/status/0", CANCELS),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "pointer", "detail"), REFUSED.values(), ids=REFUSED)
async def test_what_is_refused(service: Service, place: Place, wanted: object, pointer: str, detail: str) -> None:
    await rows.born(place)
    answer = await service.client.post("/v1/jobs/bulk", json=wanted)
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (422, "/v1/problems/invalid-input"), answer.text
    (flaw,) = problem["errors"]
    assert flaw["pointer"] == pointer
    assert flaw["detail"].endswith(detail)
    assert await moves(place) == []
