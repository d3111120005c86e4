"""How many jobs of this process wait to be stored. Beyond a number waiting helps nobody: those who call give up."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from jobtrail.job.errors import OverloadedError


class Waiting:
    """At most `most` jobs; a batch that is larger still goes when nobody else waits."""

    def __init__(self, most: int = 5000) -> None:
        self._most: Final = most
        self._count = 0

    @contextmanager
    def room_for(self, jobs: int) -> Iterator[None]:
        """Raises OverloadedError, and then nothing was done."""
        if self._count and self._count + jobs > self._most:
            raise OverloadedError(self._count)
        self._count += jobs
        try:
            yield
        finally:
            self._count -= jobs
