"""The addresses in our answers: under the prefix that was called, whatever else a host has."""

from collections.abc import Mapping

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException

from jobtrail import Jobtrail
from jobtrail.embed.router import Guard
from support.host import Host
from support.service import client_of

OPENED: Mapping[str, Guard] = {"read": "open", "submit": "open"}


def nobody() -> None:
    raise HTTPException(403)


def included(app: FastAPI, trail: Jobtrail) -> None:
    for prefix in ("/a", "/b", "/t/{tenant}", "/deep/{rest:path}/{number:int}"):
        app.include_router(trail.router(**OPENED), prefix=prefix)  # type: ignore[arg-type]


def one_router_twice(app: FastAPI, trail: Jobtrail) -> None:
    router = trail.router(**OPENED)  # type: ignore[arg-type]
    app.include_router(router, prefix="/a", dependencies=[Depends(nobody)])
    app.include_router(router, prefix="/b")
    middle = APIRouter(prefix="/{tenant}")
    middle.include_router(router)
    app.include_router(middle, prefix="/t")
    app.include_router(middle, prefix="/deep/x/y")


def mounted(app: FastAPI, trail: Jobtrail) -> None:
    app.include_router(trail.router(**OPENED))  # type: ignore[arg-type]
    for prefix, below in (("/b", ""), ("/t", "/{tenant}"), ("/deep/{x}", "/y/{number}")):
        inner = FastAPI()
        inner.include_router(trail.router(**OPENED), prefix=below)  # type: ignore[arg-type]
        app.mount(prefix, inner)


def mounted_bare(app: FastAPI, trail: Jobtrail) -> None:
    for prefix in ("/a", "/b", "/t/{tenant}", "/deep/{x}/y/{number}"):
        app.mount(prefix, trail.router(**OPENED))  # type: ignore[arg-type]


@pytest.mark.parametrize("have", [included, one_router_twice, mounted, mounted_bare])
async def test_addresses_are_below_the_prefix_that_was_called(host: Host, have: object) -> None:
    have(host.app, host.trail)  # type: ignore[operator]
    for proxy in ("", "/proxy"):
        async with client_of(host.app, root_path=proxy) as client:
            for prefix in ("/b", "/t/one", "/t/two%20%C3%A9%3F", "/deep/x/y/7"):
                await check_the_addresses(client, proxy + prefix)


async def check_the_addresses(client: httpx.AsyncClient, base: str) -> None:
    answers = [await client.post(f"{base}/jobs", json={"task": "noop"}) for _ in range(2)]
    for answer in answers:
        assert answer.headers["Location"] == f"http://jobs.test{base}/jobs/{answer.json()['id']}"
        assert (await client.get(answer.headers["Location"])).json()["id"] == answer.json()["id"]
    first = await client.get(f"{base}/jobs?limit=1&task=noop")
    assert first.links["next"]["url"].startswith(f"http://jobs.test{base}/jobs?limit=1&task=noop&cursor=")
    following = (await client.get(first.links["next"]["url"])).json()["items"]
    assert [each["task"] for each in following] == ["noop"]
    assert following != first.json()["items"]
    problem = (await client.get(f"{base}/jobs/x")).json()["type"]
    assert problem == f"{base}/problems/invalid-input"
    assert (await client.get(problem)).json()["type"] == problem


async def test_a_proxy_that_takes_its_part_off_the_path(host: Host) -> None:
    included(host.app, host.trail)
    async with client_of(host.app, root_path="/proxy/") as client:
        answer = await client.post("/t/one/jobs", json={"task": "noop"})
        assert answer.headers["Location"] == f"http://jobs.test/proxy/t/one/jobs/{answer.json()['id']}"
        assert (await client.get("/b/jobs/x")).json()["type"] == "/proxy/b/problems/invalid-input"


@pytest.mark.parametrize("prefix", ["/b", "/t/{tenant}", "/t/{job_id}", "/t/{slug}"])
async def test_what_is_open_elsewhere_is_no_address_here(host: Host, prefix: str) -> None:
    host.app.include_router(host.trail.router(**OPENED), prefix="/a")  # type: ignore[arg-type]
    host.app.include_router(host.trail.router(read=None, submit="open"), prefix=prefix)
    base = prefix.partition("{")[0] + ("one" if "{" in prefix else "")
    answer = await host.client.post(f"{base}/jobs", json={"task": "noop"})
    assert (answer.status_code, "Location" in answer.headers, answer.json()["created_by"]) == (202, False, "anonymous")
    assert (await host.client.post(f"{base}/jobs", json={})).json()["type"] == "about:blank"
    there = await host.client.post("/a/jobs", json={"task": "noop"})
    assert there.headers["Location"].startswith("http://jobs.test/a/jobs/")
