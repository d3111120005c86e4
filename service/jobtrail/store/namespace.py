"""One schema is one app's world. Every statement here names the schema `jobtrail`, so that it can be found by its words
and runs in psql as it is; for another schema its qualifier is rewritten as the statement is sent.

Not by `search_path`: behind PgBouncer, and on a host's connections, it would belong to whoever set it last.
"""

import re
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail.job.limits import DEFAULT_SCHEMA

SCHEMA: Final = DEFAULT_SCHEMA
"""As the statements say it."""

NAME: Final = "(parse_ident('jobtrail.jobs'))[1]"
"""The name of the schema as a text within a statement, where it is rewritten too."""

# `jobtrail.actor` is a session variable; `jobtrail.%` stands in a message of a trigger
_QUALIFIER: Final = re.compile(r"(?<![\w.])jobtrail\.(?!actor\b)(?=[a-z_%])")


@lru_cache(maxsize=1024)
def of_schema(sql: str, schema: str) -> str:
    """The same statement for the tables and functions of `schema`."""
    return sql if schema == SCHEMA else _QUALIFIER.sub(f'"{schema}".', sql)


def keep_to(engine: AsyncEngine, schema: str) -> None:
    """Send all statements of this engine, and of no other on the same pool, to the tables of `schema`."""
    if schema == SCHEMA:
        return

    def rewrite(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> tuple[str, Any]:
        return of_schema(statement, schema), parameters

    event.listen(engine.sync_engine, "before_cursor_execute", rewrite, retval=True)
