"""Metrics for Prometheus: of this process, from its meters; and of the database, the same from every process.

The text is written by prometheus-client, from a registry that holds what is said here and nothing of its own. Where
the numbers come from:

- `jobs/meters`: what this process stored, started and ended, and how long that took, since it began;
- `ops/totals`: what became of all jobs, from the history, added up by `events/numbers` as the feed goes on;
- `ops/stats`: how much waits and runs, who runs it, and how far all this is behind, read when somebody asks.
"""

import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final, get_args

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from jobtrail.errors import SettingsError
from jobtrail.events import numbers
from jobtrail.events.numbers import Shared
from jobtrail.jobs.meters import BOUNDS, Histogram, NodeFacts
from jobtrail.jobs.services import Services
from jobtrail.ops.stats import Upkeep, known_tasks, read_upkeep
from jobtrail.ops.totals import all_totals
from jobtrail.records import Stats
from jobtrail.task.task import RunsIn

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_FRESH: Final = 1.0
"""Seconds for which the text of this process is not written anew."""

_LE: Final = (*(f"{bound:g}" for bound in BOUNDS), "+Inf")


class ProcessMetrics(Collector):
    """Counts of one process since its start; in a process without a node those of its submits and its database."""

    def __init__(self, services: Services) -> None:
        self._meters = services.meters
        self._errors = services.database.primary.errors
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._at = 0.0
        self._text = b""
        self._lock = threading.Lock()

    def text(self) -> bytes:
        """At most a second old."""
        with self._lock:
            if not self._text or time.monotonic() >= self._at + _FRESH:
                self._text, self._at = generate_latest(self._registry), time.monotonic()
            return self._text

    @contextmanager
    def served(self, host: str, port: int) -> Iterator[None]:
        """Answer GET at this address, whatever the path, in a thread. Raises SettingsError where it is taken."""
        try:
            server, thread = start_http_server(port, host, self._registry)
        except OSError as error:
            said = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise SettingsError(f"JOBTRAIL_METRICS_PORT: cannot listen on {host} port {port}: {said}") from error
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def collect(self) -> Iterable[Metric]:
        yield from self._of_tasks()
        errors = CounterMetricFamily("jobtrail_database_errors", "Errors of database connections.", labels=["fault"])
        for fault, n in sorted(self._errors.items(), key=lambda item: item[0].name):
            errors.add_metric([fault.name.lower()], n)
        yield errors
        if self._meters.node is not None:
            yield from _of_node(self._meters.node())

    def _of_tasks(self) -> Iterable[Metric]:
        accepted = CounterMetricFamily(
            "jobtrail_jobs_accepted",
            "Jobs that this process stored; not those of schedules, of ends of batches, and of a caller's own session.",
            labels=["task"],
        )
        started = CounterMetricFamily("jobtrail_attempts_started", "Attempts that began here.", labels=["task"])
        ended = CounterMetricFamily(
            "jobtrail_attempts_ended",
            "Attempts whose end was recorded, by the status that their job went to; pending: another attempt follows.",
            labels=["task", "status"],
        )
        wait = HistogramMetricFamily(
            "jobtrail_wait_seconds", "From when a job was due to when it began.", labels=["task"]
        )
        run = HistogramMetricFamily("jobtrail_run_seconds", "How long attempts ran.", labels=["task"])
        for task, meter in list(self._meters.tasks.items()):  # this may be another thread
            accepted.add_metric([task], meter.accepted)
            started.add_metric([task], meter.started)
            for status, n in meter.ended.items():
                if n:
                    ended.add_metric([task, status.value], n)
            if meter.started:
                wait.add_metric([task], _buckets(meter.wait), meter.wait.total)
                run.add_metric([task], _buckets(meter.run), meter.run.total)
        return accepted, started, ended, wait, run


def process_metrics(services: Services) -> ProcessMetrics:
    """The one of these services."""
    return services.once(ProcessMetrics)


def _buckets(of: Histogram) -> Sequence[tuple[str, float]]:
    """As Prometheus counts: each bucket has those before it too."""
    found, total = [], 0
    for bound, n in zip(_LE, of.counts, strict=True):
        total += n
        found.append((bound, float(total)))
    return found


def _of_node(node: NodeFacts) -> Iterable[Metric]:
    info = GaugeMetricFamily(
        "jobtrail_node_info", "The node of this process.", labels=["node", "version", "host", "pid"]
    )
    info.add_metric([str(node.id), node.version, socket.gethostname(), str(os.getpid())], 1)
    yield info
    yield _by("jobtrail_slots", "Jobs at once.", "executor", node.slots)
    yield _by("jobtrail_slots_busy", "Slots that are taken.", "executor", node.busy)
    yield _gauge("jobtrail_loop_lag_seconds", "The longest wait for the event loop in the last 10 s.", node.loop_lag)
    yield _gauge("jobtrail_left_behind", "Tasks that did not end when told to, and take a slot.", node.left_behind)
    yield _count("jobtrail_refused_writes", "Ends of attempts that were no longer this node's.", node.stale_ends)


