"""When an attempt that raised is followed by another, and how long the job waits for it."""

import math
from dataclasses import dataclass
from typing import Any

from jobtrail.job.errors import DeclarationError
from jobtrail.job.limits import MAX_TIMEOUT


@dataclass(frozen=True)
class Retry:
    """Exponential backoff: before attempt n + 1 a job waits `base * factor ** (n - 1)` seconds, at most `max`.

    `jitter` spreads each wait by that share to both sides, so that jobs which failed together do not come back
    together; 0.2 makes of 10 s something between 8 and 12. `on`: errors that are worth another attempt; every other
    error is final.
    """

    base: float = 1.0
    factor: float = 2.0
    max: float = 3600.0
    jitter: float = 0.2
    on: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        self._refuse_outside("base", 0, MAX_TIMEOUT, "seconds before the second attempt")
        self._refuse_outside("factor", 1, math.inf, "1 keeps the wait, 2 doubles it each time")
        self._refuse_outside("max", 0, MAX_TIMEOUT, "the longest wait in seconds")
        self._refuse_outside("jitter", 0, 1, "the share by which a wait varies, 0.2 for a fifth")
        if self.max < self.base:
            raise DeclarationError(f"Retry(max={self.max!r}) is less than base={self.base!r}: raise max or lower base")
        self._refuse_other_than_exceptions()

    def delay(self, attempt: int, random: float) -> float:
        """Seconds from the end of failed attempt number `attempt` (from 1) to the next; `random` is from [0, 1]."""
        try:
            wait = min(self.max, self.base * float(self.factor) ** (attempt - 1))
        except OverflowError:
            wait = self.max if self.base else 0.0
        return wait * (1 + self.jitter * (2 * random - 1))

    def retries(self, error: BaseException) -> bool:
        return isinstance(error, self.on)

    def _refuse_outside(self, name: str, least: float, most: float, meaning: str) -> None:
        value: Any = getattr(self, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # Written so that NaN, which compares as False, is refused; infinity is no number of seconds either.
        if not (is_number and least <= value <= most and value < math.inf):
            limits = f"at least {least}" if most == math.inf else f"from {least} to {most}"
            raise DeclarationError(f"Retry({name}={value!r}): write a number, {limits} ({meaning})")

    def _refuse_other_than_exceptions(self) -> None:
        on: object = self.on
        if isinstance(on, type) and issubclass(on, BaseException):
            raise DeclarationError(f"Retry(on={on.__name__}): write a tuple, on=({on.__name__},)")
        if not isinstance(on, tuple) or not all(
            isinstance(each, type) and issubclass(each, BaseException) for each in on
        ):
            raise DeclarationError(f"Retry(on={on!r}): write a tuple of exception classes, for example (TimeoutError,)")
        if not on:
            raise DeclarationError("Retry(on=()) retries nothing: write retry=None on the task instead")
