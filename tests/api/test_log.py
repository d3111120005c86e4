import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobtrail.api import schemas
from jobtrail.status import Status
from support import rows
from support.service import Service
from support.world import Place


async def with_lines(place: Place, *counts: int, size: int = 1) -> UUID:
    """A job whose attempts have said so many lines each."""
    job_id = await rows.in_status(place, Status.RUNNING)
    for attempt, count in enumerate(counts, 1):
        await place.psql.execute(
            """INSERT INTO jobtrail.log_lines (job_id, attempt, number, at, level, logger, message)
               SELECT $1, $2::int, n, now(), 'INFO', 'shop', repeat('x', $4::int)
                 FROM generate_series(1, $3::int) n""",
            job_id,
            attempt,
            count,
            size,
        )
    return job_id


async def log(service: Service, job_id: UUID, query: str = "") -> list[dict[str, Any]]:
    answer = await service.client.get(f"/v1/jobs/{job_id}/log?{query}")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def test_what_a_job_said_while_it_ran(running: Service) -> None:
    job = await running.ended((await running.submitted("tell"))["id"])
    answer = await running.client.get(f"/v1/jobs/{job['id']}/log")
    schemas.JobLog.model_validate_json(answer.content, strict=True)
    items = answer.json()["items"]
    assert [set(item) for item in items] == [{"attempt", "number", "at", "level", "logger", "message"}] * 2
    assert [(item["attempt"], item["number"], item["level"], item["logger"]) for item in items] == [
        (1, 1, "INFO", "jobtrail.task.tell"),
        (1, 2, "ERROR", "a.host.of.its.own"),
    ]
    assert items[0]["message"] == "half of it"
    assert items[1]["message"].startswith("failed\nTraceback")
    assert job["started_at"] <= items[0]["at"] <= job["finished_at"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]),
        ("limit=3", [(1, 3), (2, 1), (2, 2)]),
        ("attempt=1", [(1, 1), (1, 2), (1, 3)]),
        ("attempt=1&limit=1", [(1, 3)]),
        ("attempt=3", []),
        (f"attempt={10**30}", []),
    ],
)
async def test_a_part_of_it(service: Service, place: Place, query: str, expected: list[tuple[int, int]]) -> None:
    job_id = await with_lines(place, 3, 2)
    await with_lines(place, 7)
    assert [(item["attempt"], item["number"]) for item in await log(service, job_id, query)] == expected


@pytest.mark.parametrize(
    ("counts", "size", "first", "count"),
    [((1500,), 1, (1, 501), 1000), ((1500, 300), 1, (1, 801), 1000), ((20, 20), 8192, (1, 9), 32)],
)
async def test_no_more_than_is_kept(
    service: Service, place: Place, counts: tuple[int, ...], size: int, first: tuple[int, int], count: int
) -> None:
    """Rows that are still there, because nobody has trimmed them yet, are not shown."""
    items = await log(service, await with_lines(place, *counts, size=size))
    assert ((items[0]["attempt"], items[0]["number"]), len(items)) == (first, count)
    assert (items[-1]["attempt"], items[-1]["number"]) == (len(counts), counts[-1])


async def test_a_job_without_a_word_and_no_job(service: Service) -> None:
    job_id = (await service.submitted())["id"]
    assert await log(service, job_id) == []
    answer = await service.client.get(f"/v1/jobs/{uuid4()}/log")
    assert (answer.status_code, answer.json()["type"]) == (404, "/v1/problems/job-not-found")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "attempt=0", "attempt=-1", "attempt=", "limit=1&limit=2", "level=INFO"],
)
async def test_what_cannot_be_asked(service: Service, query: str) -> None:
    job_id = (await service.submitted())["id"]
    answer = await service.client.get(f"/v1/jobs/{job_id}/log?{query}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json")
    assert [flaw["pointer"] for flaw in answer.json()["errors"]] == ["?" + query.partition("=")[0]]


async def test_the_last_progress_stays_with_the_job(running: Service) -> None:
    job = await running.ended((await running.submitted("tell"))["id"])
    assert job["progress"] == {"done": 2, "total": 2, "note": "all"}
    schemas.Job.model_validate_json(json.dumps(job), strict=True)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ('{"done": 1}', {"done": 1, "total": None, "note": None}),
        ('{"done": 0.5, "total": 1, "note": "n", "more": 5}', {"done": 0.5, "total": 1, "note": "n"}),
        ('{"done": "much"}', None),
        ('{"done": true}', None),
        ('{"done": -1}', None),
        ('{"done": 1e400}', None),
        ('{"done": 1, "note": 5}', None),
        ("{}", None),
        ("null", None),
        ('"half"', None),
        ("[1, 2]", None),
        ("50", None),
    ],
)
async def test_whatever_was_written_by_hand_can_be_read(
    service: Service, place: Place, written: str, shown: dict[str, Any] | None
) -> None:
    job_id = await rows.in_status(place, Status.RUNNING)
    await place.psql.execute("UPDATE jobtrail.jobs SET progress = $2 WHERE id = $1", job_id, written)
    answer = await service.client.get(f"/v1/jobs/{job_id}")
    assert answer.json()["progress"] == shown
    listed = await service.client.get("/v1/jobs")
    assert listed.json()["items"][0]["progress"] == shown
