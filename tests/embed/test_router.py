"""`trail.router(…)`: our calls among a host's, behind its own guards."""

import re
from collections.abc import Mapping
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.security import APIKeyQuery

from jobtrail import Caller, Jobtrail
from jobtrail.callers import SCOPES, Scope
from jobtrail.embed.router import Guard
from support.host import Host
from support.tasks import fail
from support.world import Place

NOBODY = Jobtrail()
SOME = str(UUID(int=1))

SUBMIT = {"POST /jobs", "POST /jobs/batch", "POST /batches"}
OPERATE = {
    "POST /jobs/bulk", "PATCH /jobs/{job_id}", "DELETE /jobs/{job_id}", "POST /jobs/{job_id}/cancel",
    "POST /jobs/{job_id}/retry", "POST /batches/{batch_id}/cancel", "POST /batches/{batch_id}/retry",
    "PUT /pauses/{kind}/{name}", "DELETE /pauses/{kind}/{name}",
    "PUT /schedules/{name}", "DELETE /schedules/{name}", "POST /schedules/{name}/pause",
    "POST /schedules/{name}/resume", "POST /schedules/{name}/run", "POST /schedules/{name}/backfill",
    "PUT /limits/{key}", "DELETE /limits/{key}",
    "PUT /webhooks/{name}", "DELETE /webhooks/{name}", "POST /webhooks/{name}/rotate",
}  # fmt: skip


def staff(x_user: str = Header("")) -> None:
    if x_user not in ("ada", "bob"):
        raise HTTPException(401, "who are you?")


def admin(x_user: str = Header("")) -> None:
    if x_user != "ada":
        raise HTTPException(403, "not you")


def named(request: Request) -> str:
    return request.headers["x-user"]


def as_caller(request: Request) -> Caller:
    scopes: Mapping[str, frozenset[Scope]] = {"ada": frozenset(SCOPES), "bob": frozenset({"read", "submit"})}
    return Caller(named(request), scopes.get(named(request), frozenset({"submit"})))


ADA, BOB, EVE = ({"x-user": name} for name in ("ada", "bob", "eve"))


def calls_of(**guards: Guard) -> set[str]:
    app = FastAPI()
    app.include_router(NOBODY.router(**{"read": None, **guards}))  # type: ignore[arg-type]
    return {f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods}


def opened(host: Host, **guards: Guard) -> Host:
    host.app.include_router(host.trail.router(**guards), prefix="/office")  # type: ignore[arg-type]
    return host


def test_a_wrong_guard_is_refused_with_the_fix() -> None:
    wrong: list[Any] = [staff, "everybody", "", [], [staff], [Depends(staff), staff], True, Depends, {}]
    for scope, guard in product(SCOPES, wrong):
        with pytest.raises(
            TypeError, match=rf"^{scope}=.*: write a guard as in {scope}=Depends\(staff\), \"open\" for"
        ):
            NOBODY.router(**{"read": None, scope: guard})  # type: ignore[arg-type]


def test_each_call_is_in_one_group() -> None:
    everything = calls_of(read="open", submit="open", operate="open")
    assert calls_of() == set()
    assert calls_of(submit="open") == SUBMIT
    assert calls_of(operate="open") == OPERATE
    assert calls_of(read="open") == everything - SUBMIT - OPERATE
    assert {call for call in everything - SUBMIT - OPERATE if not call.startswith("GET ")} == set()
    assert not [call for call in everything if "/keys" in call or "health" in call]


@pytest.mark.parametrize("missing", SCOPES)
async def test_a_group_that_is_not_opened_is_not_there(host: Host, missing: Scope) -> None:
    """The host answers as for any other path that it has not."""
    opened(host, **{each: None if each == missing else "open" for each in SCOPES})
    calls = {"submit": SUBMIT, "operate": OPERATE, "read": {"GET /jobs", "GET /audit", "GET /jobs/{job_id}/log"}}
    for call in calls[missing]:
        method, path = call.split()
        answer = await host.client.request(method, "/office" + re.sub(r"{\w+}", SOME, path), json={})
        assert answer.json() in ({"detail": "Not Found"}, {"detail": "Method Not Allowed"}), call
        assert answer.status_code in (404, 405)


