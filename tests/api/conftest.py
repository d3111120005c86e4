from collections.abc import AsyncIterator

import pytest

from support.database import Place
from support.service import Service, idle, working


@pytest.fixture
async def service(place: Place) -> AsyncIterator[Service]:
    """Without a node: jobs stay pending."""
    async with idle(place) as made:
        yield made


@pytest.fixture
async def running(place: Place) -> AsyncIterator[Service]:
    """With a node: jobs are run."""
    async with working(place) as made:
        yield made
