"""Where a process finds its tasks: in modules, which it imports by their names."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import process, spawn
from types import ModuleType
from typing import Any

from jobtrail.errors import DeclarationError
from jobtrail.task.catalog import SCRIPT
from jobtrail.task.task import Task
from jobtrail.worker.processes.messages import Order


class TaskModules:
    """`names`: the modules that declare tasks; `main`: how the main module of the node is run again."""

    def __init__(self, names: Sequence[str], main: Mapping[str, str]) -> None:
        self._names = names
        self._main = main

    def import_all(self) -> None:
        """What is imported now does not count as a job's time; what cannot be is told to the job that needs it."""
        for name in self._names:
            with contextlib.suppress(Exception, SystemExit):
                self._import(name)

    def find(self, order: Order) -> Task[..., Any]:
        """In the module of its function first, but the task may have been made elsewhere.

        Raises DeclarationError when it is nowhere, and whatever an import raises.
        """
        places = dict.fromkeys([order.module, *self._names])
        for place in places:
            for thing in vars(self._import(place)).values():
                if isinstance(thing, Task) and thing.name == order.claimed.task:
                    return thing
        raise DeclarationError(
            f"the process finds no task {order.claimed.task!r} in {', '.join(places)}: keep it at the top level of its "
            "module, under the name of its own, and not only where a condition holds"
        )

    def _import(self, name: str) -> ModuleType:
        if name in SCRIPT and self._main:
            with _importing_main():
                spawn.prepare(self._main)
            self._main = {}
        return importlib.import_module(name)


@contextlib.contextmanager
def _importing_main() -> Iterator[None]:
    """As multiprocessing marks it: a script without the usual guard is refused when it would start processes again."""
    mark = vars(process.current_process())
    mark["_inheriting"] = True
    try:
        yield
    finally:
        del mark["_inheriting"]
