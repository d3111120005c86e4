"""How far a job has come, as it says itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from jobtrail.job.storable import visible

MAX_NOTE: Final = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total`, in whatever unit the task counts; `total` None when it does not know; `note` for people.

    Raises TypeError or ValueError for what cannot be shown; a longer note than 500 characters is cut.
    """

    done: float
    total: float | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        _refuse_other("done", self.done)
        if self.total is not None:
            _refuse_other("total", self.total)
        if self.note is not None and not isinstance(self.note, str):
            raise TypeError(f"progress(note={self.note!r:.60}): write a text")

    def as_json(self) -> dict[str, Any]:
        """What the database can hold."""
        note = None if self.note is None else visible(self.note[:MAX_NOTE])
        return {"done": self.done, "total": self.total, "note": note}


def progress_of(found: object) -> Progress | None:
    """The progress of a row, or None for whatever else somebody wrote there in SQL."""
    if not isinstance(found, Mapping):
        return None
    try:
        return Progress(found.get("done"), found.get("total"), found.get("note"))  # type: ignore[arg-type] # it looks
    except (TypeError, ValueError):
        return None


def _refuse_other(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"progress({name}={value!r:.60}): write a number")
    if not (0 <= value < math.inf) or value > _MOST:
        raise ValueError(f"progress({name}={value!r:.60}): write a number from 0 to 10^15")


_MOST: Final = 10**15
"""Beyond it a double no longer tells one from the next."""
