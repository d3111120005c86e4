"""Two at once on one job end as if one had come after the other, whichever they are and whoever holds the row."""

import itertools
from collections.abc import AsyncIterator

import pytest

from model.arena import Arena, How, Told, arena
from model.verbs import APART, ENDS, STARTS, VERBS
from support.database import Place

PAIRS = list(itertools.product(VERBS, VERBS))
RACES = [(at, first, second) for first, second in PAIRS if (first, second) not in APART for at in VERBS[first].at]


@pytest.fixture(scope="module")
async def ring(kept_place: Place) -> AsyncIterator[Arena]:
    await kept_place.empty()
    async with arena(kept_place) as made:
        yield made


def test_every_pair_meets_or_it_is_said_why_not() -> None:
    meeting = {(first, second) for _, first, second in RACES}
    assert meeting | set(APART) == set(PAIRS)
    assert not meeting & set(APART)
    assert {at for verb in VERBS.values() for at in verb.at} == set(STARTS)


@pytest.mark.parametrize(("at", "first", "second"), RACES)
async def test_two_at_once(ring: Arena, at: str, first: str, second: str) -> None:
    waited = await _first_commits(ring, at, first, second, How.COMMITS)
    if waited:
        await _first_commits(ring, at, first, second, How.COMMITS_LATE)
    await _first_is_undone(ring, at, first, second)


async def _first_commits(ring: Arena, at: str, first: str, second: str, how: How) -> bool:
    in_order, turned = await ring.one_by_one(at, first, second), await ring.one_by_one(at, second, first)
    told, waited = await ring.at_once(at, first, second, how)
    if told not in (in_order, Told(turned.answers[::-1], turned.there)):
        assert told.answers[1] == VERBS[second].nothing, (how, told, in_order, turned)
        assert told.there == (await ring.one_by_one(at, first)).there
        assert await ring.and_again(second) == in_order.there
    return waited


async def _first_is_undone(ring: Arena, at: str, first: str, second: str) -> None:
    alone = await ring.one_by_one(at, second)
    told, _ = await ring.at_once(at, first, second, How.IS_UNDONE)
    # of two that end one attempt in the same way the history does not tell which one it was
    refused = {"DBAPIError", "CommitFailedError", *(["STALE"] if first == "complete" else [])}
    assert told.answers[0] in refused or {first, second} <= ENDS
    if (told.answers[1:], told.there) != (alone.answers, alone.there):
        assert told.answers[1] == VERBS[second].nothing, (told, alone)
        assert await ring.and_again(second) == alone.there
