import pytest

from jobtrail.jobs.services import Services
from support import world
from support.world import Place


@pytest.fixture
def services(place: Place) -> Services:
    return world.services_at(place)