@pytest.mark.parametrize("scope", SCOPES)
async def test_every_call_of_a_group_is_behind_its_guards(host: Host, scope: Scope) -> None:
    opened(host, **{each: [Depends(staff), Depends(admin)] if each == scope else "open" for each in SCOPES})
    told = host.app.openapi()["paths"]
    calls = {"submit": SUBMIT, "operate": OPERATE}
    calls["read"] = {
        f"{method.upper()} {path.removeprefix('/office')}" for path, methods in told.items() for method in methods
    } - (SUBMIT | OPERATE)
    for call in calls[scope]:
        method, path = call.split()
        wrong = "/office" + re.sub(r"{\w+}", "no-uuid", path)
        for each, status in ((EVE, 401), (BOB, 403)):
            for verb in (method, "HEAD") if method == "GET" else (method,):
                answer = await host.client.request(verb, wrong, headers=each, json={"wrong": 1})
                assert answer.status_code == status, call
        assert answer.headers["Content-Type"] == "application/problem+json"


async def test_the_guards_ask_after_the_body_is_parsed_and_before_it_is_checked(place: Place) -> None:
    """As for any route of FastAPI: the body is read and parsed, then come the dependencies, then its fields."""
    async with Host.at(place, said={"max_body": 1024}) as host:
        opened(host, read=None, submit=Depends(staff))
        for sent, status in ((b'{"task": 5}', 401), (b"{", 400), (b"x" * 1025, 413)):
            answer = await host.client.post("/office/jobs", content=sent, headers={"Content-Type": "application/json"})
            assert answer.status_code == status
        assert (await host.client.post("/office/jobs", json={"task": 5}, headers=BOB)).status_code == 422


async def test_a_guard_may_read_the_query_and_names_of_ours_are_still_checked(host: Host) -> None:
    opened(host, read=Depends(APIKeyQuery(name="api_key")), submit="open", operate="open")
    job = await host.post("/office/jobs?tenant=t", 202, json={"task": "noop", "run_at": "2100-01-01T00:00:00Z"})
    for path in ("jobs", f"jobs/{job['id']}/log", "audit/slowest_jobs"):
        for query, status in (("limit=1", 200), ("tenant=t&tenant=u&limit=1", 200), ("limit=1&limit=2", 422)):
            answer = await host.client.get(f"/office/{path}?api_key=x&{query}")
            assert answer.status_code == status, (path, query, answer.text)
    cancelled = await host.client.delete(f"/office/jobs/{job['id']}?tenant=t&reason=why")
    assert (cancelled.status_code, cancelled.json()["cancel_reason"]) == (200, "why")


async def test_who_is_asked_after_the_guards_and_is_in_the_history(place: Place) -> None:
    asked: list[str] = []

    def guard(request: Request) -> None:
        asked.append("guard")
        staff(named(request))

    def who(request: Request) -> str:
        asked.append("who")
        return named(request)

    async with Host.at(place, who=who) as host:
        opened(host, read=None, submit=Depends(guard), operate=Depends(guard))
        await host.post("/office/jobs", 401, json={"task": "noop"}, headers=EVE)
        assert asked == ["guard"]
        later = {"task": "noop", "run_at": "2100-01-01T00:00:00Z"}
        job = await host.post("/office/jobs", 202, json=later, headers=BOB)
        assert asked[:3] == ["guard", "guard", "who"]
        await host.post(f"/office/jobs/{job['id']}/cancel", 200, headers=ADA, json={"reason": "enough"})
        await host.post(f"/office/jobs/{job['id']}/retry", 202, headers=BOB)
    assert job["created_by"] == "bob"
    history = await place.rows("SELECT to_status, actor FROM jobtrail.transitions WHERE actor <> 'node' ORDER BY seq")
    assert [(each["to_status"], each["actor"]) for each in history] == [
        ("pending", "bob"), ("cancelled", "ada"), ("pending", "bob"),
    ]  # fmt: skip


