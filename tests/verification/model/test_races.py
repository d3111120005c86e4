"""Two at once on one job end as if one had come after the other, whichever they are and whoever holds the row."""

import itertools
from collections.abc import AsyncIterator

import pytest

from model.arena import Arena, How, Told, arena
from model.verbs import APART, OFFERED, STARTS, VERBS
from support.world import Place

PAIRS = list(itertools.product(VERBS, VERBS))
RACES = [(at, first, second) for first, second in PAIRS if (first, second) not in APART for at in VERBS[first].at]
EVERYDAY = [
    ("given back", "claim next", "claim it"),
    ("silent", "rescue", "succeed"),
    ("silent", "renew", "try again"),
    ("silent", "complete", "cancel"),
    ("over", "retry", "purge"),
    ("given back", "put off", "amend"),
    ("unborn", "submit", "submit"),
]
"""Each verb once."""


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


def test_the_everyday_races_are_of_every_verb() -> None:
    assert set(EVERYDAY) < set(RACES)
    assert {verb for _, *verbs in EVERYDAY for verb in verbs} == set(VERBS)


@pytest.mark.parametrize(
    ("at", "first", "second"),
    [pytest.param(*race, marks=() if race in EVERYDAY else pytest.mark.verify) for race in RACES],
)
async def test_two_at_once(ring: Arena, at: str, first: str, second: str) -> None:
    waited = await _first_commits(ring, at, first, second, How.COMMITS)
    if waited:
        await _first_commits(ring, at, first, second, How.COMMITS_LATE)
    if first in OFFERED:  # it comes again, so it is as if it had come a little later
        await _first_commits(ring, at, first, second, How.IS_UNDONE)
    else:
        await _first_is_undone(ring, at, first, second)


async def _first_commits(ring: Arena, at: str, first: str, second: str, how: How) -> bool:
    in_order, turned = await ring.one_by_one(at, first, second), await ring.one_by_one(at, second, first)
    told, waited = await ring.at_once(at, first, second, how)
    if how is How.IS_UNDONE and told.answers[0] == VERBS[first].nothing:  # it came again while the second held the row
        assert (told.answers[1:], told.there) == ((alone := await ring.one_by_one(at, second)).answers, alone.there)
    elif told not in (in_order, Told(turned.answers[::-1], turned.there)):
        assert told.answers[1] == VERBS[second].nothing, (how, told, in_order, turned)
        assert told.there == (await ring.one_by_one(at, first)).there
        assert await ring.and_again(second) == in_order.there
    return waited


async def _first_is_undone(ring: Arena, at: str, first: str, second: str) -> None:
    alone = await ring.one_by_one(at, second)
    told, _ = await ring.at_once(at, first, second, How.IS_UNDONE)
    assert told.answers[0] in {
        "DBAPIError",
        "DataError",
        "CommitFailedError",
        *(["STALE"] if first == "complete" else []),
    }
    if (told.answers[1:], told.there) != (alone.answers, alone.there):
        assert told.answers[1] == VERBS[second].nothing, (told, alone)
        assert await ring.and_again(second) == alone.there
