"""Pausing and resuming over HTTP."""

import json
from typing import Any

import pytest

from jobtrail.api import schemas
from support.service import Service
from support.world import Place

KNOWN = "a queue is known once a task, a node or a job names it; is its task's module in JOBTRAIL_TASKS?"


async def listed(service: Service) -> list[dict[str, Any]]:
    answer = await service.client.get("/v1/pauses")
    assert answer.status_code == 200
    assert schemas.PauseList.model_validate_json(answer.content, strict=True)
    return list(answer.json()["items"])


@pytest.mark.parametrize("path", ["queue/default", "task/noop"])
async def test_pausing_twice_and_resuming_twice(service: Service, path: str) -> None:
    kind, name = path.split("/")
    first = await service.client.put(f"/v1/pauses/{path}", json={"reason": "the provider is down"})
    again = await service.client.put(f"/v1/pauses/{path}")
    assert (first.status_code, again.status_code, again.json()) == (200, 200, first.json())
    assert first.json() == {
        "kind": kind, "name": name, "paused_at": first.json()["paused_at"], "paused_by": "anonymous",
        "reason": "the provider is down",
    }  # fmt: skip
    assert await listed(service) == [first.json()]
    for _ in range(2):
        answer = await service.client.delete(f"/v1/pauses/{path}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert len(answer.headers["X-Trace-Id"]) == 32
    assert await listed(service) == []


async def test_a_paused_job_waits_until_it_is_resumed(running: Service) -> None:
    await running.client.put("/v1/pauses/task/noop")
    waiting, other = (await running.submitted())["id"], (await running.submitted("nothing"))["id"]
    assert (await running.ended(other))["status"] == "succeeded"
    assert (await running.job(waiting))["status"] == "pending"
    await running.client.delete("/v1/pauses/task/noop")
    assert (await running.ended(waiting))["status"] == "succeeded"


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    ("path", "status", "slug", "detail"),
    [
        ("queue/defualt", 404, "queue-not-found", "no queue is named 'defualt'; did you mean default?"),
        ("queue/noop", 404, "queue-not-found", f"no queue is named 'noop': {KNOWN}"),
        ("queue/%00", 404, "queue-not-found", rf"no queue is named '\x00': {KNOWN}"),
        ("task/nop", 404, "task-not-found", "no task is named 'nop'; did you mean noop?"),
        ("task/default", 404, "task-not-found", "no task is named 'default'"),
        ("task/%00", 404, "task-not-found", r"no task is named '\x00'"),
        ("job/noop", 422, "invalid-input", "{kind}: Input should be 'queue' or 'task'"),
        ("queue/", 404, "not-found", "Not Found"),
        ("queue/a/b", 404, "not-found", "Not Found"),
    ],
)
async def test_what_cannot_be_paused(
    service: Service, place: Place, method: str, path: str, status: int, slug: str, detail: str
) -> None:
    answer = await service.client.request(method, f"/v1/pauses/{path}")
    problem = schemas.JobtrailProblem.model_validate_json(answer.content, strict=True)
    assert (answer.status_code, problem.type, problem.detail) == (status, f"/v1/problems/{slug}", detail)
    assert await place.value("SELECT count(*) FROM jobtrail.pauses") == 0


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ("", 200, None),
        ("null", 200, None),
        ("{}", 200, None),
        ('{"reason": null}', 200, None),
        ('{"reason": ""}', 200, None),
        ('{"reason": 5}', 422, "/reason"),
        ('{"reason": true}', 422, "/reason"),
        ('{"reason": "\\u0000"}', 422, "/reason"),
        ('{"why": "x"}', 422, "/why"),
        ("[]", 422, ""),
        (json.dumps({"reason": "x" * 1000}), 200, None),
        (json.dumps({"reason": "x" * 1001}), 422, "/reason"),
    ],
)
async def test_the_reason(service: Service, body: str, status: int, pointer: str | None) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await service.client.put("/v1/pauses/queue/default", content=body, headers=headers)
    assert answer.status_code == status
    if pointer is None:
        assert answer.json()["reason"] == (None if len(body) < 100 else "x" * 1000)
    else:
        assert answer.json()["errors"][0]["pointer"] == pointer
        assert await listed(service) == []
