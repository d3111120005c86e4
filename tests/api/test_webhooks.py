"""Webhooks over HTTP: made, read, rotated and deleted; callbacks of jobs; and what is refused."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI

from jobtrail.api.routes import install
from jobtrail.api.webhooks import Webhook, WebhookList, WebhookSecret
from jobtrail.outbound import Outbound, key_of, new_secret
from support.service import Service
from support.urls import URLS
from support.world import Place, services_at

HOOKS = {"url": "https://example.com/hooks", "tasks": ["noop"], "statuses": ["failed"]}


async def test_a_webhook_is_made_read_replaced_rotated_and_deleted(service: Service, place: Place) -> None:
    assert (await service.client.get("/v1/webhooks")).json() == {"items": []}
    made = await service.client.put("/v1/webhooks/ops", json=HOOKS)
    WebhookSecret.model_validate(made.json())
    assert made.status_code == 201
    secret = made.json()["secret"]
    assert len(key_of(secret)) == 32
    found = (await service.client.get("/v1/webhooks/ops")).json()
    Webhook.model_validate(found)
    assert {**HOOKS, "name": "ops", "created_by": "anonymous", "rotated_at": None}.items() <= found.items()
    assert {**found, "secret": secret} == made.json()

    replaced = await service.client.put("/v1/webhooks/ops", json={"url": "https://example.com/other"})
    assert (replaced.status_code, replaced.json()["secret"]) == (200, None)
    assert replaced.json()["statuses"] == ["succeeded", "failed", "cancelled"]
    assert (replaced.json()["tasks"], replaced.json()["created_at"]) == ([], found["created_at"])

    rotated = await service.client.post("/v1/webhooks/ops/rotate")
    assert rotated.status_code == 200
    own = new_secret()
    again = await service.client.post("/v1/webhooks/ops/rotate", json={"secret": own})
    assert (again.json()["secret"], again.json()["rotated_at"] > rotated.json()["rotated_at"]) == (own, True)
    assert await place.value("SELECT secrets FROM jobtrail.webhooks") == [own, rotated.json()["secret"]]

    listed = await service.client.get("/v1/webhooks")
    WebhookList.model_validate(listed.json())
    assert own not in listed.text
    assert (await service.client.delete("/v1/webhooks/ops")).status_code == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
        answer = await service.client.request(method, f"/v1/webhooks/ops{path}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/v1/problems/webhook-not-found")


@pytest.mark.parametrize(
    ("body", "pointer", "why"),
    [
        ({"url": "http://example.com/"}, "/url", "write https://"),
        ({"url": "https://127.0.0.1/"}, "/url", "not public: allow it with JOBTRAIL_WEBHOOK_ALLOW"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "/url", "not public"),
        ({"url": "https://2130706433/"}, "/url", "no name of a host"),
        ({"url": "https://u:p@example.com/"}, "/url", "names a user"),
        ({"url": "x" * 3000}, "/url", "at most 2000"), ({"url": 5}, "/url", "valid string"), ({}, "/url", "required"),
        ({"statuses": []}, "/statuses", "at least 1"), ({"statuses": ["gone"]}, "/statuses/0", "'pending'"),
        ({"tasks": [""]}, "/tasks/0", "at least 1"), ({"tasks": ["\0"]}, "/tasks/0", "U+0000"),
        ({"secret": "x"}, "/secret", "not permitted"),
    ],
)  # fmt: skip
async def test_what_is_no_webhook(service: Service, body: dict[str, Any], pointer: str, why: str) -> None:
    wanted = body if "url" in body or not body else {"url": "https://example.com/", **body}
    answer = await service.client.put("/v1/webhooks/ops", json=wanted)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer
    assert why in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize("name", ["a b", "ä", "-x", "x" * 51, "a,b"])
async def test_what_is_no_name(service: Service, name: str) -> None:
    assert (await service.client.put(f"/v1/webhooks/{name}", json=HOOKS)).status_code == 422
    assert (await service.client.get(f"/v1/webhooks/{name}")).status_code == 404


@pytest.mark.parametrize("secret", ["", "short", "whsec_c2hvcnQ=", "A" * 44, "whsec_" + "A" * 150])
async def test_a_secret_that_is_too_short_or_none(service: Service, secret: str) -> None:
    await service.client.put("/v1/webhooks/ops", json=HOOKS)
    answer = await service.client.post("/v1/webhooks/ops/rotate", json={"secret": secret})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/secret")
    assert "24 to 64 random bytes" in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/batch", "/v1/batches"])
async def test_without_a_secret_no_callback_is_taken(service: Service, path: str) -> None:
    job = {"task": "noop", "callback_url": "https://example.com/"}
    answer = await service.client.post(path, json=job if path == "/v1/jobs" else {"jobs": [job]})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].endswith("/callback_url")
    assert "set JOBTRAIL_WEBHOOK_SECRET" in answer.json()["errors"][0]["detail"]


@pytest.fixture
async def calling(place: Place) -> AsyncIterator[Service]:
    """With a secret for callbacks."""
    services = replace(services_at(place), outbound=Outbound.of([], [new_secret()]))
    made = Service(services, app=FastAPI())
    install(made.app, made.context)
    async with made.client:
        yield made


async def test_the_callback_of_a_job(calling: Service) -> None:
    url = "https://example.com/done?id=5"
    job = await calling.submitted(callback_url=url, ttl=0)
    assert (job["callback_url"], job["ttl"]) == (url, 86400)
    assert await calling.job(job["id"]) == job
    changed = await calling.client.patch(f"/v1/jobs/{job['id']}", json={"ttl": 5})
    assert changed.json()["ttl"] == 86400, "its URL is kept until the end is told"
    assert (await calling.submitted())["callback_url"] is None
    for wrong in ("http://example.com/", "https://10.0.0.1/", "https://localhost/", "x" * 3000, ""):
        answer = await calling.client.post("/v1/jobs", json={"task": "noop", "callback_url": wrong})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/callback_url"), wrong


@pytest.mark.parametrize("url", URLS)
async def test_a_url_is_taken_or_refused_with_the_reason(calling: Service, url: str) -> None:
    hook = await calling.client.put("/v1/webhooks/ops", json={"url": url})
    job = await calling.client.post("/v1/jobs", json={"task": "noop", "callback_url": url})
    why = URLS[url]
    if why is None:
        assert (hook.status_code, job.status_code) == (201, 202)
        return
    for answer, pointer in ((hook, "/url"), (job, "/callback_url")):
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
        assert why in answer.json()["errors"][0]["detail"]


async def test_a_job_that_is_replaced_calls_back_who_submitted_it_last(calling: Service) -> None:
    said = {"unique_key": "k", "on_duplicate": "replace", "delay": 60}
    first = await calling.submitted(callback_url="https://example.com/1", **said)
    again = {"task": "noop", "callback_url": "https://example.com/2", **said}
    answer = await calling.client.post("/v1/jobs", json=again)
    assert (answer.status_code, answer.json()["id"], answer.json()["callback_url"]) == (
        200, first["id"], "https://example.com/2",
    )  # fmt: skip


@pytest.mark.parametrize(("field", "name"), [("task", "jobtrail.webhook"), ("queue", "jobtrail.webhooks")])
async def test_jobs_of_jobtrail_itself_are_not_submitted(service: Service, field: str, name: str) -> None:
    job = {"task": "noop", field: name}
    for path, body in (("/v1/jobs", job), ("/v1/jobs/batch", {"jobs": [job]}), ("/v1/batches", {"jobs": [job]})):
        answer = await service.client.post(path, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"][-5:]) == (422, f"/{field}"[-5:])
        assert "names that begin with jobtrail. are those of Jobtrail's own jobs" in answer.json()["detail"]
    answer = await service.client.put("/v1/schedules/often", json={**job, "every": 60})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, f"/{field}")
