import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from fastapi import FastAPI

from jobtrail.api import ops, representation, schemas
from jobtrail.api.context import ServiceContext
from jobtrail.api.routes import install
from jobtrail.db.engine import open_database
from jobtrail.db.url import normalize
from jobtrail.jobs.services import Services
from jobtrail.ops.audit import json_value, questions
from jobtrail.status import Status
from jobtrail.task.catalog import Catalog
from jobtrail.task.task import task
from support import rows
from support.service import MAX_BODY, NoAuth, Service, client_of
from support.tasks import noop
from support.until import until
from support.world import Place


async def test_tasks_say_what_they_take(service: Service) -> None:
    answer = await service.client.get("/v1/tasks")
    listed = schemas.TaskList.model_validate_json(answer.content, strict=True).items
    assert [each.name for each in listed] == list(service.services.catalog.names)
    noop = (await service.client.get("/v1/tasks/noop")).json()
    assert noop["args"]["properties"] == {"n": {"type": "integer", "default": 0}}
    assert noop["defaults"] == {
        "queue": "default", "priority": 5, "max_attempts": 1, "timeout": None, "ttl": 604800.0, "ttl_failed": 2592000.0
    }  # fmt: skip
    assert (await service.client.get("/v1/tasks/in_thread")).json()["runs_in"] == "thread"
    assert (await service.client.get("/v1/tasks/flaky")).json()["defaults"]["max_attempts"] == 3


@task(name="mail.send", queue="mail", priority=9, timeout=1.5, ttl=None)
async def send(to: str) -> str:
    """Sends a mail.

    With much more to say.
    """
    return to


async def test_a_task_says_its_own_defaults(place: Place) -> None:
    service = Service(Services(place.database, Catalog([send])))
    install(service.app, service.context)
    told = (await service.client.get("/v1/tasks/mail.send")).json()
    assert (told["name"], told["description"], told["args"]["required"]) == ("mail.send", "Sends a mail.", ["to"])
    assert told["defaults"] == {
        "queue": "mail", "priority": 9, "max_attempts": 1, "timeout": 1.5, "ttl": None, "ttl_failed": None
    }  # fmt: skip


async def test_nodes_say_how_full_they_are(running: Service) -> None:
    job_id = (await running.submitted("hold"))["id"]
    await running.until_status(job_id, "running")

    async def entered() -> list[Any]:
        answer = await running.client.get("/v1/nodes")
        return ops.NodeList.model_validate_json(answer.content, strict=True).items

    (node,) = await until(entered)
    assert (node.running, node.slots["loop"], node.version, node.queues) == (1, 100, "test", [])
    assert str(node.id) == (await running.job(job_id))["node_id"]
    assert "noop" in node.tasks


async def test_questions_are_listed_with_their_parameters(service: Service) -> None:
    answer = await service.client.get("/v1/audit")
    listed = ops.QuestionList.model_validate_json(answer.content, strict=True).items
    assert {each.name for each in listed} >= {"history_of_job", "failures_by_task", "slowest_jobs", "stuck_jobs"}
    assert all(each.title and each.parameters and "SELECT" in each.sql for each in listed)


@pytest.mark.parametrize("name", sorted(questions()))
async def test_every_question_has_an_answer(service: Service, place: Place, name: str) -> None:
    for status in Status:
        await rows.in_status(place, status)
    needed = {"history_of_job": "id", "by_trace": "trace_id"}
    job_id = await place.value("SELECT id FROM jobtrail.jobs WHERE status = 'failed'")
    answer = await service.client.get(f"/v1/audit/{name}", params={needed[name]: str(job_id)} if name in needed else {})
    told = ops.Answer.model_validate_json(answer.content, strict=True)
    assert answer.status_code == 200
    assert all(list(row) == told.columns for row in told.items)


async def test_a_parameter_narrows_the_answer(service: Service, place: Place) -> None:
    job_id = await rows.in_status(place, Status.FAILED)
    answer = await service.client.get(f"/v1/audit/history_of_job?id={job_id}")
    assert [row["to_status"] for row in answer.json()["items"]] == ["pending", "running", "failed"]
    short = await service.client.get(f"/v1/audit/history_of_job?id={job_id}&limit=1")
    assert len(short.json()["items"]) == 1


