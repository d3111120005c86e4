"""A host's FastAPI app with a Jobtrail of its own, in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx
from fastapi import FastAPI

from jobtrail import Jobtrail, Settings
from jobtrail.task.task import Task
from support import tasks
from support.service import client_of
from support.world import Place

TASKS: list[Task[..., Any]] = [each for each in vars(tasks).values() if isinstance(each, Task)]


def settings_at(url: str, **said: Any) -> Settings:
    """A poll comes too late for any test: what runs in time was launched."""
    return Settings(
        **{"database_url": url, "poll_every": 20, "grace": 5, "slots": 8, "threads": 2, "processes": 0, **said}
    )


class Host:
    """`client` calls the app; its routes are added by the test."""

    def __init__(self, trail: Jobtrail, app: FastAPI) -> None:
        self.trail = trail
        self.app = app
        self.client: httpx.AsyncClient = client_of(app, raise_app_exceptions=False)

    @classmethod
    @asynccontextmanager
    async def at(cls, place: Place, *, url: str = "", app: FastAPI | None = None, **parts: Any) -> AsyncIterator[Self]:
        """`said` in `parts` are settings, the rest is Jobtrail's."""
        settings = settings_at(url or place.url.libpq, **parts.pop("said", {}))
        trail = Jobtrail(settings, **{"tasks": TASKS, **parts})
        host = cls(trail, app or FastAPI())
        async with trail.lifespan(), host.client:
            yield host

    async def post(self, path: str, status: int, **sent: Any) -> Any:
        answer = await self.client.post(path, **sent)
        assert answer.status_code == status, answer.text
        return answer.json()
