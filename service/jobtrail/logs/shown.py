"""The value of an extra field as JSON, without what is a secret by its name. Nothing here raises."""

import dataclasses
import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from jobtrail.job.limits import MAX_NESTING
from jobtrail.job.redaction import REDACTED, Redaction

_SEQUENCES: Final = (list, tuple, set, frozenset, deque)
"""Not all that are of `Sequence`: a range, or the rows of a query, may be of any length."""


def shown_of(value: object, redaction: Redaction, above: tuple[int, ...] = ()) -> Any:
    """Mappings, sequences, dataclasses and models are looked through; of anything else its text is shown, or its type
    alone if a hidden name is among its attributes or in that text. `above`: the containers that it is in.
    """
    if value is None or type(value) in {str, bool}:
        return value
    try:
        named = _named(value)
        if named is None and not isinstance(value, _SEQUENCES):
            return _leaf(value, redaction)
        if id(value) in above or len(above) >= MAX_NESTING:
            return _type_of(value)
        inner = (*above, id(value))
        if named is None:
            return [shown_of(each, redaction, inner) for each in value]  # type: ignore[attr-defined]  # it is a sequence
        return {
            name: REDACTED if redaction.hides(name) else shown_of(item, redaction, inner)
            for name, item in ((text_of(key), item) for key, item in named.items())
        }
    except Exception:  # noqa: BLE001 — objects of a task that fail
        return _type_of(value)


def text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 — the same
        return f"<{type(value).__name__} that cannot be shown>"


def _named(value: Any) -> Mapping[Any, Any] | None:
    """What it holds by name; None if it holds nothing that way. What a class leaves out of its text stays out."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, type):
        return None
    if isinstance(value, BaseModel):
        left_out = {name for name, each in type(value).model_fields.items() if each.exclude or not each.repr}
        return {name: item for name, item in value if name not in left_out}
    if dataclasses.is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if each.repr}
    if hasattr(type(value), "_asdict"):  # a named tuple, or a row of a query
        return dict(value._asdict())
    return None


def _leaf(value: object, redaction: Redaction) -> Any:
    if isinstance(value, str | int | float):
        try:
            return json.loads(json.dumps(value, allow_nan=False))
        except ValueError:  # NaN, or more digits than Python writes
            return text_of(value)
    text = text_of(value)
    hides = redaction.is_in(text) or any(map(redaction.hides, dir(value)))
    return _type_of(value) if hides else text


def _type_of(value: object) -> str:
    return f"<{type(value).__name__}>"
