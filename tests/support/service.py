"""The stand-alone service in this process, and a caller of it."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from starlette.requests import Request

from jobtrail.api.access import Access
from jobtrail.api.context import ServiceContext
from jobtrail.api.routes import Guards, install
from jobtrail.callers import ANONYMOUS, SCOPES, Caller, Scope
from jobtrail.jobs.services import Services
from support.until import until
from support.world import Place, node_at, services_at

MAX_BODY = 100_000
SHORT = timedelta(milliseconds=50)
"""The longest event stream: a caller in this process gets an answer when it is whole."""
OPEN: Guards = dict.fromkeys(SCOPES, ())


class NoAuth:
    """Everybody may do everything."""

    async def admit(self, request: Request, needs: Collection[Scope]) -> None:
        pass

    async def confirm(self, request: Request, needs: Collection[Scope]) -> None:
        pass

    def caller(self, _request: Request) -> Caller:
        return ANONYMOUS


@dataclass
class Service:
    """The stand-alone service and a caller of it. `launched` is what its node was told; `accepting` may be switched."""

    services: Services
    launched: list[UUID] = field(default_factory=list)
    accepting: bool = True
    app: FastAPI = field(default_factory=FastAPI)
    access: Access = field(default_factory=NoAuth)
    client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = client_of(self.app)

    @property
    def context(self) -> ServiceContext:
        return ServiceContext(
            self.services, self._launch, lambda: self.accepting, MAX_BODY, self.access, stream_max=SHORT
        )

    def _launch(self, job_id: UUID, _task: str, _queue: str) -> None:
        self.launched.append(job_id)

    async def submitted(self, task: str = "noop", **wanted: Any) -> dict[str, Any]:
        answer = await self.client.post("/v1/jobs", json={"task": task, **wanted})
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def job(self, job_id: str) -> dict[str, Any]:
        return dict((await self.client.get(f"/v1/jobs/{job_id}")).json())

    async def ended(self, job_id: str) -> dict[str, Any]:
        async def terminal() -> dict[str, Any] | None:
            job = await self.job(job_id)
            return job if job["finished_at"] else None

        return await until(terminal)

    async def until_status(self, job_id: str, status: str) -> None:
        async def reached() -> bool:
            return bool((await self.job(job_id))["status"] == status)

        await until(reached)


def client_of(app: FastAPI, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, **options), base_url="http://jobs.test")


@asynccontextmanager
async def idle(place: Place) -> AsyncIterator[Service]:
    """Without a node: jobs stay pending."""
    made = Service(services_at(place))
    install(made.app, made.context)
    async with made.client:
        yield made


@asynccontextmanager
async def working(place: Place, **work: Any) -> AsyncIterator[Service]:
    """With a node: jobs are run."""
    services = services_at(place)
    async with node_at(services, place, **work) as node:
        made = Service(services)
        install(made.app, ServiceContext(services, node.launch, node.accepting, MAX_BODY, NoAuth()))
        async with made.client:
            yield made
