"""The JSON that the database can hold, and the texts: checked before anything is stored.

PostgreSQL's jsonb has no NUL and no lone surrogates, and JSON has no NaN and no Infinity (RFC 8259, sections 6 and 8).
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from types import GeneratorType
from typing import Any, Final

from pydantic_core import to_jsonable_python

from jobtrail.job.errors import FieldError, InvalidInputError, ResultNotJsonError, ResultTooLargeError
from jobtrail.job.json_text import LARGEST, TOO_DEEP, TOO_LARGE, Refused, read
from jobtrail.job.limits import MAX_NESTING
from jobtrail.job.pointer import Path, pointer, visible

MAX_FLAWS: Final = 100
"""No more are told at once: a body of a million NaN gets an answer of a readable length."""

_SMALL: Final = 2**63
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

# made once: a task may put something else in the place of json.dumps
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

_Container = dict[Any, Any] | list[Any]


def parse(raw: bytes) -> object:
    """The value of a JSON text, strictly read.

    Raises NotJsonError for what is no JSON text in UTF-8 without a byte order mark, and InvalidInputError for JSON that
    cannot be stored as it was meant: see `check`, and also numbers of more than 400 digits and repeated names in one
    object, of which readers keep the first, the last or none (RFC 8259, section 4).
    """
    value, suspect = read(raw)
    if suspect and (flaws := check(value)):
        raise InvalidInputError(flaws)
    return value


def check(value: object) -> list[FieldError]:
    """Everything about a parsed JSON value that the database cannot hold, at most MAX_FLAWS; empty: it can be stored.

    Pointers lead into the value. Cycles and any depth are fine to ask about: nothing below level 64 is looked at.
    """
    return list(islice(_walk(value), MAX_FLAWS))


def names_in(value: object) -> frozenset[str]:
    """Those of all objects in a JSON value, at any depth; cycles are fine."""
    names: set[str] = set()
    seen: set[int] = set()
    todo = [value]
    while todo:
        container = todo.pop()
        if not isinstance(container, dict | list) or id(container) in seen:
            continue
        seen.add(id(container))
        if isinstance(container, dict):
            names.update(name for name in container if isinstance(name, str))
        todo.extend(container.values() if isinstance(container, dict) else container)
    return frozenset(names)


def dump(value: object) -> str:
    """Compact JSON text of a value that `check` found fit; raises ValueError or TypeError for what is not JSON."""
    return _ENCODER.encode(value)


def result_to_json(value: object, limit: int) -> str:
    """JSON text of what a task returned: models, dataclasses, dates, UUIDs, enums and sets as FastAPI writes them.

    Raises ResultNotJsonError, and ResultTooLargeError above `limit` bytes of UTF-8.
    """
    try:
        if isinstance(value, GeneratorType):
            value = list(islice(value, limit))  # it may never end
        _refuse_huge(value, limit)
        plain = to_jsonable_python(value)
    except ResultTooLargeError:
        raise
    except Exception as error:  # a model's serializer is the task's own code and may raise anything
        raise ResultNotJsonError(f"the result is not JSON: {message_of(error)}") from error
    try:
        text = dump(plain)
        size = len(text.encode())
    except (ValueError, TypeError, RecursionError) as error:
        flaws = check(plain)
        raise ResultNotJsonError(
            f"the result is not JSON: {InvalidInputError(flaws[:3]) if flaws else message_of(error)}"
        ) from error
    # the size first: looking at each value of something huge would take seconds
    if size > limit:
        raise ResultTooLargeError(size, limit)
    if flaws := check(plain):
        raise ResultNotJsonError(f"the result is not JSON: {InvalidInputError(flaws[:3])}")
    return text


def _refuse_huge(value: object, limit: int) -> None:
    """Counts the bytes of JSON that a result has at least, until they are more than `limit`.

    To convert something huge would take seconds; for a list that holds another ten times over, and so on, for ever.
    """
    size = 1  # of each value one byte is counted where it stands, of what is weighed the rest when its turn comes
    todo: list[tuple[object, int]] = [(value, 0)]
    while todo and size <= limit:
        each, depth = todo.pop()
        if depth > MAX_NESTING:
            continue
        inner: Iterable[object] = ()
        if type(each) is str:
            size += len(each) + 1
        elif type(each) is list or type(each) is tuple:
            size, inner = size + 2 * len(each), each
        elif type(each) is dict:
            size, inner = size + 5 * len(each), each.values()
        if size <= limit:
            todo.extend((one, depth + 1) for one in inner if type(one) in _WEIGHED)
    if size > limit:
        raise ResultTooLargeError(size, limit, at_least=True)


_WEIGHED: Final = frozenset({str, list, tuple, dict})


def message_of(error: BaseException) -> str:
    """Its text. Never raises."""
    try:
        return str(error)
    except BaseException as worse:  # noqa: BLE001 - the task's own __str__ may do anything
        return f"<the message cannot be shown: __str__ raised {type(worse).__qualname__}>"


def shown(value: object) -> str:
    """Its repr. Never raises."""
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - the type's own __repr__ may do anything
        return f"<{type(value).__qualname__}, whose __repr__ raised {type(error).__qualname__}>"


def clip(text: str, limit: int = 16 * 1024) -> str:
    """A text that the database can hold, in at most `limit` bytes of UTF-8 and with a mark where it was cut.

    NUL and lone surrogates are written as their escapes. The cut is in the middle: a traceback begins with where and
    ends with what.
    """
    if len(text) <= limit and len(visible(text).encode()) <= limit:
        return visible(text)
    mark = f" … [cut: {len(text)} characters in all] … ".encode()
    half = max(limit - len(mark), 0) // 2
    # Slicing first: of a text of a gigabyte only what stays is encoded.
    head, tail = visible(text[:half]).encode(), visible(text[len(text) - half :]).encode()
    return (head[:half] + mark + tail[len(tail) - half :])[:limit].decode(errors="ignore")


def _walk(value: object) -> Iterator[FieldError]:
    """Depth first and without recursion; siblings in their order, containers after the scalars beside them."""
    if not isinstance(value, dict | list):
        yield from _flaws_of_scalar(value, None)
        return
    todo: list[tuple[_Container, Path, int]] = [(value, None, 1)]
    while todo:
        container, path, depth = todo.pop()
        if depth > MAX_NESTING:
            yield FieldError(pointer(path), TOO_DEEP)
            continue
        if isinstance(container, dict):
            yield from _flaws_of_names(container, path)
        inner: list[tuple[_Container, Path, int]] = []
        for key, item in _children(container):
            if isinstance(item, dict | list):
                inner.append((item, (path, key), depth + 1))
            elif not _is_plain(item):
                yield from _flaws_of_scalar(item, (path, key))
        todo.extend(reversed(inner))


def _children(container: _Container) -> Iterable[tuple[str | int, object]]:
    if isinstance(container, list):
        return enumerate(container)
    return [(name, item) for name, item in container.items() if isinstance(name, str)]


def _flaws_of_names(container: dict[Any, Any], path: Path) -> Iterator[FieldError]:
    for name in container:
        if not isinstance(name, str):
            yield FieldError(pointer(path), f"a name must be a string, not {type(name).__qualname__}")
        elif not _is_plain(name):
            yield from (FieldError(pointer((path, name)), f"its name has {each}") for each in _unstorable(name))


def _flaws_of_scalar(value: object, path: Path) -> Iterator[FieldError]:
    match value:
        case None | bool():
            pass
        case str():
            yield from (FieldError(pointer(path), f"the text has {each}") for each in _unstorable(value))
        case int() if not -LARGEST <= value <= LARGEST:
            yield FieldError(pointer(path), TOO_LARGE)
        case float() if not math.isfinite(value):
            yield FieldError(pointer(path), f"{value} is not JSON")
        case int() | float():
            pass
        case Refused(detail):
            yield FieldError(pointer(path), detail)
        case _:
            yield FieldError(pointer(path), f"{type(value).__qualname__} is not JSON")


def _is_plain(value: object) -> bool:
    """Whether nothing can be wrong with it; answers fast for what nearly all values are."""
    if type(value) is str:
        return value.isascii() and "\0" not in value
    if type(value) is float:
        return math.isfinite(value)
    return value is None or value is True or value is False or (type(value) is int and -_SMALL < value < _SMALL)


def _unstorable(text: str) -> Iterator[str]:
    if "\0" in text:
        yield "the character U+0000"
    if _SURROGATE.search(text):
        yield "a lone surrogate"
