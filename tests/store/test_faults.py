import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from jobtrail.job.errors import UnavailableError
from jobtrail.store.faults import unavailable
from support.database import Place


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("40P01", "about to change the same"),  # a deadlock
        ("40001", "about to change the same"),
        ("55P03", "did not answer in time"),  # a lock
        ("57P01", "did not answer in time"),  # it shuts down
        ("57014", "did not answer in time"),  # the statement timeout
        ("53300", "away or out of room"),  # it has too many clients
        ("53100", "away or out of room"),  # its disk is full
        ("25006", "read-only"),
        ("23505", None),
        ("42P01", None),
    ],
)
async def test_what_passes_by_itself_is_worth_another_try(place: Place, state: str, told: str | None) -> None:
    failing = text(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$")
    async with place.database.sessions() as session:
        with pytest.raises(UnavailableError if told else DBAPIError, match=told), unavailable():
            await session.execute(failing)
