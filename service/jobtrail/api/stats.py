"""The calls about numbers: stats, and metrics for Prometheus."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.responses import Response

from jobtrail.api import schemas
from jobtrail.api.context import ApiContext
from jobtrail.api.openapi import OF_DATABASE
from jobtrail.api.representation import answer
from jobtrail.api.route import READ, Row
from jobtrail.events import metrics, numbers
from jobtrail.records import Alarm, QueueStats, TaskStats, shown
from jobtrail.records import Stats as StatsRecord

_Queue: Final[Any] = schemas.of_record(QueueStats, "QueueStats")
_Task: Final[Any] = schemas.of_record(TaskStats, "TaskStats")
_Alarm: Final[Any] = schemas.of_record(Alarm, "Alarm")
Stats: Final = schemas.of_record(StatsRecord, "Stats", queues=list[_Queue], tasks=list[_Task], alarms=list[_Alarm])

_TEXT: Final = {"text/plain": {"schema": {"type": "string"}}}


def rows(context: ApiContext) -> Sequence[Row]:
    calls = StatsRoutes(context)
    return [
        Row(READ, "GET", "/stats", calls.get_stats, 200, Stats, "stats", "How much waits, runs and ended", OF_DATABASE),
        Row(READ, "GET", "/metrics", calls.get_metrics, 200, None, "stats", "Metrics of this process",
            content=_TEXT),
        Row(READ, "GET", "/metrics/database", calls.get_database_metrics, 200, None, "stats",
            "Metrics of the database", OF_DATABASE, content=_TEXT),
    ]  # fmt: skip


@dataclass(frozen=True)
class StatsRoutes:
    """/stats and /metrics."""

    context: ApiContext

    async def get_stats(self) -> Response:
        """What waits, runs and ended in the last hour, by queue and task, and whether an alarm rings."""
        return answer(shown(await numbers.stats(self.context.services)))

    async def get_metrics(self) -> Response:
        """For Prometheus, of this process alone: of several behind one address each scrape finds another one."""
        # of many tasks it takes as long as many jobs, which need not wait
        text = await asyncio.to_thread(metrics.process_metrics(self.context.services).text)
        return Response(text, media_type=metrics.CONTENT_TYPE)

    async def get_database_metrics(self) -> Response:
        """For Prometheus, of the database: the same from every process, so one of them is scraped."""
        return Response(await metrics.database_metrics(self.context.services), media_type=metrics.CONTENT_TYPE)