def test_numbers_and_durations_of_an_answer_are_json_numbers() -> None:
    row = (Decimal("1.50"), Decimal(7), Decimal("NaN"), timedelta(milliseconds=1500), float("inf"))
    assert bytes(representation.answer([json_value(each) for each in row]).body) == b"[1.5,7,null,1.5,null]"


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/health/live"])
async def test_a_healthy_process(service: Service, path: str) -> None:
    answer = await service.client.get(path)
    assert answer.status_code == 200
    assert schemas.Health.model_validate_json(answer.content, strict=True).status == "ok"


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
async def test_a_process_that_shuts_down_is_not_ready(service: Service, path: str) -> None:
    service.accepting = False
    answer = await service.client.get(path)
    assert (answer.status_code, answer.json()["detail"]) == (503, "draining: this process is shutting down")
    assert answer.headers["Retry-After"] == "1"
    assert (await service.client.get("/health/live")).status_code == 200


async def test_a_database_without_a_schema_is_not_ready(empty_url: str) -> None:
    database = open_database(normalize(empty_url).sqlalchemy)
    service = Service(Services(database, Catalog()))
    install(service.app, service.context)
    answer = await service.client.get("/health/ready")
    await database.dispose()
    assert (answer.status_code, answer.json()["type"]) == (503, "/v1/problems/unavailable")
    assert "jobtrail migrate" in answer.json()["detail"]


async def test_a_later_schema_is_ready(service: Service, place: Place) -> None:
    head = await place.value("SELECT version_num FROM jobtrail.alembic_version")
    await place.psql.execute("UPDATE jobtrail.alembic_version SET version_num = 'from the future'")
    try:
        later = await service.client.get("/health/ready")
    finally:
        await place.psql.execute("UPDATE jobtrail.alembic_version SET version_num = $1", head)
    assert later.status_code == 200


UNREACHABLE = "postgresql+asyncpg://nobody@127.0.0.1:1/none"

JOB = "/v1/jobs/00000000-0000-0000-0000-000000000000"
CALLS = [
    ("POST", "/v1/jobs"), ("POST", "/v1/jobs/batch"), ("GET", "/v1/jobs"),
    ("GET", JOB), ("PATCH", JOB),
    ("DELETE", JOB),
    ("POST", f"{JOB}/cancel"),
    ("POST", f"{JOB}/retry"),
    ("GET", f"{JOB}/transitions"),
    ("GET", "/v1/nodes"), ("GET", "/v1/audit/slowest_jobs"), ("GET", "/health"), ("GET", "/health/ready"),
]  # fmt: skip


async def test_without_a_database_every_call_says_when_to_come_again() -> None:
    database = open_database(UNREACHABLE)
    app = FastAPI()
    install(app, ServiceContext(Services(database, Catalog([noop])), lambda *_: None, lambda: True, MAX_BODY, NoAuth()))

    async def call(method: str, path: str) -> tuple[str, int, str | None, str]:
        bodies = {"/v1/jobs": {"task": "noop"}, "/v1/jobs/batch": {"jobs": [{"task": "noop"}]}}
        body = {"json": bodies.get(path, {})} if method in ("POST", "PATCH") and not path.endswith("retry") else {}
        async with client_of(app) as client:
            answer = await client.request(method, path, **body)  # type: ignore[arg-type]
        return path, answer.status_code, answer.headers.get("Retry-After"), answer.json()["type"]

    told = await asyncio.gather(*(call(method, path) for method, path in CALLS))
    async with client_of(app) as client:
        keyed = await client.post("/v1/jobs", json={"task": "noop"}, headers={"Idempotency-Key": "k"})
        still = [
            (await client.get(path)).status_code for path in ("/health/live", "/v1/tasks", "/v1/audit", "/v1/problems")
        ]
    await database.dispose()
    assert told == [(path, 503, "1", "/v1/problems/unavailable") for _, path in CALLS]
    assert (keyed.status_code, still) == (503, [200] * 4)
