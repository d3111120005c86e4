"""A secret's value: in the row, for its task; in no answer and no line of the log."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Annotated, Any, Self

import httpx
import pytest
from fastapi import FastAPI
from pydantic import AfterValidator, BaseModel, model_validator
from pydantic_core import PydanticCustomError

from jobtrail import task
from jobtrail.api.context import ServiceContext
from jobtrail.api.routes import install
from jobtrail.jobs.services import Services
from jobtrail.redaction import REDACTED, Redaction
from jobtrail.task.catalog import Catalog
from support.service import MAX_BODY, NoAuth, client_of
from support.world import Place

SECRET = "hunter2-in-the-clear"  # noqa: S105 - to be looked for
DEFAULT = "changeme-by-default"


def _refuse(value: str) -> str:
    """As a task's own validator may: with the value in its words."""
    if value.startswith("bad"):
        raise ValueError(f"{value} is bad")
    return value


Text = Annotated[str, AfterValidator(_refuse)]


class Account(BaseModel):
    user: str
    password: Text = DEFAULT


class Login(BaseModel):
    how: str
    account: dict[str, Any] = {}

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        """As above, in each of the ways in which a validator may refuse."""
        said = f"bad {self.account}"
        assert self.how != "assert", said
        raise {"custom": PydanticCustomError("own", "bad {it}", {"it": said}), "other": OSError(said)}.get(
            self.how, ValueError(said)
        )


@task
async def log_in(
    user: Text,
    api_key: Text = DEFAULT,
    account: Account | None = None,
    more: dict[str, Any] | None = None,
    login: Login | None = None,
) -> None: ...


ARGS = {
    "user": "ann",
    "api_key": SECRET,
    "account": {"user": "a", "password": SECRET},
    "more": {"l": [{"Token": SECRET}]},
}
SHOWN = {
    "user": "ann",
    "api_key": REDACTED,
    "account": {"user": "a", "password": REDACTED},
    "more": {"l": [{"Token": REDACTED}]},
}


@pytest.fixture
async def client(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    async with service(place, Redaction()) as made:
        yield made


def service(place: Place, redaction: Redaction) -> httpx.AsyncClient:
    app = FastAPI()
    services = Services(place.database, Catalog([log_in]))
    install(app, ServiceContext(services, lambda *_: None, lambda: True, MAX_BODY, NoAuth(), redaction=redaction))
    return client_of(app)


async def test_no_answer_has_it(client: httpx.AsyncClient, place: Place, caplog: pytest.LogCaptureFixture) -> None:
    wanted = {"task": "log_in", "args": ARGS}
    with caplog.at_level(logging.DEBUG):
        submitted = await client.post("/v1/jobs", json=wanted)
        path = f"/v1/jobs/{submitted.json()['id']}"
        keyed = [await client.post("/v1/jobs", json=wanted, headers={"Idempotency-Key": "k"}) for _ in range(2)]
        answers = [
            submitted,
            *keyed,
            await client.get(path),
            await client.patch(path, json={"ttl": 60}),
            await client.post(f"{path}/cancel"),
            await client.post(f"{path}/retry"),
            await client.delete(path),
        ]
        lists = [
            await client.post("/v1/jobs/batch", json={"jobs": [wanted]}),
            await client.get("/v1/jobs?include=args"),
        ]
    assert [answer.is_success for answer in (*answers, *lists)] == [True] * 10
    assert [answer.json()["args"] for answer in answers] == [SHOWN] * len(answers)
    assert [item["args"] for answer in lists for item in answer.json()["items"]] == [SHOWN] * 4
    for answer in (*answers, *lists):
        assert SECRET not in answer.text + str(answer.headers)
    assert SECRET not in caplog.text
    stored = await place.rows("SELECT args FROM jobtrail.jobs")
    assert [json.loads(row["args"]) for row in stored] == [ARGS] * 3, "the task needs it"


async def test_no_description_has_it(client: httpx.AsyncClient) -> None:
    for path in ("/v1/tasks", "/v1/tasks/log_in"):
        told = await client.get(path)
        assert DEFAULT not in told.text
        assert told.text.count(REDACTED) == 2


@pytest.mark.parametrize(
    ("args", "pointer", "shows"),
    [
        ({"user": f"bad {SECRET}"}, "/args/user", True),
        ({"user": "x", "api_key": f"bad {SECRET}"}, "/args/api_key", False),
        ({"user": "x", "api_key": [SECRET]}, "/args/api_key", False),
        ({"user": "x", "account": {"user": "a", "password": f"bad {SECRET}"}}, "/args/account/password", False),
        ({"user": "x", "login": {"how": "value", "account": {"password": SECRET}}}, "/args/login", False),
        ({"user": "x", "login": {"how": "assert", "account": {"a": [{"Token": SECRET}]}}}, "/args/login", False),
        ({"user": "x", "login": {"how": "custom", "account": {"password": SECRET}}}, "/args/login", False),
        ({"user": "x", "login": {"how": "other", "account": {"password": SECRET}}}, "/args/login", False),
        ({"user": "x", "login": {"how": "value", "account": {"name": SECRET}}}, "/args/login", True),
    ],
)
async def test_no_refusal_has_it(client: httpx.AsyncClient, args: Any, pointer: str, shows: bool) -> None:
    for prefix, path, body in (
        ("", "/v1/jobs", {"task": "log_in", "args": args}),
        ("/jobs/0", "/v1/jobs/batch", {"jobs": [{"task": "log_in", "args": args}]}),
    ):
        answer = await client.post(path, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, prefix + pointer)
        assert (SECRET in answer.text) is shows


async def test_the_words_of_pydantic_are_told_beside_a_secret(client: httpx.AsyncClient) -> None:
    body = {"task": "log_in", "args": {"user": {"password": SECRET}}}
    answer = await client.post("/v1/jobs", json=body)
    assert answer.json()["errors"] == [{"pointer": "/args/user", "detail": "Input should be a valid string"}]


async def test_what_is_missing_or_unknown_is_told(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={"task": "log_in", "args": {"tokn": 1, "token": 1}})
    assert [(each["pointer"], each["detail"].split(";")[0]) for each in answer.json()["errors"]] == [
        ("/args/user", "this argument is missing"),
        ("/args/tokn", "there is no such argument"),
        ("/args/token", "there is no such argument"),
    ]


async def test_who_hides_nothing_sees_all(place: Place) -> None:
    async with service(place, Redaction(())) as client:
        answer = await client.post("/v1/jobs", json={"task": "log_in", "args": ARGS})
        assert answer.json()["args"] == ARGS
        assert DEFAULT in (await client.get("/v1/tasks")).text
