"""What may be given for a parameter, before the database has seen it."""

import re
from collections.abc import Mapping
from typing import Final

from jobtrail.job.errors import FieldError, InvalidInputError
from jobtrail.job.pointer import step
from jobtrail.job.storable import check

MOST_ROWS: Final = 10_000
"""An answer is held in memory and sent whole; psql has no such limit."""

_NUMBER: Final = re.compile(r"[0-9]{1,9}")


def settle(defaults: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """A value for each parameter. Raises InvalidInputError with a pointer for each name or value that is refused."""
    flaws = [flaw for name, value in given.items() for flaw in _flaws(name, value, defaults)]
    if flaws:
        raise InvalidInputError(flaws)
    return {**defaults, **given}


def _flaws(name: str, value: str, known: Mapping[str, str]) -> list[FieldError]:
    pointer = step(name)
    if name not in known:
        return [FieldError(pointer, f"there is no such parameter; there are: {', '.join(known)}")]
    if name == "limit" and not (_NUMBER.fullmatch(value) and 1 <= int(value) <= MOST_ROWS):
        return [FieldError(pointer, f"a whole number from 1 to {MOST_ROWS}")]
    return [flaw.under(pointer) for flaw in check(value)]
