"""What the service says of itself. After a change that is meant:

PYTHONPATH=service:tests python tests/api/test_openapi.py
"""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from jobtrail.api.bodies import Batch, BulkBody, KeyBody, PauseBody
from jobtrail.api.routes import install, routes
from jobtrail.db.engine import open_database
from jobtrail.jobs.services import Services
from jobtrail.task.catalog import Catalog
from jobtrail.task.submission import Amendment, Submission
from support.service import OPEN, Service

SNAPSHOT = Path(__file__).with_name("openapi.json")

OPERATIONS = {
    "submit_job": "POST /v1/jobs",
    "submit_jobs": "POST /v1/jobs/batch",
    "move_jobs": "POST /v1/jobs/bulk",
    "list_jobs": "GET /v1/jobs",
    "get_job": "GET /v1/jobs/{job_id}",
    "amend_job": "PATCH /v1/jobs/{job_id}",
    "delete_job": "DELETE /v1/jobs/{job_id}",
    "get_transitions": "GET /v1/jobs/{job_id}/transitions",
    "get_log": "GET /v1/jobs/{job_id}/log",
    "cancel_job": "POST /v1/jobs/{job_id}/cancel",
    "retry_job": "POST /v1/jobs/{job_id}/retry",
    "list_tasks": "GET /v1/tasks",
    "get_task": "GET /v1/tasks/{name}",
    "list_nodes": "GET /v1/nodes",
    "list_pauses": "GET /v1/pauses",
    "put_pause": "PUT /v1/pauses/{kind}/{name}",
    "delete_pause": "DELETE /v1/pauses/{kind}/{name}",
    "list_questions": "GET /v1/audit",
    "ask": "GET /v1/audit/{name}",
    "list_keys": "GET /v1/keys",
    "create_key": "POST /v1/keys",
    "revoke_key": "DELETE /v1/keys/{key_id}",
    "list_problems": "GET /v1/problems",
    "get_problem": "GET /v1/problems/{slug}",
    "health": "GET /health",
    "live": "GET /health/live",
    "ready": "GET /health/ready",
}


def described() -> dict[str, Any]:
    app = FastAPI(title="Jobtrail")
    install(app, Service(nowhere()).context)
    return app.openapi()


def nowhere() -> Services:
    return Services(open_database("postgresql+asyncpg://nowhere"), Catalog())


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return described()


def operations(told: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    return {
        said["operationId"]: (f"{method.upper()} {path}", said)
        for path, methods in told["paths"].items()
        for method, said in methods.items()
    }


def test_nothing_changed_unseen(told: dict[str, Any]) -> None:
    assert told == json.loads(SNAPSHOT.read_text()), f"if it is meant: {__doc__}"


def test_operations_have_short_names(told: dict[str, Any]) -> None:
    assert {name: call for name, (call, _) in operations(told).items()} == OPERATIONS
    for name, (_, said) in operations(told).items():
        assert (len(said["tags"]), bool(said["summary"]), bool(said["description"])) == (1, True, True), name


def test_every_reference_leads_somewhere(told: dict[str, Any]) -> None:
    text = json.dumps(told)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= told["components"]["schemas"].keys()
    assert "JobtrailProblem" in named
    assert "HTTPValidationError" not in text


def test_refusals_are_problems_and_every_answer_has_a_trace(told: dict[str, Any]) -> None:
    for name, (_, said) in operations(told).items():
        for status, answer in said["responses"].items():
            assert "X-Trace-Id" in answer["headers"], (name, status)
            assert int(status) < 400 or list(answer["content"]) == ["application/problem+json"], (name, status)
            assert status not in ("429", "503") or "Retry-After" in answer["headers"], name
            assert status != "401" or "WWW-Authenticate" in answer["headers"], name


def test_who_may_is_told(told: dict[str, Any]) -> None:
    assert told["components"]["securitySchemes"]["accessKey"]["scheme"] == "bearer"
    needs = {name: said.get("security") for name, (_, said) in operations(told).items()}
    assert needs["list_jobs"] == [{"accessKey": ["read"]}, {"accessKey": ["submit"]}]
    assert needs["move_jobs"] == [{"accessKey": ["operate"]}]
    assert {name for name, needed in needs.items() if needed is None} == {
        "list_problems", "get_problem", "health", "live", "ready",
    }  # fmt: skip
    for name, (_, said) in operations(told).items():
        assert ({"401", "403"} <= set(said["responses"])) is (needs[name] is not None), name
        assert ("503" in said["responses"]) is (name != "live"), name
    assert [name for name, (_, said) in operations(told).items() if "429" in said["responses"]] == [
        "submit_job", "submit_jobs",
    ]  # fmt: skip


def test_a_host_is_told_of_no_keys() -> None:
    app = FastAPI()
    app.include_router(routes(Service(nowhere()).context, OPEN))
    text = json.dumps(app.openapi())
    assert ("accessKey" in text, "securitySchemes" in text, '"401"' in text) == (False, False, False)


def test_headers_are_told(told: dict[str, Any]) -> None:
    submit = operations(told)["submit_job"][1]
    assert set(submit["responses"]["202"]["headers"]) == {
        "Location",
        "Retry-After",
        "Idempotency-Replayed",
        "X-Trace-Id",
    }
    assert {(each["name"], each["in"]) for each in submit["parameters"]} == {
        ("Idempotency-Key", "header"),
        ("traceparent", "header"),
    }
    assert set(submit["requestBody"]["content"]["application/json"]["examples"]) == {"least", "all"}
    get = operations(told)["get_job"][1]
    assert ("304" in get["responses"], "content" in get["responses"]["304"]) == (True, False)
    assert {"ETag", "Retry-After", "X-Trace-Id"} == set(get["responses"]["200"]["headers"])


def test_examples_are_what_the_service_takes(told: dict[str, Any]) -> None:
    models = {
        "submit_job": Submission, "submit_jobs": Batch, "move_jobs": BulkBody, "amend_job": Amendment,
        "put_pause": PauseBody, "create_key": KeyBody,
    }  # fmt: skip
    for name, model in models.items():
        examples = operations(told)[name][1]["requestBody"]["content"]["application/json"]["examples"]
        assert [model.model_validate(each["value"]) for each in examples.values()]


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(described(), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
