import pytest

from jobtrail.jobs.services import Services
from support import house
from support.database import Place


@pytest.fixture
def services(place: Place) -> Services:
    return house.services_at(place)
