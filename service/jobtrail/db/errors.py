"""Meaning of a failure of the database for the caller (PostgreSQL, Appendix A: error codes)."""

import ssl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path
from typing import Final

import asyncpg
from sqlalchemy import Connection, ExceptionContext, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail.db.url import DatabaseUrl
from jobtrail.errors import UnavailableError
from jobtrail.task.storable import clip


class Fault(Enum):
    DATA = auto()  # this row cannot be stored; others can
    COLLISION = auto()  # deadlock or serialization failure: the same again will do
    CONNECTION = auto()  # no answer: the statement may or may not have been committed
    AWAY = auto()  # nothing was done, and later it may be: no connection, read-only, out of something
    SLOW = auto()  # nothing was done: it took longer than the statement timeout
    LOCKED = auto()  # another transaction holds a row longer than the lock timeout
    OTHER = auto()  # whatever else: what was asked cannot be done as the database is now


PASSING: Final = frozenset({Fault.CONNECTION, Fault.AWAY, Fault.SLOW})
"""Faults of the database that say nothing of what was asked: later the same may do."""


# The driver's own too: a connection that ends as SQLAlchemy takes it over fails with them as they are.
FAILURES: Final = (SQLAlchemyError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""Errors that the database, or the way to it, may raise."""


class NotConnectedError(ConnectionError):
    """No connection was to be had, so nothing was sent; the cause says why."""


@contextmanager
def connecting() -> Iterator[None]:
    """Turn whatever keeps a connection from being made into NotConnectedError: nothing was sent. A password that is
    being rotated and a pooler at its limit have SQLSTATEs too, and say as little of what was asked.
    """
    try:
        yield
    except Exception as error:  # a host's engine may raise anything here
        raise NotConnectedError(str(error)) from error


def fault_of(error: BaseException) -> Fault:
    if isinstance(error, NotConnectedError):
        return Fault.AWAY
    if (state := _state_of(error)) is not None:
        return _FAULTS.get(state) or _FAULTS.get(state[:2], Fault.OTHER)
    if isinstance(error, PoolTimeoutError | OSError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return Fault.CONNECTION
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return Fault.CONNECTION
    return Fault.OTHER


def refusal_of(error: BaseException) -> str | None:
    """The server's words where it lets this role not in: a wrong password, no such role or database, no right."""
    state = _state_of(error)
    if state is None or not state.startswith(("28", "3D000", _NO_RIGHT)):
        return None
    return str(error.orig if isinstance(error, DBAPIError) else error)


def _state_of(error: BaseException) -> str | None:
    states = (getattr(link, "sqlstate", None) for link in causes(error))
    return next((state for state in states if isinstance(state, str)), None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error of SQLAlchemy, the driver's beneath it, and what caused that."""
    link: BaseException | None = error.orig if isinstance(error, DBAPIError) else error
    while link is not None:
        yield link
        link = link.__cause__


@contextmanager
def unavailable() -> Iterator[None]:
    """Turn a database that does not answer, a row that stays locked, or a deadlock into UnavailableError."""
    try:
        yield
    except FAILURES as error:
        if (unavailable := unavailability(error)) is None:
            raise
        raise unavailable from error


def unavailability(error: BaseException) -> UnavailableError | None:
    """The error for a caller whose request has nothing to do with the failure."""
    match fault_of(error):
        case Fault.COLLISION:
            kind = "deadlock or serialization failure"
            return UnavailableError(f"conflict with a concurrent transaction ({kind}); nothing was stored, try again")
        case Fault.AWAY if _state_of(error) == _READ_ONLY:
            return UnavailableError("the database is read-only for now")
        case Fault.AWAY:
            return UnavailableError("the database is away or out of room for now")
        case Fault.CONNECTION | Fault.SLOW | Fault.LOCKED:
            return UnavailableError("the database did not answer in time")
        case Fault.OTHER if _state_of(error) == _NO_RIGHT:
            return UnavailableError(f"the database refuses: {refusal_of(error)}; `jobtrail doctor` says what to GRANT")
        case _:
            return None


def reason(error: BaseException) -> str:
    """The error in one line, for logs that show nothing else: without the statement and its parameters."""
    if isinstance(error, UnavailableError) and error.__cause__ is not None:
        error = error.__cause__
    said = _first_line(error)
    if fault_of(error) in PASSING:
        return f"the database does not answer ({said or type(error).__name__})"
    if isinstance(error, DBAPIError | asyncpg.PostgresError):
        return f"the database refuses: {said}"
    return f"{type(error).__name__}: {said}"


def _first_line(error: BaseException) -> str:
    """The driver's own words; below the first line are values of the row, and hints."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        # SQLAlchemy's copy of the driver's error begins with the name of its class
        error = error.orig.__cause__ or error.orig
    words = str(error.args[0]) if isinstance(error, SQLAlchemyError) and error.args else str(error)
    return clip(words.partition("\n")[0], 300)


def quote_no_row(engine: AsyncEngine) -> None:
    """Cut from the errors of this engine, and of no other of the same dialect, the DETAIL of a constraint that was
    broken (class 23): it has the whole row, and so the args.
    """

    def cut(context: ExceptionContext) -> None:
        if context.engine is engine.sync_engine:
            hide_row(context.original_exception, context.sqlalchemy_exception)

    event.listen(engine.sync_engine, "handle_error", cut)


def hide_row(error: BaseException, wrapped: BaseException | None = None) -> None:
    """Cut the DETAIL of a constraint that was broken (class 23) from an error, and from what is wrapped around it."""
    if not (_state_of(error) or "").startswith("23"):
        return
    for link in (wrapped, *causes(error)):
        if link is not None:
            link.args = tuple(said.partition(_DETAIL)[0] if isinstance(said, str) else said for said in link.args)
            if isinstance(link, asyncpg.PostgresError):  # it puts its text together when it is asked
                link.detail = None


def is_lost(error: BaseException) -> bool:
    """Whether the connection that raised it is of no more use."""
    return not isinstance(error, asyncpg.PostgresError) or fault_of(error) is Fault.CONNECTION


class Primary:
    """Knows since when the server that takes writes may be another one: a connection said 25006. After a failover older
    connections lead to the old primary, which answers as if all were well but for the writing. `errors` of all kinds.
    """

    def __init__(self) -> None:
        self.moved = 0.0
        self.errors: Counter[Fault] = Counter()

    def note(self, error: BaseException) -> bool:
        """Count it; whether the connection that raised it is to be given up."""
        self.errors[fault_of(error)] += 1
        is_read_only = _state_of(error) == _READ_ONLY
        if is_read_only:
            self.moved = time.monotonic()
        return is_read_only

    def follow(self, *engines: AsyncEngine) -> None:
        """Take such a connection of these engines for lost, and every older one when it is used next."""
        ours = {engine.sync_engine for engine in engines}

        def lose(context: ExceptionContext) -> None:
            if context.engine in ours and self.note(context.original_exception):
                context.is_disconnect = True

        def look(connection: Connection) -> None:
            while connection.info.setdefault(_SEEN, time.monotonic()) < self.moved:
                connection.invalidate()  # it then takes another one of the pool, which may be as old

        for engine in ours:
            event.listen(engine, "handle_error", lose)
            event.listen(engine, "engine_connect", look)


_SEEN: Final = "jobtrail_seen"
"""The time at which a connection was first used."""

_DETAIL: Final = "\nDETAIL:"

_READ_ONLY: Final = "25006"
_NO_RIGHT: Final = "42501"

_FAULTS: Final = {
    "55P03": Fault.LOCKED,
    "57014": Fault.SLOW,  # query_canceled
    "57P03": Fault.AWAY,  # cannot_connect_now: it starts up, or shuts down
    _READ_ONLY: Fault.AWAY,  # a standby, or it is made read-only for a while
    "25P03": Fault.CONNECTION,  # idle_in_transaction_session_timeout
    "25P04": Fault.CONNECTION,  # transaction_timeout
    "08": Fault.CONNECTION,
    "22": Fault.DATA,
    "23": Fault.DATA,
    "40": Fault.COLLISION,
    "53": Fault.AWAY,  # out of connections, memory, disk
    "54": Fault.DATA,
    "57": Fault.CONNECTION,  # terminated, shutting down
    "58": Fault.AWAY,  # the disk failed
}
"""By SQLSTATE, or else by its class."""

_PGBOUNCER = "unsupported startup parameter"
"""PgBouncer's answer to the settings of a connection."""

_NO_TLS = "rejected SSL upgrade"
"""asyncpg's words for a server that was asked for TLS and has none."""

_OF_FILES = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ssl.SSLError)

STANDBY = (
    "this server is a standby (read-only): give the primary's URL, or target_session_attrs=read-write with all hosts"
)
READ_ONLY = "it is read-only: look at default_transaction_read_only of the server, the database and the role"


def explain(url: DatabaseUrl, error: BaseException) -> str | None:
    """One line that begins with the place; None when no server answers there."""
    at = url.shown
    if _state_of(error) == _READ_ONLY:
        return f"{at}: {READ_ONLY}; if it is a standby, give the primary's URL"
    if (refusal := refusal_of(error)) is not None:
        hint = "; write sslmode=require" if "no encryption" in refusal else ""
        return f"PostgreSQL at {at} refuses: {refusal}{hint}"
    if any(isinstance(link, _OF_FILES) for link in causes(error)) and (unreadable := _unreadable(url)) is not None:
        return unreadable
    if any(_PGBOUNCER in str(link) for link in causes(error)):
        return f"PgBouncer answers at {at}: write ?pgbouncer=true at the end of the URL"
    return next((f"{at}: {said}" for link in causes(error) if (said := _of_tls(link)) is not None), None)


def _unreadable(url: DatabaseUrl) -> str | None:
    for name, path in url.files:
        try:
            Path(path).open("rb").close()
        except OSError as error:
            return f"{name}={path}: {error.strerror}: name a file that this process can read, or leave {name} out"
    return None


def _of_tls(link: BaseException) -> str | None:
    said = " ".join(str(link).split())
    if _NO_TLS in said:
        return "the server has no TLS, and sslmode asks for it: write sslmode=prefer or disable, or switch its ssl on"
    if isinstance(link, ssl.SSLCertVerificationError):
        return (
            f"the server's certificate is not trusted ({link.verify_message}): name the certificate of its authority "
            "in sslrootcert, and the host as the certificate names it; sslmode=verify-ca does not look at the host"
        )
    if isinstance(link, ssl.SSLError):
        return f"TLS failed ({link.reason or said}): look at sslrootcert, sslcert, sslkey and sslpassword"
    if isinstance(link, asyncpg.exceptions.ClientConfigurationError):
        return f"{said}: name the file in sslrootcert" if "certificate" in said else said
    return None
