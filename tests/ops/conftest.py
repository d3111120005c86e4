import pytest

from jobtrail.jobs.services import Desk
from support import house
from support.database import Place


@pytest.fixture
def desk(place: Place) -> Desk:
    return house.desk_at(place)
