"""One look at the database for all that wait in a process: for ends of jobs, for news of a job, for the feed.

Whoever waits asks, and is answered by the next tick that finds something for it. Nothing is looked for that nobody asks
for, and nobody is told more than it asked for, so a reader that is slow keeps nothing in memory.
"""

import asyncio
import contextvars
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from jobtrail.db.direct import Statement
from jobtrail.db.errors import unavailable
from jobtrail.db.loop import Loop
from jobtrail.errors import NotRunningError, UnavailableError
from jobtrail.events import feed, job_news, numbers
from jobtrail.events.feed import Event, Mark, Place
from jobtrail.events.job_news import JobNews, JobPlace
from jobtrail.jobs.services import Services
from jobtrail.task.job_events import Gap

MOST_WAITING: Final = 1000
"""Requests of this process that wait for the end of a job; beyond it they are answered at once."""

_SOON: Final = 0.05
"""Seconds between two looks while somebody has asked within _PATIENCE."""

_LATER: Final = 0.5
"""Seconds between two looks while all have waited for longer."""

_PATIENCE: Final = 30.0
"""Seconds; as long as a request may wait."""

_APART: Final = timedelta(milliseconds=100)
"""Between two marks that readers make, in all processes together."""

_AWAY: Final = 0.5
"""Seconds until a reader of the feed tries again, where the database is away."""

_MOST_MARKS: Final = 2000
"""Marks that are kept."""

_MOST_KEPT: Final = 20_000
"""Transitions of the feed that are kept for all readers; who is further behind reads them again."""

_ENDED: Final = Statement("""
SELECT id FROM unnest(CAST(:jobs AS uuid[])) AS u(id)
 WHERE coalesce((SELECT status FROM jobtrail.jobs j WHERE j.id = u.id), 'purged') NOT IN ('pending', 'running')
UNION ALL
SELECT id FROM unnest(CAST(:batches AS uuid[])) AS u(id)
 WHERE NOT EXISTS (SELECT FROM jobtrail.batches b WHERE b.id = u.id AND b.done_at IS NULL)
""")

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class _Ask:
    """`about`: the id of a job or a batch, the place of a reader of a job, or the number of a mark. `is_request`: it is
    answered when the process begins to stop.
    """

    about: Any
    answer: "asyncio.Future[Any]"
    is_request: bool = False
    since: float = field(default_factory=time.monotonic)


