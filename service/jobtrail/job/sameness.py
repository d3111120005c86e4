"""Whether a value that was read back from JSON is the one that was written."""

from collections import deque
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel


def are_same(left: object, right: object) -> bool:
    """Equal, but for the zones of datetimes: one comes back with an offset, and in the hour that its zone repeats or
    leaves out it is equal to none of another zone (PEP 495).
    """
    try:
        if left == right:
            return True
    except Exception:  # noqa: BLE001 - the type's own __eq__ may raise anything
        return False
    if isinstance(left, datetime) and isinstance(right, datetime):
        return _instant(left) == _instant(right)
    if type(left) is not type(right):
        return False
    parts, others = _parts(left), _parts(right)
    if parts is None or others is None:
        # A class without __eq__ says nothing about sameness.
        return type(left).__eq__ is object.__eq__
    return len(parts) == len(others) and all(map(are_same, parts, others))


def _instant(moment: datetime) -> datetime:
    return moment if moment.tzinfo is None else moment.astimezone(UTC)


def _parts(value: Any) -> Sequence[object] | None:
    """The parts of a container, a model or a dataclass, in an order that two equal ones share."""
    match value:
        case dict():
            return [*value.keys(), *value.values()]
        case list() | tuple() | deque():
            return list(value)
        case set() | frozenset() if all(isinstance(each, datetime) and each.tzinfo for each in value):
            return sorted(map(_instant, value))
        case BaseModel():
            return [vars(value), value.__pydantic_extra__, value.__pydantic_private__]
        case _ if is_dataclass(value):
            return [getattr(value, field.name, None) for field in fields(value)]
        case _:
            return None
