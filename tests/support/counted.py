"""Stats of a database, with all counted that has happened there."""

from typing import Any

from jobtrail.events import numbers
from jobtrail.jobs.services import AlarmLimits
from jobtrail.ops.stats import read_stats
from jobtrail.records import Stats
from support.world import Place


async def stats_of(place: Place, **limits: Any) -> Stats:
    return await read_stats(place.database, await numbers.catch_up(place.database), AlarmLimits(**limits))
