from collections.abc import AsyncIterator

import httpx
import pytest

from jobtrail.api.routes import install
from support.service import Service, client_of, idle, working
from support.world import Place, services_at


@pytest.fixture(scope="session")
async def kept_service(kept_place: Place) -> AsyncIterator[Service]:
    """Its routes take a tenth of a second to make."""
    async with idle(kept_place) as made:
        yield made


@pytest.fixture
def service(place: Place, kept_service: Service) -> Service:  # noqa: ARG001 - the database is empty
    """Without a node: jobs stay pending."""
    kept_service.launched.clear()
    kept_service.accepting = True
    return kept_service


@pytest.fixture
async def running(place: Place) -> AsyncIterator[Service]:
    """With a node: jobs are run."""
    async with working(place) as made:
        yield made


@pytest.fixture(scope="module")
async def caller(kept_place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the stand-alone service. One database for all."""
    service = Service(services_at(kept_place))
    install(service.app, service.context)
    async with client_of(service.app) as client:
        client.base_url = httpx.URL("http://jobs.test/v1/")
        yield client


@pytest.fixture
async def untouched(kept_place: Place) -> AsyncIterator[None]:
    """Nothing is stored or moved meanwhile."""
    tables = ("jobs", "transitions", "pauses", "keys", "schedules")
    count = "SELECT " + ", ".join(f"(SELECT count(*) FROM jobtrail.{each}) AS {each}" for each in tables)
    before = await kept_place.rows(count)
    yield
    assert await kept_place.rows(count) == before
