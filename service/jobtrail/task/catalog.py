"""The tasks of one process, by name, and how they differ from those of other nodes."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from types import ModuleType
from typing import Any, Final, NamedTuple

from jobtrail.errors import DeclarationError, UnknownTaskError
from jobtrail.task.task import RunsIn, Task

SCRIPT: Final = frozenset({"__main__", "__mp_main__"})
"""The names of a script that is run: by Python, and by multiprocessing in a process that it spawns."""


class Catalog:
    """Iterates over its tasks in the order of their names."""

    def __init__(self, tasks: Iterable[Task[..., Any]] = (), modules: Sequence[str] = ()) -> None:
        """`modules`: where those tasks are found that run in a process, which has to import them.

        Raises DeclarationError for two tasks of one name, and for two limits of one key; the same task twice is fine.
        """
        self.modules: Final = tuple(modules)
        self.own: Sequence[Task[..., Any]] = ()
        """Tasks of Jobtrail itself, found by name and on no list. All of their jobs have limits."""
        self._tasks: dict[str, Task[..., Any]] = {}
        schedules: dict[str, Task[..., Any]] = {}
        self.limits: Final[dict[str, Mapping[str, Any]]] = {}
        """The numbers of all limits, by their templates."""
        for task in tasks:
            other = self._tasks.setdefault(task.name, task)
            if other is not task:
                raise DeclarationError(
                    f"two tasks are named {task.name!r}: {other.place} and {task.place}; "
                    "give one of them another name with @task(name=…)"
                )
            if task.schedule is not None and (other := schedules.setdefault(task.schedule_name, task)) is not task:
                raise DeclarationError(
                    f"two schedules are named {task.schedule_name!r}: {other.place} and {task.place}; give one of them "
                    "another name with @task(schedule_name=…)"
                )
            for limit in task.limits:
                if self.limits.setdefault(limit.key, limit.declared) != limit.declared:
                    raise DeclarationError(
                        f"{limit!r} of {task!r} has other numbers than the limit of that key of another task: declare "
                        "it once, or give one of them another key"
                    )

    @classmethod
    def from_modules(cls, modules: Iterable[ModuleType]) -> "Catalog":
        """The tasks on the top level of these modules, imported ones too.

        A script that is imported once more under its name, as a web server does, has its tasks twice, in the processes
        that it spawns too: those of the import are taken. Raises DeclarationError.
        """
        # by the type itself: there are objects that answer isinstance by importing whatever they stand for
        found = [
            (thing, module.__name__)
            for module in modules
            for thing in list(getattr(module, "__dict__", {}).values())
            if issubclass(type(thing), Task)
        ]
        imported = {(thing.name, thing.written) for thing, _ in found if not _is_of_script(thing)}
        found = [
            (thing, name)
            for thing, name in found
            if not _is_of_script(thing) or (thing.name, thing.written) not in imported
        ]
        return cls((thing for thing, _ in found), sorted({name for thing, name in found if thing.runs_in == "process"}))

    @classmethod
    def of(cls, tasks: Iterable[Task[..., Any]]) -> "Catalog":
        """These tasks, found where their functions are written. Raises DeclarationError."""
        given = tuple(tasks)
        return cls(given, sorted({task.function.__module__ for task in given if task.runs_in == "process"}))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._tasks))

    def of_kind(self, kind: RunsIn) -> list[Task[..., Any]]:
        return [task for task in self if task.runs_in == kind]

    def with_own(self, kind: RunsIn) -> list[Task[..., Any]]:
        return [task for task in (*self, *self.own) if task.runs_in == kind]

    def __getitem__(self, name: str) -> Task[..., Any]:
        """Raises UnknownTaskError with the names that are nearest."""
        try:
            return self._tasks[name]
        except KeyError:
            for task in self.own:
                if task.name == name:
                    return task
            raise UnknownTaskError(name, difflib.get_close_matches(name, self.names)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._tasks or any(task.name == name for task in self.own)

    def __iter__(self) -> Iterator[Task[..., Any]]:
        return iter([self._tasks[name] for name in self.names])

    def __len__(self) -> int:
        return len(self._tasks)


def _is_of_script(task: Task[..., Any]) -> bool:
    return task.function.__module__ in SCRIPT


class Known(NamedTuple):
    """The tasks of a living node: by the name of each, the module that it is written in."""

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
    if name not in SCRIPT:
        return name
    return task.written.rpartition(":")[0].replace("\\", "/").rpartition("/")[2]


def _alike(module: str, other: str) -> bool:
    """`main.py`, as a script, is `main` and `shop.main` where it is imported."""
    return module == other or _file(module) == other or module == _file(other)


def _file(module: str) -> str:
    return module.rpartition(".")[2] + ".py"
