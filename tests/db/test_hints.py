"""Hints to other processes, as far as they are a matter of the sender alone."""

import asyncio
import logging
from typing import Any

import asyncpg
import pytest

from jobtrail.db.engine import open_database
from jobtrail.db.hints import Hints
from support.until import until
from support.world import Place


async def test_a_hint_that_fails_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    async def refuse(*_: object, payload: str, **__: object) -> None:
        tried.append(payload)
        raise asyncpg.InsufficientPrivilegeError("permission denied for function pg_notify")

    hints = Hints(refuse, "jobtrail.jobs")
    for queue in ("one", "two", "three"):
        hints.send(queue)

        async def is_tried(queue: str = queue) -> bool:
            return queue in tried

        await until(is_tried)
    await hints.close()
    hints.send("late")
    await asyncio.sleep(0)
    assert tried == ["one", "two", "three"]
    said = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    why = "the database refuses: permission denied for function pg_notify"
    assert said == [f"jobtrail: hint to other nodes: {why}; they find the jobs when they poll"]


async def test_two_schemas_do_not_hear_of_each_other(place: Place) -> None:
    said: list[tuple[str, str]] = []

    def note(*sent: Any) -> None:
        said.append(sent[2:])

    ours, theirs = (open_database(place.url.sqlalchemy, schema=schema) for schema in ("jobtrail", "shop"))
    for database in (ours, theirs):
        await place.psql.add_listener(database.hints.channel, note)
        database.hints.send(database.schema)
        await database.dispose()

    async def both() -> bool:
        return len(said) == 2

    await until(both)
    for channel, _ in said:
        await place.psql.remove_listener(channel, note)
    assert said == [("jobtrail.jobs", "jobtrail"), ("shop.jobs", "shop")]
