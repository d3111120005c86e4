"""The right to run one attempt now, for each kind of task."""

from collections.abc import Iterator, Mapping
from typing import Final

from jobtrail.task.task import RunsIn

KINDS: Final[tuple[RunsIn, ...]] = ("loop", "thread", "process")


class Slots:
    """Free slots by kind. `running` means running: nothing is claimed without a slot."""

    def __init__(self, total: Mapping[RunsIn, int]) -> None:
        self.total: Final = dict(total)
        self._taken: dict[RunsIn, int] = dict.fromkeys(KINDS, 0)

    def free(self, kind: RunsIn) -> int:
        return self.total[kind] - self._taken[kind]

    def take(self, kind: RunsIn, count: int = 1) -> None:
        self._taken[kind] += count

    def give_back(self, kind: RunsIn, count: int = 1) -> None:
        self._taken[kind] -= count

    def free_kinds(self) -> Iterator[RunsIn]:
        return (kind for kind in KINDS if self.free(kind) > 0)
