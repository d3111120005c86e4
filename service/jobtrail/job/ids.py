"""Ids of jobs: UUID version 7 (RFC 9562, section 5.7), rising within a process.

The time in an id only keeps rows that are born together together in the index; no rule reads it.
"""

import os
import threading
import time
from typing import Final
from uuid import UUID

_VERSION: Final = 7 << 76
_VARIANT: Final = 0b10 << 62

_COUNTER_BITS: Final = 42
_TAIL_BITS: Final = 32
_LOW_BITS: Final = 30


class _Sequence:
    """A counter of 42 bits under the millisecond (RFC 9562, section 6.2, method 1); 32 random bits come after it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._milliseconds = 0
        self._counter = 0

    def advance(self, milliseconds: int) -> tuple[int, int]:
        """The next pair, greater than every pair before it, even when the clock stands still or goes back."""
        with self._lock:
            if milliseconds > self._milliseconds:
                self._restart(milliseconds)
            elif self._counter + 1 < 1 << _COUNTER_BITS:
                self._counter += 1
            else:
                self._restart(self._milliseconds + 1)
            return self._milliseconds, self._counter

    def _restart(self, milliseconds: int) -> None:
        # The top bit starts clear, so that a millisecond always has room for 2**41 ids.
        self._milliseconds = milliseconds
        self._counter = int.from_bytes(os.urandom(6)) >> (48 - _COUNTER_BITS + 1)


_sequence: Final = _Sequence()


def new_job_id() -> UUID:
    milliseconds, counter = _sequence.advance(time.time_ns() // 1_000_000)
    return _assemble(milliseconds, counter, int.from_bytes(os.urandom(4)))


def _assemble(milliseconds: int, counter: int, tail: int) -> UUID:
    """48 bits of time, version, 12 bits of counter, variant, 30 bits of counter, 32 bits of tail."""
    high = counter >> _LOW_BITS << 64
    low = (counter & (1 << _LOW_BITS) - 1) << _TAIL_BITS
    return UUID(int=milliseconds << 80 | _VERSION | high | _VARIANT | low | tail)
