import pytest

from jobtrail.lifecycle import bulk as module
from jobtrail.lifecycle.desk import Desk
from support import house
from support.database import Place


@pytest.fixture
def desk(place: Place) -> Desk:
    return house.desk_at(place)


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs in a batch."""
    monkeypatch.setattr(module, "BATCH", 2)
