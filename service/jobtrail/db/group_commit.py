"""Group commit: rows that arrive while a write is in flight go together next, in one statement and one commit.

Also work of unknown size in commits that the database can do in its time, and a write that is waited for to its end.
"""

import asyncio
import contextvars
import math
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Generic, TypeVar, cast

from jobtrail.db.engine import trace_no_more
from jobtrail.db.errors import FAILURES, PASSING, Fault, fault_of, unavailability
from jobtrail.errors import OutcomeUnknownError, UnavailableError

Row = TypeVar("Row")
Answer = TypeVar("Answer")

Weigh = Callable[[Row], int]


def weightless(_row: object) -> int:
    """Weighs nothing: only the number of rows limits a group."""
    return 0


MOST_ROWS: Final = 500
MOST_BYTES: Final = 4 * 1024 * 1024
_LONGEST_PAUSE: Final = 1.0

_WORTH_A_LANE: Final = 8
"""Rows that wait before another lane is taken: two small groups cost more than one."""


@dataclass(eq=False, slots=True)
class _Entry(Generic[Row, Answer]):
    """`is_given_up`: its caller has its error already: not done, or not known. `until`: when that is due."""

    row: Row
    answer: asyncio.Future[Answer]
    until: float
    is_sent: bool = False
    is_given_up: bool = False