class Hub:
    """That of a process, by `services.once(Hub)`. Its loop runs while somebody asks."""

    def __init__(self, services: Services) -> None:
        self.closing: Final = asyncio.Event()
        """Set when the process begins to stop: streams end, and requests wait no longer."""
        self.on_end: Callable[[], None] = lambda: None
        self.streams = 0
        self.waiting = 0
        self._database = services.database
        self._context = contextvars.copy_context()
        self._loop: Loop | None = None
        self._is_stopped = False
        self._jobs: dict[_Ask, None] = {}
        self._batches: dict[_Ask, None] = {}
        self._news: dict[_Ask, None] = {}
        self._readers: dict[_Ask, None] = {}
        self.history = 0
        self._marks: dict[int, Mark] = {}
        self._newest = 0
        self._order: tuple[Mark, bytes] | None = None
        self._pages: dict[tuple[Mark, int], asyncio.Task[Sequence[Event] | None]] = {}
        self._kept = 0

    async def wait(self, job_id: UUID, seconds: float) -> bool:
        """Wait for the end of the job, as long as a request may; False where none may now."""
        if self.closing.is_set() or self.waiting >= MOST_WAITING:
            return False
        self.waiting += 1
        try:
            with suppress(TimeoutError, NotRunningError):
                async with asyncio.timeout(seconds):
                    await self._ask(self._jobs, job_id, is_request=True)
        finally:
            self.waiting -= 1
        return True

    async def job_ended(self, job_id: UUID) -> None:
        """Returns when the job has ended, or is gone. Raises NotRunningError."""
        await self._ask(self._jobs, job_id)

    async def batch_done(self, batch_id: UUID) -> None:
        """Returns when the batch is done, or is gone. Raises NotRunningError."""
        await self._ask(self._batches, batch_id)

    def note(self, job_id: UUID) -> None:
        """A job has ended in this process, as was recorded."""
        self.on_end()
        for ask in [each for each in self._jobs if each.about == job_id] if self._jobs else ():
            _tell(ask, None)

    async def news(self, place: JobPlace) -> JobNews:
        """What is new of a job, as soon as there is something. Raises NotRunningError."""
        found: JobNews = await self._ask(self._news, place)
        return found

    async def enter(self, since: Place | None = None) -> tuple[Place, Gap | None]:
        """Where a reader of the feed begins: after `since`, or with what is committed from now on. With a gap, where
        the place is not known any more.

        Raises UnavailableError.
        """
        async with self._database.readers:
            if since is not None and await feed.find(self._database, since):
                return since, None
            now = await feed.mark(self._database)
            if since is None:
                return now.end, None
            first = await feed.oldest(self._database)
        if first is not None and since.no <= first.no:
            return first.end, Gap("what came after this id is not kept any more", first.at)
        return now.end, Gap("this id is of another history", now.at)

    async def follow(self, place: Place) -> AsyncGenerator[Sequence[Event] | Gap, None]:
        """The feed after a place that `enter` gave, in pages, without an end. A database that is away is waited for.

        Raises NotRunningError.
        """
        no, k = place.after
        history = self.history
        while True:
            try:
                of = await self._mark_of(no, history)
                page = None if of is None else await self._page(of, k)
                if page is None:
                    place, gap = await self.enter(Place(no, "", 0))
                    (no, k), history = place.after, self.history
                    if gap is not None:
                        yield gap
                    continue
            except UnavailableError:
                await asyncio.sleep(_AWAY)
                continue
            if page and history == self.history:
                yield page
            no, k = (no, k + len(page)) if len(page) == feed.PAGE else (no + 1, 0)

    def close(self) -> None:
        """Let readers of events end, and requests wait no longer. Idempotent."""
        self.closing.set()
        for ask in self._jobs:
            if ask.is_request:
                _tell(ask, None)
        for ask in (*self._news, *self._readers):
            _refuse(ask)

    async def stop(self) -> None:
        """Before the database is closed. Who waits gets NotRunningError. Idempotent."""
        self.close()
        self._is_stopped = True
        for ask in (*self._jobs, *self._batches):
            _refuse(ask)
        if self._loop is not None:
            await self._loop.stop()
        await asyncio.gather(*self._pages.values(), return_exceptions=True)
        await numbers.stop()

    async def _ask(self, asks: dict[_Ask, None], about: Any, *, is_request: bool = False) -> Any:
        if self._is_stopped or (self.closing.is_set() and (asks is self._news or asks is self._readers)):
            raise NotRunningError("the process stops")
        ask = _Ask(about, asyncio.get_running_loop().create_future(), is_request)
        asks[ask] = None
        if self._loop is None:
            self._loop = Loop("events", self._look, every=_SOON)
            self._context.run(self._loop.start)
        elif self._loop.every > _SOON:
            self._loop.wake()
        try:
            return await ask.answer
        finally:
            del asks[ask]

    async def _look(self) -> None:
        asked = [*self._jobs, *self._batches, *self._news, *self._readers]
        if not asked:
            if self._loop is not None:
                self._loop.end()
            self._loop = None
            return
        youngest = max(each.since for each in asked)
        if self._loop is not None:
            self._loop.every = _SOON if time.monotonic() - youngest < _PATIENCE else _LATER
        with unavailable():
            if self._jobs or self._batches:
                await self._look_for_ends()
            if self._news:
                await self._look_for_news()
            if self._readers:
                await self._look_for_marks()

    async def _look_for_ends(self) -> None:
        jobs, batches = ({each.about for each in asks} for asks in (self._jobs, self._batches))
        rows = await self._database.fetch(_ENDED, jobs=list(jobs), batches=list(batches))
        ended = {row[0] for row in rows}
        for ask in [*self._jobs, *self._batches]:
            if ask.about in ended:
                _tell(ask, None)

    async def _look_for_news(self) -> None:
        asks = list(self._news)
        found = await job_news.look(self._database, [each.about for each in asks])
        for ask, news in zip(asks, found, strict=True):
            if news.items:
                _tell(ask, news)

    async def _look_for_marks(self) -> None:
        newest = await feed.mark(self._database, apart=_APART)
        known = self._marks.get(self._newest)
        if newest == known:
            return
        marks = [] if known is None else await feed.marks_after(self._database, known.no - 1)
        is_other = known is not None and (newest.no <= known.no or (marks[0].no == known.no and marks[0] != known))
        if is_other:
            # a standby that took over had not got the last ones: what readers wait for is another history
            self.history += 1
            self._marks.clear()
            self._pages.clear()
            self._kept = 0
        if is_other or known is None or marks[0].no != known.no or marks[-1].no < newest.no:
            marks = [newest]  # who is behind reads those in between by itself
        self._marks |= {each.no: each for each in marks}
        self._newest = newest.no
        while len(self._marks) > _MOST_MARKS:
            del self._marks[next(iter(self._marks))]
        for ask in list(self._readers):
            if ask.about <= self._newest or is_other:
                _tell(ask, None)

    async def _mark_of(self, no: int, history: int) -> Mark | None:
        """The mark of this number, once there is one; None where it was removed, or is of another history."""
        while (found := self._marks.get(no)) is None and history == self.history:
            if no <= self._newest:
                async with self._database.readers:
                    marks = await feed.marks_after(self._database, no - 1)
                return marks[0] if marks and marks[0].no == no else None
            await self._ask(self._readers, no)
        return found if history == self.history else None

    async def _page(self, of: Mark, k: int) -> Sequence[Event] | None:
        """Those who ask for the same page share one statement. None where the mark is not kept any more."""
        if self._is_stopped:
            raise NotRunningError("the process stops")
        key = (of, k)
        page = self._pages.get(key)
        if page is None:
            page = self._context.run(asyncio.ensure_future, self._read(of, k))
            self._pages[key] = page
            page.add_done_callback(lambda done: self._keep(key, done))
        return await asyncio.shield(page)

    async def _read(self, of: Mark, k: int) -> Sequence[Event] | None:
        async with self._database.readers:
            page = await self._page_of(of, k)
            # it may have been forgotten after it was found, and then there seems to be nothing in it
            return page if page or await feed.find(self._database, Place(of.no, of.tag, 0)) else None

    async def _page_of(self, of: Mark, k: int) -> Sequence[Event]:
        """Pages of a mark after its first one go by its order, which takes one look at the whole mark."""
        if k == 0:
            with suppress(UnavailableError):  # it may be too large for that
                return await feed.first_page(self._database, of)
        if self._order is None or self._order[0] != of:
            self._order = (of, await feed.order(self._database, of))
        return await feed.page(self._database, of, self._order[1], k)

    def _keep(self, key: tuple[Mark, int], page: "asyncio.Task[Sequence[Event] | None]") -> None:
        if self._pages.get(key) is not page:
            return
        if page.cancelled() or page.exception() is not None or page.result() is None:
            del self._pages[key]
            return
        self._kept += 1 + len(page.result() or ())
        while self._kept > _MOST_KEPT and len(self._pages) > 1:
            oldest = next(iter(self._pages))
            if not self._pages[oldest].done():
                return
            self._kept -= 1 + len(self._pages.pop(oldest).result() or ())


def _tell(ask: _Ask, answer: object) -> None:
    if not ask.answer.done():
        ask.answer.set_result(answer)


def _refuse(ask: _Ask) -> None:
    if not ask.answer.done():
        ask.answer.set_exception(NotRunningError("the process stops"))
