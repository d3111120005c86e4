from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from support.faces import FACES, client_at
from support.served import CHECKOUT, Served
from support.servers import reachable_folder
from support.world import Place

TASKS = {"JOBTRAIL_TASKS": "support.errands"}


@pytest.fixture(scope="module")
async def served(kept_place: Place) -> AsyncIterator[Served]:
    """A service of its own, which all tests of a module share: each looks at its own jobs."""
    await kept_place.empty()
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(reachable_folder())
        settings = {**CHECKOUT, **TASKS}
        yield await stack.enter_async_context(Served.start(folder, kept_place.setting, **settings))


@pytest.fixture
def url(served: Served) -> str:
    return f"{str(served.client.base_url).rstrip('/')}/v1"


@pytest.fixture(params=FACES)
async def client(request: pytest.FixtureRequest, url: str) -> AsyncIterator[Any]:
    async with client_at(request.param, url) as client:
        yield client
