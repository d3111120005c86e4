"""Which job a test means: the same task, with the same arguments once they are JSON and the defaults are filled in."""

from collections.abc import Mapping, Sequence
from typing import Any

from jobtrail.job import storable
from jobtrail.job.record import Job
from jobtrail.job.task import Task


def matching(jobs: Sequence[Job], task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Job]:
    """Those of the task; of them, if any arguments are given, those with these.

    Raises InvalidArgumentsError for arguments that no job of the task could have.
    """
    found = [job for job in jobs if job.task == task.name]
    if not args and not kwargs:
        return found
    wanted = _whole(task, task.signature.dump(*args, **kwargs))
    return [job for job in found if _whole(task, job.args) == wanted]


def told(jobs: Sequence[Job]) -> str:
    """A line for each, and one that says so when there is none."""
    if not jobs:
        return "nothing was submitted"
    return "\n".join(["what was submitted:", *(f"  {job.task} {storable.dump(job.args)}" for job in jobs)])


def _whole(task: Task[..., Any], args: Mapping[str, Any]) -> dict[str, Any]:
    """A default stands for the argument that was left out: the task cannot tell the one from the other."""
    left_out = [each for each in task.signature.parameters.values() if not each.required and each.name not in args]
    return {**args, **{each.name: each.store(each.default) for each in left_out}}
