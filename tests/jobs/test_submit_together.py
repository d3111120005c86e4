"""Several jobs of one caller: all of them or none, and callers with the same keys do not stop each other."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from jobtrail.errors import IdempotencyKeyReusedError
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import app_keyed, prepare, submit_together
from jobtrail.records import NewJob
from jobtrail.task.submission import Submission
from support.world import Place


def job(services: Services, key: str | None = None, **args: Any) -> NewJob:
    wanted = Submission(task="noop", args=args)
    new = prepare(services, wanted, by="ann", trace_id=None)
    return new if key is None else app_keyed(new, key)


async def test_all_or_none(services: Services, place: Place) -> None:
    [first] = await submit_together(services, [job(services, "a", n=1)])
    assert await submit_together(services, []) == []
    with pytest.raises(IdempotencyKeyReusedError):
        await submit_together(services, [job(services), job(services, "b"), job(services, "a", n=2)])
    assert await place.value("SELECT array_agg(id) FROM jobtrail.jobs") == [first]


async def test_each_gets_the_id_that_it_is_stored_under(services: Services) -> None:
    first = await submit_together(services, [job(services, "a"), job(services, "b")])
    new = job(services)
    again = await submit_together(services, [job(services, "b"), new, job(services, "a")])
    assert again == [first[1], new.id, first[0]]


async def test_crossing_keys_of_callers_at_once(services: Services) -> None:
    async def both(number: int, *letters: str) -> set[UUID]:
        return set(await submit_together(services, [job(services, f"{letter}{number}") for letter in letters]))

    pairs = [await asyncio.gather(both(number, "a", "b"), both(number, "b", "a")) for number in range(50)]
    assert all(one == other for one, other in pairs)
