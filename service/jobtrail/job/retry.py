"""What is done again after an error: which errors, how often, and how long to wait for it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from jobtrail.job.asks import Again, Fail
from jobtrail.job.errors import DeclarationError
from jobtrail.job.groups import leaves_of
from jobtrail.job.limits import MAX_ATTEMPTS, MAX_TIMEOUT

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Retry:
    """Exponential backoff: before attempt n + 1 there is a wait of `base * factor ** (n - 1)` seconds, at most `max`.

    `jitter` spreads each wait by that share to both sides, so that what failed together does not come back together;
    0.2 makes of 10 s something between 8 and 12. `on`: errors that are worth another attempt; every other error is
    final, and so are those of `give_up_on`, although `on` may name their base class. Of a group, as a TaskGroup raises
    it, each error inside is looked at: one to give up on is final for all, and all have to be worth another attempt.

    A task takes it as `@task(retry=…)`. It also repeats calls, in jobs and elsewhere: `@Retry(…)` above a function, or
    `call`. `max_attempts` is how often a call is made at most, 5 if nothing is said; for jobs the task says it.
    """

    base: float = 1.0
    factor: float = 2.0
    max: float = 3600.0
    jitter: float = 0.2
    on: tuple[type[BaseException], ...] = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()
    max_attempts: int | None = None

    def __post_init__(self) -> None:
        """Raises DeclarationError, whose message names the fix."""
        if callable(self.base):
            raise DeclarationError("@Retry needs its parentheses: write @Retry()")
        self._refuse_outside("base", 0, MAX_TIMEOUT, "seconds before the second attempt")
        self._refuse_outside("factor", 1, math.inf, "1 keeps the wait, 2 doubles it each time")
        self._refuse_outside("max", 0, MAX_TIMEOUT, "the longest wait in seconds")
        self._refuse_outside("jitter", 0, 1, "the share by which a wait varies, 0.2 for a fifth")
        if self.max < self.base:
            raise DeclarationError(f"Retry(max={self.max!r}) is less than base={self.base!r}: raise max or lower base")
        self._refuse_other_than_exceptions("on")
        self._refuse_other_than_exceptions("give_up_on")
        self._refuse_what_never_acts()

    def delay(self, attempt: int, random: float) -> float:
        """Seconds from the end of failed attempt number `attempt` (from 1) to the next; `random` is from [0, 1]."""
        try:
            wait = min(self.max, self.base * float(self.factor) ** (attempt - 1))
        except OverflowError:
            wait = self.max if self.base else 0.0
        return wait * (1 + self.jitter * (2 * random - 1))

    def retries(self, error: BaseException) -> bool:
        """Of a group: whether every leaf is worth another attempt, and none is one to give up on."""
        if any(isinstance(each, self.give_up_on) for each in (error, *leaves_of(error))):
            return False
        named = tuple(each for each in self.on if issubclass(each, BaseExceptionGroup))
        return all(isinstance(each, self.on) for each in leaves_of(error, whole=named))

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """Decorate a `def` or `async def`, of a module or a class, so that each call is made as `call` makes it.

        Raises DeclarationError for what it could not repeat.
        """
        from jobtrail.job import calls  # noqa: PLC0415 - whoever repeats no call need not import tenacity

        return calls.repeated(self, function)

    def call(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it, and again after an error that is worth it; what an `async def` gives is awaited by the caller.

        The last error is raised as it is. Of the asks, Again is followed (after its own wait) and Fail is final. A
        `def` sleeps between two calls, so call it in a thread; an `async def` leaves the loop to others. A warning of
        the logger `jobtrail.job.calls` tells of each repeat. Raises DeclarationError for what it could not repeat.
        """
        from jobtrail.job import calls  # noqa: PLC0415 - the same

        return calls.call(self, function, *args, **kwargs)

    def _refuse_outside(self, name: str, least: float, most: float, meaning: str) -> None:
        value: Any = getattr(self, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # Written so that NaN, which compares as False, is refused; infinity is no number of seconds either.
        if not (is_number and least <= value <= most and value < math.inf):
            limits = f"at least {least}" if most == math.inf else f"from {least} to {most}"
            raise DeclarationError(f"Retry({name}={value!r}): write a number, {limits} ({meaning})")

    def _refuse_other_than_exceptions(self, name: str) -> None:
        kinds: object = getattr(self, name)
        if isinstance(kinds, type) and issubclass(kinds, BaseException):
            raise DeclarationError(f"Retry({name}={kinds.__name__}): write a tuple, {name}=({kinds.__name__},)")
        if not isinstance(kinds, tuple) or not all(
            isinstance(each, type) and issubclass(each, BaseException) for each in kinds
        ):
            example = f"write a tuple of exception classes, for example {name}=(TimeoutError,)"
            raise DeclarationError(f"Retry({name}={kinds!r}): {example}")

    def _refuse_what_never_acts(self) -> None:
        attempts: object = self.max_attempts
        if attempts is not None and not (type(attempts) is int and 1 < attempts <= MAX_ATTEMPTS):
            advice = f"write a whole number from 2 to {MAX_ATTEMPTS} (how often a call is made at most)"
            raise DeclarationError(f"Retry(max_attempts={attempts!r}): {advice}")
        if not self.on:
            raise DeclarationError("Retry(on=()) retries nothing: leave it out, or write retry=None on a task")
        if BaseException in self.on:
            advice = "write Exception, and name any other one that is worth another attempt"
            raise DeclarationError(f"Retry(on={self.on!r}) would repeat what was told to end: {advice}")
        if all(issubclass(each, self.give_up_on) for each in self.on):
            advice = "name narrower errors there, or leave the Retry out"
            raise DeclarationError(f"Retry(give_up_on={self.give_up_on!r}) covers all of on={self.on!r}: {advice}")


def is_retried(error: BaseException, retry: Retry | None) -> bool:
    """What counts of an error and of all leaves of a group: Fail is final, Again is worth another attempt whatever the
    Retry says, and every other one is what the Retry says of it. `retry` None: errors are final.
    """
    leaves = leaves_of(error)
    if any(isinstance(each, Fail) for each in leaves):
        return False
    if not any(isinstance(each, Again) for each in leaves):
        return retry is not None and retry.retries(error)
    others = [each for each in leaves if not isinstance(each, Again)]
    return all(retry is not None and retry.retries(each) for each in others)


def asked_wait(error: BaseException) -> float | None:
    """Seconds that Again asks for, the longest of them in a group; None where none names a time."""
    asked = [each.after_seconds for each in leaves_of(error) if isinstance(each, Again)]
    return max((each for each in asked if each is not None), default=None)
