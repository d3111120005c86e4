"""What the service says of itself. After a change that is meant:

PYTHONPATH=service:tests python tests/api/test_openapi.py
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from jobtrail.api.bodies import Batch, BulkBody
from jobtrail.api.ops import KeyBody, LimitBody, PauseBody
from jobtrail.api.routes import install, routes
from jobtrail.db.engine import open_database
from jobtrail.jobs.services import Services
from jobtrail.task.catalog import Catalog
from jobtrail.task.schedule import ScheduleSpec
from jobtrail.task.submission import Amendment, Submission
from support.service import OPEN, Service

SNAPSHOT = Path(__file__).with_name("openapi.json")

OF_VALUES = ("if", "then", "else", "not")
"""They make no models."""


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


def test_every_call_is_described(told: dict[str, Any]) -> None:
    for name, (_, said) in operations(told).items():
        assert (len(said["tags"]), bool(said["summary"]), bool(said["description"])) == (1, True, True), name


def test_every_reference_leads_somewhere(told: dict[str, Any]) -> None:
    text = json.dumps(told)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= told["components"]["schemas"].keys()
    assert "JobtrailProblem" in named
    assert "HTTPValidationError" not in text


def test_no_model_is_without_a_name(told: dict[str, Any]) -> None:
    """Generators of clients name a model by the path to it, and leave out the call where two have one name."""

    def alternatives(said: Any) -> Iterator[dict[str, Any]]:
        match said:
            case dict():
                for word in ("anyOf", "oneOf", "allOf"):
                    yield from said.get(word, ())
                yield from (
                    found for word, each in said.items() if word not in OF_VALUES for found in alternatives(each)
                )
            case list():
                yield from (found for each in said for found in alternatives(each))

    fields = [field for each in alternatives(told) for field in each.get("properties", {}).values()]
    assert len(fields) > 1
    assert [field for field in fields if "properties" in field] == []


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
    assert {name for name, needed in needs.items() if needed is None} == {
        "list_problems", "get_problem", "health", "live", "ready",
    }  # fmt: skip
    for name, (_, said) in operations(told).items():
        assert ({"401", "403"} <= set(said["responses"])) is (needs[name] is not None), name
        assert ("503" in said["responses"]) is (name != "live"), name


def test_a_host_is_told_of_no_keys() -> None:
    app = FastAPI()
    app.include_router(routes(Service(nowhere()).context, OPEN))
    text = json.dumps(app.openapi())
    assert ("accessKey" in text, "securitySchemes" in text, '"401"' in text) == (False, False, False)


def test_examples_are_what_the_service_takes(told: dict[str, Any]) -> None:
    models = {
        "submit_job": Submission, "submit_jobs": Batch, "move_jobs": BulkBody, "amend_job": Amendment,
        "put_pause": PauseBody, "put_limit": LimitBody, "create_key": KeyBody, "put_schedule": ScheduleSpec,
    }  # fmt: skip
    for name, model in models.items():
        examples = operations(told)[name][1]["requestBody"]["content"]["application/json"]["examples"]
        assert [model.model_validate(each["value"]) for each in examples.values()]


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(described(), indent=1, sort_keys=True, ensure_ascii=False) + "\n")
