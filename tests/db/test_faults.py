from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from jobtrail.db.engine import open_database
from jobtrail.db.errors import unavailable
from jobtrail.errors import UnavailableError
from support.world import Place


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


async def test_a_connection_that_ends_as_it_is_taken_over(place: Place) -> None:
    """The driver's own error comes through then, without SQLAlchemy's around it."""
    database = open_database(place.url.sqlalchemy)

    def cut(dialect: Any, _record: object, args: Any, options: Any) -> Any:
        made = dialect.connect(*args, **options)
        made.driver_connection.terminate()
        return made

    for engine in (database.grouped, database.engine):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))  # the first of an engine is another matter
        await engine.dispose()
        event.listen(engine.sync_engine, "do_connect", cut)
    with pytest.raises(UnavailableError, match="away or out of room"), unavailable():
        async with database.autocommit():
            raise AssertionError("it is not connected")
    with pytest.raises(UnavailableError, match="away or out of room"), unavailable():
        async with database.transaction() as session:
            await session.execute(text("SELECT 1"))
    await database.dispose()
