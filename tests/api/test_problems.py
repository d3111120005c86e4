import inspect
import logging
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from jobtrail import errors
from jobtrail.api import problems, schemas
from jobtrail.api.problems import BY_SLUG, INTERNAL, PROBLEM_TYPES
from jobtrail.jobs.services import Services
from support.service import Service, client_of

NEVER_OVER_HTTP = {
    errors.JobtrailError,  # only its kinds are raised
    errors.DeclarationError,  # at import
    errors.SettingsError,  # at start
    errors.ResultNotJsonError,  # the end of an attempt
    errors.ResultTooLargeError,  # the end of an attempt
    errors.CommitFailedError,  # the end of an attempt
    errors.NotStorableError,  # the end of an attempt
    errors.PurgeRefusedError,  # the node, and `jobtrail purge`
    errors.AppKeyReusedError,  # a key that a developer writes in a host's own code
    errors.ProcessDiedError,  # the end of an attempt
    errors.LeftBehindError,  # the end of an attempt
    errors.ContextError,  # in a task
    errors.CheckpointError,  # in a task
    errors.JobSessionError,  # in a task
    errors.JobFailedError,  # to who waits for a job in Python
    errors.JobCancelledError,  # the same
    errors.AlreadyRunningError,  # at start
    errors.NotRunningError,  # in a host that does not start us
}


def test_every_error_has_its_row() -> None:
    found = {
        each
        for module in (errors, problems)
        for _, each in inspect.getmembers(module, inspect.isclass)
        if issubclass(each, errors.JobtrailError)
    }
    assert found - NEVER_OVER_HTTP == {each for each in PROBLEM_TYPES if issubclass(each, errors.JobtrailError)}


def test_a_slug_is_of_one_kind() -> None:
    kinds = set(PROBLEM_TYPES.values())
    assert len({kind.slug for kind in kinds}) == len(kinds)
    assert set(BY_SLUG.values()) >= kinds


async def test_every_type_is_explained(service: Service) -> None:
    listed = schemas.ProblemKindList.model_validate_json(
        (await service.client.get("/v1/problems")).content, strict=True
    )
    assert {each.type for each in listed.items} == {f"/v1/problems/{slug}" for slug in BY_SLUG}
    for each in listed.items:
        answer = await service.client.get(each.type)
        assert schemas.ProblemKind.model_validate_json(answer.content, strict=True) == each
        assert (each.example.errors is not None) == (each.status == 422)


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/v1", 404, "not-found"),
        ("GET", "/v1/jobs/", 404, "not-found"),
        ("GET", "/%00", 404, "not-found"),
        ("GET", "//jobs.test/v1", 404, "not-found"),
        ("PUT", "/v1/jobs", 405, "method-not-allowed"),
        ("TRACE", "/health", 405, "method-not-allowed"),
        ("POST", "/openapi.json", 405, "method-not-allowed"),
    ],
)
async def test_the_frameworks_own_errors_are_problems_too(
    service: Service, method: str, path: str, status: int, slug: str
) -> None:
    answer = await service.client.request(method, f"http://jobs.test{path}")
    problem = schemas.JobtrailProblem.model_validate_json(answer.content, strict=True)
    assert (answer.status_code, problem.type) == (status, f"/v1/problems/{slug}")
    assert answer.headers["X-Trace-Id"] == problem.trace_id
    assert answer.headers["Content-Type"] == "application/problem+json"


async def test_a_wrong_method_is_told_all_the_right_ones(service: Service) -> None:
    assert (await service.client.put("/v1/jobs")).headers["Allow"] == "GET, HEAD, POST"
    job = await service.client.put("/v1/jobs/00000000-0000-0000-0000-000000000000")
    assert job.headers["Allow"] == "GET, HEAD, PATCH, DELETE"
    for concrete in ("batch", "bulk"):  # no id of a job, though it stands where one would be
        refused = await service.client.patch(f"/v1/jobs/{concrete}", json={})
        assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")


async def test_other_routes_of_the_service_answer_with_problems(service: Service) -> None:
    async def typed(n: int) -> int:
        return n

    async def failing() -> None:
        raise RuntimeError("the secret")

    async def teapot() -> None:
        raise HTTPException(418, "short and stout", {"X-Spout": "1"})

    for endpoint in (typed, failing, teapot):
        service.app.add_api_route(f"/{endpoint.__name__}", endpoint)
    async with client_of(service.app, raise_app_exceptions=False) as client:
        wrong, failed, refused = [await client.get(path) for path in ("/typed?n=x", "/failing", "/teapot")]
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "?n")
    assert (failed.status_code, failed.json()["type"], "secret" in failed.text) == (
        500,
        "/v1/problems/internal-error",
        False,
    )
    assert (refused.status_code, refused.json()["type"], refused.json()["title"]) == (
        418,
        "about:blank",
        "I'm a Teapot",
    )
    assert (refused.json()["detail"], refused.headers["X-Spout"]) == ("short and stout", "1")


async def test_a_mistake_of_ours_is_told_to_the_log_only(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even a caller who knows how: the traceback is in the log, under the trace id that the caller has."""

    class Broken(Exception):  # noqa: N818 - it is no error of ours
        pass

    def fail(_self: Services) -> Any:
        raise Broken("the secret")

    monkeypatch.setattr(Services, "session", fail)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with caplog.at_level(logging.ERROR):
        answer = await service.client.get("/v1/nodes", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    problem = schemas.JobtrailProblem.model_validate_json(answer.content, strict=True)
    assert (answer.status_code, problem.type, problem.detail) == (500, "/v1/problems/internal-error", INTERNAL.meaning)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["X-Trace-Id"] == problem.trace_id == trace
    (record,) = [each for each in caplog.records if each.name == "jobtrail.api.problems"]
    assert record.__dict__["trace_id"] == trace
    assert record.exc_info is not None
    assert "the secret" in str(record.exc_info[1])
