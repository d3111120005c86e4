"""Each scenario in small: the same processes, faults and questions as in its full size, for some seconds."""

from collections.abc import AsyncIterator

import pytest

from chaos.process import Nursery
from chaos.scenario import play
from chaos.scenarios import SCENARIOS


@pytest.fixture(scope="session")
async def nursery() -> AsyncIterator[Nursery]:
    async with Nursery.opened() as nursery:
        yield nursery


EVERYDAY = "kill-9"
NAMES = [pytest.param(name, marks=() if name == EVERYDAY else pytest.mark.verify) for name in SCENARIOS]


@pytest.mark.parametrize("name", NAMES)
async def test_what_must_be_zero_is_zero(name: str, nursery: Nursery) -> None:
    scenario = SCENARIOS[name]
    result = await play(scenario, scenario.small, 1, nursery)
    print(f"\n{result}")
    assert result.wrong == []
