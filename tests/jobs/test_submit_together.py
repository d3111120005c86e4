"""Several jobs of one caller: all of them or none, and callers with the same keys do not stop each other."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from jobtrail.job.errors import IdempotencyKeyReusedError
from jobtrail.job.record import NewJob
from jobtrail.job.submission import Submission
from jobtrail.jobs.services import Desk
from jobtrail.jobs.submit import app_keyed, prepare, submit_together
from support.database import Place


def job(desk: Desk, key: str | None = None, **args: Any) -> NewJob:
    wanted = Submission(task="noop", args=args)
    new = prepare(desk, wanted, by="ann", trace_id=None)
    return new if key is None else app_keyed(new, key)


async def test_all_or_none(desk: Desk, place: Place) -> None:
    [first] = await submit_together(desk, [job(desk, "a", n=1)])
    assert await submit_together(desk, []) == []
    with pytest.raises(IdempotencyKeyReusedError):
        await submit_together(desk, [job(desk), job(desk, "b"), job(desk, "a", n=2)])
    assert await place.value("SELECT array_agg(id) FROM jobtrail.jobs") == [first]


async def test_each_gets_the_id_that_it_is_stored_under(desk: Desk) -> None:
    first = await submit_together(desk, [job(desk, "a"), job(desk, "b")])
    new = job(desk)
    again = await submit_together(desk, [job(desk, "b"), new, job(desk, "a")])
    assert again == [first[1], new.id, first[0]]


async def test_crossing_keys_of_callers_at_once(desk: Desk) -> None:
    async def both(number: int, *letters: str) -> set[UUID]:
        return set(await submit_together(desk, [job(desk, f"{letter}{number}") for letter in letters]))

    pairs = [await asyncio.gather(both(number, "a", "b"), both(number, "b", "a")) for number in range(50)]
    assert all(one == other for one, other in pairs)
