"""Statements that are sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import asyncpg
from sqlalchemy import event

from support.world import Place


@contextmanager
def statements(place: Place, *, with_values: bool = False) -> Iterator[list[str]]:
    """Single statements that are sent meanwhile, whitespace folded: by the driver, or through the groups' pool."""
    sent: list[str] = []
    fetch = asyncpg.Connection.fetch

    def note(statement: str, values: object) -> None:
        sent.append(" ".join(statement.split()) + (f" {values}" if with_values else ""))

    async def noted(self: Any, statement: str, *args: Any, **more: Any) -> Any:
        if self is not place.psql:
            note(statement, args)
        return await fetch(self, statement, *args, **more)

    def heard(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        note(statement, values)

    engine = place.database.grouped.sync_engine
    event.listen(engine, "before_cursor_execute", heard)
    try:
        with mock.patch.object(asyncpg.Connection, "fetch", noted):
            yield sent
    finally:
        event.remove(engine, "before_cursor_execute", heard)
