from collections.abc import AsyncIterator

import pytest

from support.host import Host
from support.world import Place


@pytest.fixture
async def host(place: Place) -> AsyncIterator[Host]:
    async with Host.at(place) as made:
        yield made