class _Once(Collector):
    def __init__(self, found: Iterable[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found


async def database_metrics(services: Services) -> bytes:
    """The same from every process, at most a second old. Raises UnavailableError."""
    return await services.once(_shared)()


def _shared(services: Services) -> Shared[bytes]:
    async def ask() -> bytes:
        database, found = services.database, await numbers.stats(services)
        upkeep, totals, known = await read_upkeep(database), await all_totals(database), await known_tasks(database)
        registry = CollectorRegistry()
        registry.register(_Once([*_of_stats(found), *_of_upkeep(upkeep), *_of_totals(totals, known)]))
        return generate_latest(registry)

    return Shared(ask)


def _of_stats(stats: Stats) -> Iterable[Metric]:
    queues = stats.queues
    pending = "Pending jobs; counted to 1,000 of a queue and priority, and in all to JOBTRAIL_ALARM_PENDING."
    yield _by("jobtrail_db_pending_jobs", pending, "queue", {each.queue: each.pending for each in queues})
    ages = {each.queue: _age(stats, each.oldest_pending_at) for each in queues}
    oldest = "How long the oldest job that could begin has waited; what is paused could not."
    yield _by("jobtrail_db_oldest_pending_seconds", oldest, "queue", ages)
    yield _by("jobtrail_db_running_jobs", "Running jobs.", "queue", {each.queue: each.running for each in queues})
    by_task = {each.task: each.running for each in stats.tasks if each.running}
    yield _by("jobtrail_db_task_running_jobs", "Running jobs.", "task", by_task)
    longest = "How long the oldest running attempt has run."
    yield _gauge("jobtrail_db_oldest_running_seconds", longest, _age(stats, stats.oldest_running_at))
    yield _gauge("jobtrail_db_nodes", "Nodes that were heard of lately.", stats.nodes)
    slots = {executor: stats.slots.get(executor, 0) for executor in get_args(RunsIn)}  # 0 too, for rules that compare
    yield _by("jobtrail_db_slots", "Jobs at once, of all nodes.", "executor", slots)
    yield _gauge("jobtrail_db_loop_lag_seconds", "The longest wait for the event loop of a node.", stats.loop_lag)
    behind = "Seconds since the oldest moves of jobs that are not counted yet, or of which no deliveries were made."
    lags = {"numbers": stats.numbers_lag, "webhooks": stats.webhooks_lag}
    yield _by("jobtrail_db_feed_lag_seconds", behind, "derived", lags)
    rings = {each.name: float(each.rings) for each in stats.alarms}
    yield _by("jobtrail_db_alarm", "1 while an alarm of `jobtrail stats` rings.", "alarm", rings)


def _of_upkeep(upkeep: Upkeep) -> Iterable[Metric]:
    yield _gauge("jobtrail_db_purge_lag_seconds", "How long the oldest expired row is there still.", upkeep.purge_lag)
    late = "Schedules that were due a minute ago, and nobody looked."
    yield _gauge("jobtrail_db_schedules_late", late, upkeep.schedules_late)
    yield _gauge("jobtrail_db_limits_full", "Limit keys of which as many jobs run as may.", upkeep.limits_full)
    refused = "Ends of attempts that were refused, of the nodes that are there, since their start."
    yield _gauge("jobtrail_db_refused_writes", refused, upkeep.refused)
    left = "Tasks that did not end when told to, and take a slot, of the nodes that are there."
    yield _gauge("jobtrail_db_left_behind", left, upkeep.left_behind)


_KINDS: Final = ("succeeded", "failed", "cancelled", "lost")


def _of_totals(totals: Sequence[tuple[str, str, int]], known: Sequence[str]) -> Iterable[Metric]:
    words = (
        "Of the history: jobs submitted, their ends by status (one retried by hand ends anew), and purged; attempts "
        "lost, and of these rescued."
    )
    family = CounterMetricFamily("jobtrail_db_jobs", words, labels=["task", "kind"])
    # from 0 on, before the first job: what appears as 100 has not increased, as Prometheus sees it
    tasks = dict.fromkeys([*(task for task, _, _ in totals), *known])
    told = {(task, kind): 0 for task in tasks for kind in _KINDS} | {(task, kind): n for task, kind, n in totals}
    for labels, n in told.items():
        family.add_metric(labels, n)
    yield family


def _age(stats: Stats, since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (stats.read_at - since).total_seconds())


def _by(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=[label])
    for value, n in values.items():
        family.add_metric([value], n)
    return family


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value)


def _count(name: str, words: str, value: float) -> Metric:
    return CounterMetricFamily(name, words, value)
