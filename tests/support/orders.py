"""Jobs in processes of their own, without a database."""

import asyncio
import contextlib
import json
import os
from datetime import timedelta
from typing import Any

import psutil

from jobtrail import Retry
from jobtrail.records import Claimed
from jobtrail.task.outcome import Ended, Returned
from jobtrail.task.task import Task
from jobtrail.worker.processes.pool import Child, Order, Processes
from support import heavy
from support.contexts import Untied, context_of
from support.until import until

MODULES = ["support.heavy", "support.hearing"]


def order(task: Task[..., Any], *, module: str | None = None, **args: Any) -> Order:
    context = context_of(task.name)
    limit = timedelta(seconds=60)
    claimed = Claimed(context.job_id, 1, task.name, args, context.trace_id, 1, limit, "ann")
    return Order(claimed, module or task.function.__module__, 5000)


async def ran(
    processes: Processes, task: Task[..., Any], ties: Untied | None = None, *, retry: Retry | None = None, **args: Any
) -> Ended:
    child = await processes.child()
    return await child.run(order(task, **args), ties or Untied(), retry)


class Running:
    """A job that is under way, and has said so."""

    def __init__(self, child: Child, job: "asyncio.Task[Ended]", notes: list[str]) -> None:
        self.child = child
        self.job = job
        self.notes = notes

    @classmethod
    async def start(cls, processes: Processes, task: Task[..., Any], **args: Any) -> "Running":
        child, ties = await processes.child(), Untied()
        job = asyncio.create_task(child.run(order(task, **args), ties, None))

        async def words() -> list[str]:
            assert not job.done(), job.result()
            return [each.note or "" for each in ties.reported]

        return cls(child, job, (await until(words, every=0.002))[0].split())

    @property
    def pid(self) -> int:
        return int(self.notes[0])

    async def ended(self) -> Ended:
        return await asyncio.wait_for(self.job, 60)


def result_of(ended: Ended) -> str:
    assert isinstance(ended, Returned), ended
    return ended.result or ""


async def pid_of_next(processes: Processes) -> int:
    return int(json.loads(result_of(await ran(processes, heavy.about)))["pid"])


async def gone(pid: int, *, within: float = 60) -> None:
    async def is_gone() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        return True

    await until(is_gone, within=within)


def lives_in(process: psutil.Process, group: int) -> bool:
    """Not as a zombie, which waits for whoever took over from its parent."""
    with contextlib.suppress(ProcessLookupError):
        return os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE
    return False


async def gone_with_all(group: int) -> None:
    async def is_gone() -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, 0)
            return not [each for each in psutil.process_iter(["status"]) if lives_in(each, group)]
        return True

    await until(is_gone)
