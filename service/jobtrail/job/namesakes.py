"""Tasks of one name that nodes know by different modules: two apps that run each other's jobs, unless one of them moved
its tasks and is in the middle of a rollout.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Final, NamedTuple

from jobtrail.job.task import Task


class Known(NamedTuple):
    """What a living node knows: by the name of each task, the module that it is written in."""

    host: str
    modules: Mapping[str, str]


class Namesakes(NamedTuple):
    """One task's name in two modules, each with one of the hosts that know it so."""

    task: str
    module: str
    host: str
    other_module: str
    other_host: str

    def __str__(self) -> str:
        return (
            f"task {self.task!r} is {self.module} on {self.host} and {self.other_module} on {self.other_host}: if "
            "these are two apps, each runs the other's jobs"
        )


HOW_TO_PART: Final = (
    "give each app a schema of its own with JOBTRAIL_SCHEMA, or one of the tasks another name with @task(name=…); "
    "nothing is wrong while a rollout moves the task to another module"
)


def modules_of(tasks: Iterable[Task[..., object]]) -> dict[str, str]:
    """By the task's name; a script is known by its file, since its module has another name wherever it is started."""
    return {task.name: _module(task) for task in tasks}


def namesakes(nodes: Sequence[Known]) -> list[Namesakes]:
    """One for each task and pair of modules, in the order of the nodes."""
    found: dict[tuple[str, frozenset[str]], Namesakes] = {}
    for one, other in combinations(nodes, 2):
        for task in sorted(one.modules.keys() & other.modules.keys()):
            module, other_module = one.modules[task], other.modules[task]
            if not _alike(module, other_module):
                pair = frozenset((module, other_module))
                found.setdefault((task, pair), Namesakes(task, module, one.host, other_module, other.host))
    return list(found.values())


def _module(task: Task[..., object]) -> str:
    name = task.function.__module__
    if name not in ("__main__", "__mp_main__"):
        return name
    return task.written.rpartition(":")[0].replace("\\", "/").rpartition("/")[2]


def _alike(module: str, other: str) -> bool:
    """`main.py`, as a script, is `main` and `shop.main` where it is imported."""
    return module == other or _file(module) == other or module == _file(other)


def _file(module: str) -> str:
    return module.rpartition(".")[2] + ".py"