async def test_a_name_that_who_cannot_give_is_the_hosts_mistake(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    names: list[Any] = ["", "x" * 256, "a\nb", None, 5]

    def who(_: Request) -> Any:
        if names:
            return names.pop()
        raise HTTPException(401, "no session")

    async with Host.at(place, who=who) as host:
        opened(host, read=None, submit="open")
        for number in range(1, 6):
            assert "Jobtrail(who" not in str(await host.post("/office/jobs", 500, json={"task": "noop"}))
            found = re.findall(r"TypeError: Jobtrail\(who=…\) gave .*a name of 1 to 255 printable", caplog.text)
            assert len(found) >= number
        assert (await host.post("/office/jobs", 401, json={"task": "noop"}))["detail"] == "no session"
    assert await place.value("SELECT count(*) FROM jobtrail.jobs") == 0


READ_STAFF: dict[str, Guard] = {"read": Depends(staff), "submit": None, "operate": Depends(admin)}
SHOWN: list[tuple[Any, dict[str, Guard], dict[str, str], bool]] = [
    (None, READ_STAFF, ADA, False),
    (named, READ_STAFF, ADA, False),
    (as_caller, READ_STAFF, BOB, False),
    (as_caller, READ_STAFF, ADA, True),
    (None, {"read": Depends(staff), "operate": Depends(staff)}, BOB, True),
    (named, {"read": Depends(staff), "operate": Depends(staff)}, BOB, True),
    (as_caller, {"read": Depends(staff), "operate": Depends(staff)}, BOB, False),
    (None, {"read": "open", "operate": "open"}, EVE, True),
    (None, {"read": "open", "operate": None}, EVE, False),
    (None, {"read": "open", "operate": [Depends(staff)]}, EVE, False),
]


@pytest.mark.parametrize(("who", "guards", "caller", "shown"), SHOWN)
async def test_tracebacks_are_for_who_may_operate(
    place: Place, who: Any, guards: dict[str, Guard], caller: dict[str, str], shown: bool
) -> None:
    async with Host.at(place, who=who) as host:
        opened(host, **guards)
        job = await host.trail.submit(fail, "error")
        with pytest.raises(Exception, match="as asked"):
            await job.wait(timeout=60)
        for path in ("", "/transitions", "/log"):
            answer = await host.client.get(f"/office/jobs/{job.id}{path}", headers=caller)
            assert answer.status_code == 200
            assert path == "/log" or ("Traceback" in answer.text) is shown
            assert shown or "Traceback" not in answer.text
        listed = await host.client.get("/office/jobs?include=traceback", headers=caller)
        assert ("Traceback" in listed.text) is shown


async def test_who_may_only_submit_sees_its_own(place: Place) -> None:
    async with Host.at(place, who=as_caller) as host:
        opened(host, read="open", submit="open")
        mine = await host.post("/office/jobs", 202, json={"task": "noop"}, headers=EVE)
        other = await host.post("/office/jobs", 202, json={"task": "noop"}, headers=ADA)

        async def status(path: str, caller: dict[str, str]) -> int:
            return (await host.client.get(f"/office{path}", headers=caller)).status_code

        assert [await status(f"/jobs/{each['id']}", EVE) for each in (mine, other)] == [200, 404]
        assert [await status(f"/jobs/{each['id']}", BOB) for each in (mine, other)] == [200, 200]
        listed = await host.client.get("/office/jobs", headers=EVE)
        assert [each["id"] for each in listed.json()["items"]] == [mine["id"]]
        question = f"/audit/history_of_job?id={other['id']}"
        assert [await status(question, each) for each in (EVE, BOB)] == [403, 200]
