"""Somebody else who rescues all the time, in a thread with a loop that no task blocks."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from jobtrail.db.engine import open_database
from jobtrail.jobs.rescue import rescue
from support.world import Place


@contextmanager
def rescuing(place: Place, node: UUID) -> Iterator[None]:
    """`node` judges, in the meantime."""
    over = threading.Event()

    async def rescue_all() -> None:
        database = open_database(place.url.sqlalchemy)
        while not over.is_set():
            await rescue(database, node=node, by="another node")
            await asyncio.sleep(0.05)
        await database.dispose()

    thread = threading.Thread(target=asyncio.run, args=[rescue_all()])
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