class GroupCommit(Generic[Row, Answer]):
    """One statement at a time, or `lanes` many; there is no timer, so a lone row goes at once.

    `write` stores the rows in one transaction and returns an answer for each, in their order. It must be repeatable:
    after a lost connection the same rows come again, and in halves when they took too long together. `weigh` tells the
    bytes of a row. `patience`, in seconds, is how long a database that is away is retried before the callers get
    `UnavailableError`; after `longest`, in seconds, they get it whatever happens, since a database may be reached and
    say nothing. It is an `OutcomeUnknownError` unless it is certain that nothing was committed. `reads`: `write` does
    not. Rows of two `lanes` must not lock each other; another lane is taken when a few rows wait.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Row]], Awaitable[Sequence[Answer]]],
        *,
        weigh: Weigh[Row] = weightless,
        patience: float,
        longest: float | None = None,
        reads: bool = False,
        lanes: int = 1,
    ) -> None:
        self._write = write
        self._weigh = weigh
        self._patience = patience
        self._longest = longest
        self._reads = reads
        self._lanes = lanes
        self._waiting: deque[_Entry[Row, Answer]] = deque()
        self._writers: dict[asyncio.Task[None], Sequence[_Entry[Row, Answer]]] = {}
        self._alarm: asyncio.TimerHandle | None = None
        # rows of many callers: the context variables of the first one say nothing of the others, nor does its trace
        self._context = contextvars.copy_context()
        self._context.run(trace_no_more)

    def offer(self, row: Row) -> asyncio.Future[Answer]:
        """The answer of the commit that carries the row, or what the database said of it, or `UnavailableError`.

        The row is written even if the future is cancelled, but not if it waited for `longest` and was not sent by then.
        """
        loop = asyncio.get_running_loop()
        entry: _Entry[Row, Answer] = _Entry(row, loop.create_future(), loop.time() + (self._longest or math.inf))
        self._waiting.append(entry)
        if not self._writers or (len(self._writers) < self._lanes and len(self._waiting) >= _WORTH_A_LANE):
            writer = loop.create_task(self._write_all(), name="jobtrail-group", context=self._context.copy())
            if not writer.done():  # a host's loop may start tasks at once
                self._writers.setdefault(writer, ())
                writer.add_done_callback(self._leave)
        if self._longest is not None and self._alarm is None:
            self._alarm = loop.call_at(entry.until, self._give_up)
        return entry.answer

    async def put(self, row: Row) -> Answer:
        """As `offer`, awaited: a caller that is cancelled stops waiting."""
        return await self.offer(row)

    async def settle(self) -> None:
        """Wait until nothing is in flight."""
        while self._writers:
            await asyncio.wait(self._writers)

    def _give_up(self) -> None:
        """Tell the callers whose time is over."""
        loop, self._alarm = asyncio.get_running_loop(), None
        live = [each for each in (*chain(*self._writers.values()), *self._waiting) if not each.answer.done()]
        for entry in live:
            if entry.until <= loop.time():
                entry.is_given_up = True
                kind = OutcomeUnknownError if entry.is_sent and not self._reads else UnavailableError
                entry.answer.set_exception(kind(f"the database did not answer within {self._longest:g} s"))
        if (next_one := min((each.until for each in live if not each.is_given_up), default=None)) is not None:
            self._alarm = loop.call_at(next_one, self._give_up)

    async def _write_all(self) -> None:
        this = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            while self._waiting:
                self._writers[this] = entries = self._take()
                await self._commit(entries)
        finally:
            self._leave(this)

    def _leave(self, writer: "asyncio.Task[None]") -> None:
        """Once for each writer, also for one that was cancelled before its first step."""
        left = list(self._writers.pop(writer, ()))
        if not self._writers:
            left += self._waiting
            self._waiting.clear()
        for entry in left:
            if not entry.answer.done():  # only where it was cancelled
                entry.answer.cancel()

    def _take(self) -> list[_Entry[Row, Answer]]:
        taken: list[_Entry[Row, Answer]] = []
        size = 0
        while self._waiting and len(taken) < MOST_ROWS:
            if self._waiting[0].is_given_up:
                self._waiting.popleft()
                continue
            size += self._weigh(self._waiting[0].row)
            if taken and size > MOST_BYTES:
                break
            taken.append(self._waiting.popleft())
        return taken

    async def _commit(
        self, entries: Sequence[_Entry[Row, Answer]], *, is_unknown: bool = False, began: float | None = None
    ) -> None:
        """`is_unknown`: a try whose answer was lost may have stored them, since `began`."""
        began = began or time.monotonic()
        pause = 0.01
        while entries := [entry for entry in entries if not entry.is_given_up]:
            for entry in entries:
                entry.is_sent = True
            try:
                answers = await self._write([entry.row for entry in entries])
            except Exception as error:  # noqa: BLE001 - every failure belongs to the callers, none to this task
                fault = fault_of(error)
                is_unknown |= fault is Fault.CONNECTION
                if fault is Fault.SLOW and len(entries) > 1:
                    for half in (entries[: len(entries) // 2], entries[len(entries) // 2 :]):
                        await self._commit(half, is_unknown=is_unknown, began=began)
                    return
                if not self._again(fault, began):
                    await self._refuse(entries, error, is_unknown=is_unknown, began=began)
                    return
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter is no secret
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                for entry, answer in zip(entries, answers, strict=True):
                    if not entry.answer.done():
                        entry.answer.set_result(answer)
                return

    def _again(self, fault: Fault, began: float) -> bool:
        if fault in PASSING:
            return time.monotonic() - began < self._patience
        return fault is Fault.COLLISION

    async def _refuse(
        self, entries: Sequence[_Entry[Row, Answer]], error: Exception, *, is_unknown: bool, began: float
    ) -> None:
        """A bad row fails its own caller only: what failed together is tried one by one."""
        fault = fault_of(error)
        if fault in (Fault.DATA, Fault.LOCKED, Fault.OTHER) and len(entries) > 1:
            for entry in entries:
                await self._commit([entry], is_unknown=is_unknown, began=began)
            return
        told: Exception = error
        if is_unknown and not self._reads:
            told = OutcomeUnknownError("the database did not answer in time")
        elif (unavailable := unavailability(error)) is not None:
            told = unavailable
        if told is not error:
            told.__cause__ = error
        for entry in entries:
            if not entry.answer.done():
                entry.answer.set_exception(told)


FIRST: Final = 100
"""Rows of the first batch, whose cost is not known yet."""


async def in_batches(step: Callable[[int], Awaitable[bool]], *, most: int, within: float = 1.0) -> None:
    """Call `step` with a number of rows until it returns False: there are no more.

    The number doubles, up to `most`, while a batch takes less than half of `within` seconds. It is halved, down to one,
    after a batch that took longer than `within`, or that the database refused or gave up at its statement timeout: a
    fixed number of rows that are too large would never get done, and one row that cannot be changed would keep its
    neighbours. Raises what `step` raises for a single row, and what has nothing to do with the rows.
    """
    size, more = min(FIRST, most), True
    while more:
        began = time.monotonic()
        try:
            more = await step(size)
        except (UnavailableError, *FAILURES) as error:
            is_passing = isinstance(error, UnavailableError) or unavailability(error) is not None
            if size == 1 or (is_passing and fault_of(error) is not Fault.SLOW):
                raise
            took = float("inf")
        else:
            took = time.monotonic() - began
        if took > within:
            size = max(1, size // 2)
        elif took < within / 2:
            size = min(most, size * 2)


async def recorded(write: Awaitable[Answer]) -> Answer:
    """Wait for the write even when this task is cancelled meanwhile; `shield` alone would return before it landed."""
    writing = asyncio.ensure_future(write)
    try:
        return await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait({writing})
        raise
