from collections.abc import AsyncIterator

import httpx
import pytest

from jobtrail.api.routes import install, routes
from support.database import Place
from support.house import services_at
from support.service import OPEN, Service, client_of, idle, working


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


@pytest.fixture(scope="module", params=["/v1", "/inner"])
async def caller(kept_place: Place, request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    """Of the service, or of a host's app that has our routes under a prefix. One database for all."""
    service = Service(services_at(kept_place))
    if request.param == "/v1":
        install(service.app, service.door)
    else:
        service.app.include_router(routes(service.door, OPEN), prefix="/inner")
    async with client_of(service.app) as client:
        client.base_url = httpx.URL(f"http://jobs.test{request.param}/")
        yield client


@pytest.fixture
async def untouched(kept_place: Place) -> AsyncIterator[None]:
    """Nothing is stored or moved meanwhile."""
    count = "SELECT (SELECT count(*) FROM jobtrail.jobs) AS jobs, (SELECT count(*) FROM jobtrail.transitions) AS moves"
    before = await kept_place.rows(count)
    yield
    assert await kept_place.rows(count) == before
