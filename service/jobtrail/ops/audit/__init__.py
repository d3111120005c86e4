"""The questions of `sql/`, asked from Python with the parameters, defaults and words of the files themselves."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Any, Final

from pydantic import Field
from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.errors import AuditTimeoutError, FieldError, InvalidInputError, UnknownQuestionError
from jobtrail.task.storable import check, clip, step

MOST_ROWS: Final = 10_000
"""An answer is held in memory and sent whole; psql has no such limit."""

_NUMBER: Final = re.compile(r"[0-9]{1,9}")


def settle(defaults: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """A value for each parameter. Raises InvalidInputError with a pointer for each name or value that is refused."""
    flaws: list[FieldError] = []
    for name, value in given.items():
        if name not in defaults:
            known = f"there is no such parameter; there are: {', '.join(defaults)}"
            flaws.append(FieldError(step(name), known))
        elif name == "limit" and not (_NUMBER.fullmatch(value) and 1 <= int(value) <= MOST_ROWS):
            flaws.append(FieldError(step(name), f"a whole number from 1 to {MOST_ROWS}"))
        else:
            flaws += [flaw.under(step(name)) for flaw in check(value)]
    if flaws:
        raise InvalidInputError(flaws)
    return {**defaults, **given}


QUERY_CANCELED: Final = "57014"
"""SQLSTATE of what statement_timeout ended (PostgreSQL, Appendix A)."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a question can be narrowed by, as `?name=value`."""

    # the default and every given value are texts, as psql has them; the SQL casts them
    name: str
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class Question:
    """Something an operator asks the database."""

    # `sql` refers to a parameter as `:'name'`; `file` is the whole, for psql
    name: str
    title: Annotated[str, Field(description="The question.")]
    note: Annotated[str, Field(description="What to know about its answer.")]
    parameters: tuple[Parameter, ...]
    sql: str
    file: Annotated[str, Field(exclude=True)] = ""


@dataclass(frozen=True, slots=True)
class Answer:
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def items(self) -> Sequence[dict[str, Any]]:
        """The rows by column, for JSON."""
        return [dict(zip(self.columns, map(json_value, row), strict=True)) for row in self.rows]


def json_value(value: Any) -> Any:
    """Numbers of any precision become JSON numbers."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)


@cache
def questions() -> Mapping[str, Question]:
    """All of them by name."""
    texts = {each.name: each.read_text("utf-8") for each in (files("jobtrail.ops.audit") / "sql").iterdir()}
    names = sorted(name.removesuffix(".sql") for name in texts if name.endswith(".sql"))
    return MappingProxyType({name: _read(name, texts[f"{name}.sql"]) for name in names})


def question(name: str) -> Question:
    """Raises UnknownQuestionError."""
    found = questions().get(name)
    if found is None:
        raise UnknownQuestionError(name, tuple(questions()))
    return found


async def ask(
    session: AsyncSession,
    question: Question,
    given: Mapping[str, str],
    *,
    time_limit: timedelta = timedelta(seconds=5),
) -> Answer:
    """The answer, read in a transaction of its own that cannot write and ends in a rollback, which `session` survives.

    Raises InvalidInputError with the pointers of the parameters that are unknown or make no sense, AuditTimeoutError.
    """
    values = settle({each.name: each.default for each in question.parameters}, given)
    if flaws := await _refused(session, question, values):
        raise InvalidInputError(flaws)
    try:
        return await _answer(session, _statement(question.sql), values, time_limit)
    except DBAPIError as error:
        if _state(error) == QUERY_CANCELED:
            raise AuditTimeoutError(question.name, time_limit.total_seconds()) from error
        raise


# The second line is what psql runs; it is also the only place where the default is written.
_PARAMETER: Final = re.compile(r"^-- (\w+): (.+)\n\\if :\{\?\1\} \\else \\set \1 '([^'\n]*)' \\endif\n", re.MULTILINE)


def _read(name: str, source: str) -> Question:
    declared = list(_PARAMETER.finditer(source))
    head, sql = source[: declared[0].start()], source[declared[-1].end() :]
    title, mark, note = " ".join(line.removeprefix("--").strip() for line in head.splitlines()).partition("?")
    parameters = tuple(Parameter(each[1], each[3], each[2]) for each in declared)
    return Question(name, title + mark, note.strip(), parameters, sql.strip(), source)


_VALUE: Final = re.compile(r":'(\w+)'")


def _statement(sql: str) -> TextClause:
    """With bound values instead of psql's quoted ones: each is a text, which the SQL casts, as psql's is."""
    return text(_VALUE.sub(r"CAST(:\1 AS text)", sql))


_TERMS: Final = text(
    "SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', :time_limit, true)"
)


async def _answer(
    session: AsyncSession, statement: TextClause, values: Mapping[str, str], time_limit: timedelta
) -> Answer:
    milliseconds = max(1, time_limit // timedelta(milliseconds=1))
    async with _undone(session):
        await session.execute(_TERMS, {"time_limit": f"{milliseconds}ms"})
        found = await session.execute(statement, values)
        return Answer(tuple(found.keys()), tuple(tuple(row) for row in found))


@asynccontextmanager
async def _undone(session: AsyncSession) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await session.rollback()


_KINDS: Final = {
    "interval": "an interval, such as '90 minutes' or '7 days'",
    "uuid": "a UUID",
    "text": "a text that this database can hold",
}


async def _refused(session: AsyncSession, question: Question, values: Mapping[str, str]) -> list[FieldError]:
    """Each is tried alone, before: PostgreSQL does not say which one it could not read, and reads none that it does not
    come to need, on an empty table for instance.
    """
    flaws = []
    for each in question.parameters:
        cast = re.search(rf":'{each.name}'::(\w+)", question.sql)
        kind = cast[1] if cast else "text"
        value = values[each.name]
        is_known = value == each.default and (kind == "text" or value)
        if not is_known and await _is_refused(session, kind, value):
            said = f"{clip(value, 100)!r} is not {_KINDS.get(kind, kind)}"
            flaws.append(FieldError(step(each.name), f"{said} ({each.description})"))
    return flaws


async def _is_refused(session: AsyncSession, kind: str, value: str) -> bool:
    # an interval is good only if there is a time that far away
    use = "statement_timestamp() - {0} < statement_timestamp() + {0}" if kind == "interval" else "{0} IS NULL"
    try:
        async with _undone(session):
            await session.execute(_statement("SELECT " + use.format(f":'value'::{kind}")), {"value": value})
    except DBAPIError as error:
        if _is_about_data(error):
            return True
        raise
    return False


def _is_about_data(error: DBAPIError) -> bool:
    return _state(error).startswith("22")


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""
