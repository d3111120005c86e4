"""Work of unknown size in commits that the database can do in its time."""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from jobtrail.job.errors import UnavailableError
from jobtrail.store.faults import FAILURES, Fault, fault_of, unavailability

FIRST: Final = 100
"""Rows of the first batch: nobody knows yet what they cost."""


async def in_batches(step: Callable[[int], Awaitable[bool]], *, most: int, within: float = 1.0) -> None:
    """Call `step` with a number of rows until it returns False: there are no more.

    The number doubles, up to `most`, while a batch takes less than half of `within` seconds. It is halved, down to one,
    after a batch that took longer than `within`, or that the database refused or gave up at its statement timeout: a
    fixed number of rows that are too large would never get done, and one row that cannot be changed would keep its
    neighbours. Raises what `step` raises for a single row, and what has nothing to do with the rows.
    """
    size, more = min(FIRST, most), True
    while more:
        began = time.monotonic()
        try:
            more = await step(size)
        except (UnavailableError, *FAILURES) as error:
            is_passing = isinstance(error, UnavailableError) or unavailability(error) is not None
            if size == 1 or (is_passing and fault_of(error) is not Fault.SLOW):
                raise
            took = float("inf")
        else:
            took = time.monotonic() - began
        if took > within:
            size = max(1, size // 2)
        elif took < within / 2:
            size = min(most, size * 2)
