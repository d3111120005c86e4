"""What a task may ask for by raising it: another attempt, or none."""

from datetime import timedelta
from typing import Any, Final

from jobtrail.job.limits import MAX_TIMEOUT

_MAX_TYPE: Final = 200


class Again(Exception):  # noqa: N818 - what a task asks for, not what went wrong
    """Asks for another attempt, whatever the task's Retry says of errors, if attempts are left; else the job fails.

    `after`: how long to wait for it, in seconds or as a timedelta; None: as long as the Retry says. Raised in a call
    that a Retry repeats, it asks that Retry first, which waits there; the job is asked when no call is left.
    Raises TypeError, ValueError for what is no such time.
    """

    def __init__(
        self, after: float | timedelta | None = None, message: str = "the task asked for another attempt"
    ) -> None:
        self.after_seconds: Final = None if after is None else _seconds(after)
        super().__init__(_text("Again", message))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), self.args), vars(self)


class Fail(Exception):  # noqa: N818 - what a task asks for; the error is the one that it names
    """Gives up: the job is failed, however many attempts are left. `type` is the error type in its row.

    Raises TypeError, ValueError for what is no text, or no type of 1 to 200 characters.
    """

    def __init__(self, message: str = "the task gave up", *, type: str = "Fail") -> None:  # noqa: A002 - the row's word
        self.type: Final = _type(type)
        super().__init__(_text("Fail", message))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (type(self), self.args), vars(self)


def _unpickled(kind: type[Exception], args: tuple[Any, ...]) -> Exception:
    """Without __init__, which a class of the host's own may have written otherwise; pickle sets the attributes."""
    return kind.__new__(kind, *args)


def _seconds(after: object) -> float:
    if isinstance(after, str):
        raise TypeError(f"Again(after={after!r}): a text is the message: write Again(message={after!r})")
    if isinstance(after, bool) or not isinstance(after, int | float | timedelta):
        raise TypeError(f"Again(after={after!r}): write seconds or a timedelta, or leave it out")
    seconds = after.total_seconds() if isinstance(after, timedelta) else after
    # Written so that NaN, which compares as False, is refused.
    if not 0 <= seconds <= MAX_TIMEOUT:
        raise ValueError(f"Again(after={after!r}): write from 0 to {MAX_TIMEOUT} seconds (30 days)")
    return float(seconds)


def _text(asked: str, message: object) -> str:
    if not isinstance(message, str):
        raise TypeError(f"{asked}(message={message!r}): write a text; an error has its own with str(error)")
    return message


def _type(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"Fail(type={value!r}): write a text, such as 'no-such-customer'")
    if not 1 <= len(value) <= _MAX_TYPE:
        raise ValueError(f"Fail(type=…) has {len(value)} characters: write 1 to {_MAX_TYPE}")
    return value
