"""One process that runs jobs, from its first beat to its last."""

import asyncio
import contextvars
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from jobtrail.events.hub import Hub
from jobtrail.ids import Trace
from jobtrail.jobs.meters import NodeFacts
from jobtrail.jobs.services import Services
from jobtrail.jobs.submit import submit
from jobtrail.logs import attach, detach
from jobtrail.ops.declarations import declared, hashes_of
from jobtrail.ops.nodes import Counts
from jobtrail.task.catalog import Known, modules_of
from jobtrail.task.context import JobContext
from jobtrail.task.submission import Submission
from jobtrail.task.task import Task
from jobtrail.tracing import current
from jobtrail.worker.leases import LeaseConfig, Leases
from jobtrail.worker.listener import Listener
from jobtrail.worker.maintenance import Maintenance, MaintenanceConfig, Neighbours
from jobtrail.worker.watchdog import Watchdog
from jobtrail.worker.worker import Worker, WorkerConfig

log = logging.getLogger(__name__)


class Node:
    """A fresh random id per start: with the attempt it is the fence, so no node is mistaken for its predecessor.

    `tasks` are those that it has slots for. `connect` makes an engine of one connection: for the thread that renews the
    leases, and for the listener.
    """

    def __init__(
        self,
        services: Services,
        connect: Callable[[], AsyncEngine],
        work: WorkerConfig,
        maintenance: MaintenanceConfig,
        lease: LeaseConfig,
        *,
        version: str,
    ) -> None:
        self.id: Final = uuid4()
        self._version = version
        self._services = services
        self.worker: Final = Worker(services, self.id, work, self._submit)
        self.tasks: Final = [task.name for task in services.catalog if self.worker.slots[task.runs_in]]
        own = [task.name for task in services.catalog.own if self.worker.slots[task.runs_in]]
        known = Known(socket.gethostname(), modules_of(services.catalog))
        entry = {
            "id": self.id,
            "host": known.host,
            "pid": os.getpid(),
            "version": version,
            "queues": list(work.queues),
            "tasks": self.tasks + own,
            "slots": self.worker.slots,
            "lease": lease.lease,
            "modules": known.modules,
            "declares": hashes_of(declared(services.catalog, self.tasks)),
        }
        self._watchdog = Watchdog(self.worker.task_of)
        self.leases: Final = Leases(
            connect,
            entry,
            lease,
            held=self.worker.held,
            counts=self._counts,
            report=self.worker.reconcile,
            beside=[self._watchdog.loop],
        )
        self.maintenance: Final = Maintenance(
            services, maintenance, node_id=self.id, lease=work.lease, tasks=self.tasks, launch=self.launch
        )
        self.neighbours: Final = Neighbours(services.database, known, node_id=self.id, every=work.lease)

        self.listener: Final = Listener(services.database, connect, self.worker.look, poll_every=work.poll_every)

        self.unrecorded = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = contextvars.copy_context()
        self._stopping: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self.tasks:
            attach(self)
        self._watchdog.attach()
        self._services.meters.node = self.facts
        self.leases.start()
        self.worker.start()
        self.maintenance.start()
        self.neighbours.loop.start()
        if self.tasks:
            self.listener.start()
        if self.tasks and (left_out := sorted(set(self._services.catalog.names) - set(self.tasks))):
            log.warning(
                "this node has no slots for the tasks %s: see JOBTRAIL_SLOTS, JOBTRAIL_THREADS and JOBTRAIL_PROCESSES",
                ", ".join(left_out),
            )
        log.info("node started", extra={"node_id": str(self.id), "tasks": len(self.tasks)})

    def drain(self, grace: float) -> None:
        """Begin to stop: nothing is accepted or claimed any more, and what runs has `grace` seconds from now.

        Again with less: to hurry; an earlier limit holds. Callable from a signal handler; `stop` waits for the end.
        """
        self.worker.drain(grace)
        if self._loop is not None:
            # a signal handler has the context of what it interrupts, so a job's ids would be in all lines from here on
            self._loop.call_soon_threadsafe(self._begin_to_stop, context=self._context)

    async def stop(self, grace: float) -> None:
        """Idempotent. When it returns, the node is off the list, and every end of an attempt is recorded but for
        `unrecorded` many, should the database be away.
        """
        self.worker.drain(grace)
        stopping = self._begin_to_stop()
        await asyncio.wait({stopping})
        if stopping.cancelled():  # the loop is being closed, and everything on it was cancelled
            await self._stop()
        else:
            await stopping

    def _begin_to_stop(self) -> "asyncio.Task[None]":
        self._services.once(Hub).close()
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="jobtrail-stop")
        return self._stopping

    async def _stop(self) -> None:
        log.info("node stopping", extra={"node_id": str(self.id), "running": len(self.worker.held())})
        *_, self.unrecorded = await asyncio.gather(
            self.listener.stop(), self.maintenance.stop(), self.neighbours.loop.stop(), self.worker.stop()
        )
        detach(self)
        await self.leases.stop()
        log.info("node stopped", extra={"node_id": str(self.id)})

    def accepting(self) -> bool:
        """False once it stops: what is submitted then should go to another node."""
        return not self.worker.draining

    def launch(self, job_id: UUID, task: str, queue: str) -> None:
        """Start a job that was just committed, or give the nodes of other processes a hint."""
        if not self.worker.launch(job_id, task, queue):
            self._services.database.hints.send(queue)

    def facts(self) -> NodeFacts:
        """Callable from any thread."""
        worker, counts = self.worker, self._counts()
        return NodeFacts(self.id, self._version, worker.slots, worker.busy, counts.loop_lag, *counts[:2])

    def _counts(self) -> Counts:
        return Counts(self.worker.left_behind, self.worker.stale_ends, self._watchdog.lag)

    def _submit(self, parent: JobContext, task: Task[..., Any], args: dict[str, Any], trace: Trace) -> Awaitable[UUID]:
        return self._submit_child(parent, Submission(task=task.name, args=args), current(trace))

    async def _submit_child(self, parent: JobContext, wanted: Submission, trace: Trace | None) -> UUID:
        job, is_there = await submit(self._services, wanted, by=f"job {parent.job_id}", trace=trace)
        if not is_there:
            self.launch(job.id, job.task, job.queue)
        return job.id
