"""Readers of events within a process: those of a job, and the feed."""

from collections.abc import AsyncGenerator
from contextlib import suppress
from uuid import UUID

from jobtrail.errors import NotRunningError
from jobtrail.events import job_news
from jobtrail.events.feed import Place, Wanted
from jobtrail.events.hub import Hub
from jobtrail.events.job_news import JobPlace
from jobtrail.jobs.services import Services
from jobtrail.task.job_events import Gap, JobEvent


async def job_events(services: Services, job_id: UUID, *, since: str | None = None) -> AsyncGenerator[JobEvent, None]:
    """What has happened to the job after the event with this id, and what happens, until it has ended, or the process
    begins to stop.

    Raises ValueError for another id, JobNotFoundError, UnavailableError.
    """
    now = await job_news.find(services, job_id)
    place = JobPlace(job_id) if since is None else JobPlace.read(job_id, since)
    if place is None or place.seq > now.seq:
        raise ValueError(f"since={since!r:.60} is no id of an event of job {job_id}")
    is_over = since is not None and now.is_end and place.seq == now.seq
    hub = services.once(Hub)
    while not is_over:
        try:
            news = await hub.news(place)
        except NotRunningError:
            return
        for each in news.items:
            yield each
        place, is_over = news.following, news.is_over


async def feed_events(
    services: Services, wanted: Wanted, *, since: str | None = None
) -> AsyncGenerator[JobEvent | Gap, None]:
    """The transitions that are wanted, from now on or after the event with this id, until the process begins to
    stop; and a gap where the feed does not go on there.

    Raises ValueError for what is no id, UnavailableError.
    """
    place = None if since is None else Place.read(since)
    if since is not None and place is None:
        raise ValueError(f"since={since!r:.60} is no id of an event")
    hub = services.once(Hub)
    begin, gap = await hub.enter(place)
    if gap is not None:
        yield gap
    with suppress(NotRunningError):
        async for page in hub.follow(begin):
            if isinstance(page, Gap):
                yield page
                continue
            for each in page:
                if wanted.has(each):
                    moved = each.transition
                    yield JobEvent("transition", moved.job_id, moved.attempt, moved, str(each.place))
