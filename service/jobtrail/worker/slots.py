"""How many jobs a node runs at once, by the kind of place they need."""

from collections.abc import Iterator, Mapping
from typing import Final

from jobtrail.task.task import RunsIn

Kind = RunsIn

KINDS: Final[tuple[Kind, ...]] = ("loop", "thread", "process")


class Slots:
    """Free places by kind. `running` means running: nothing is claimed without a place for it."""

    def __init__(self, total: Mapping[Kind, int]) -> None:
        self.total: Final = dict(total)
        self._taken: dict[Kind, int] = dict.fromkeys(KINDS, 0)

    def free(self, kind: Kind) -> int:
        return self.total[kind] - self._taken[kind]

    def take(self, kind: Kind, count: int = 1) -> None:
        self._taken[kind] += count

    def give_back(self, kind: Kind, count: int = 1) -> None:
        self._taken[kind] -= count

    def free_kinds(self) -> Iterator[Kind]:
        return (kind for kind in KINDS if self.free(kind) > 0)
