from collections.abc import AsyncIterator

import pytest

from support.database import Place
from support.host import Host


@pytest.fixture
async def host(place: Place) -> AsyncIterator[Host]:
    async with Host.at(place) as made:
        yield made
