"""The JSON that the database can hold, and the texts: checked before anything is stored.

PostgreSQL's jsonb has no NUL and no lone surrogates, and JSON has no NaN and no Infinity (RFC 8259, sections 6 and 8).
Each flaw has a JSON pointer to its place (RFC 6901).
"""

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from types import GeneratorType
from typing import Final, NamedTuple

from pydantic_core import to_jsonable_python

from jobtrail.errors import FieldError, InvalidInputError, NotJsonError, ResultNotJsonError, ResultTooLargeError
from jobtrail.ranges import MAX_DIGITS, MAX_NESTING

MAX_FLAWS: Final = 100
"""Flaws listed at most, so that a body of a million NaN gets an answer of a readable length."""

_LARGEST: Final = int(sys.float_info.max)
_TOO_DEEP: Final = f"nested more than {MAX_NESTING} levels deep"

# made once: a task may put something else in the place of json.dumps
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def parse(raw: bytes) -> object:
    """The value of a JSON text, strictly read.

    Raises NotJsonError for what is no JSON text in UTF-8 without a byte order mark, and InvalidInputError for JSON that
    cannot be stored as it was meant: see `check`, and also numbers of more than 400 digits and repeated names in one
    object, of which readers keep the first, the last or none (RFC 8259, section 4).
    """
    text = _decode(raw)
    try:
        value, is_doubtful = _read(text)
    except json.JSONDecodeError as error:
        raise NotJsonError(error.msg, error.lineno, error.colno) from None
    except RecursionError:
        value, is_doubtful = _read(_cut_where_too_deep(text))[0], True
    may_be_deep = text.count("{") + text.count("[") > MAX_NESTING
    if (is_doubtful or (may_be_deep and _is_deep(value))) and (flaws := check(value)):
        raise InvalidInputError(flaws)
    return value


def check(value: object) -> list[FieldError]:
    """Everything about a parsed JSON value that the database cannot hold, at most MAX_FLAWS; empty: it can be stored.

    Pointers lead into the value. Cycles and any depth are fine: nothing below level 64 is looked at.
    """
    return [] if _is_plain(value) else list(islice(_flaws(value, 0), MAX_FLAWS))


def dump(value: object) -> str:
    """Compact JSON text of a value that `check` found fit; raises ValueError or TypeError for what is not JSON."""
    return _ENCODER.encode(value)


def result_to_json(value: object, limit: int) -> str:
    """JSON text of what a task returned: models, dataclasses, dates, UUIDs, enums and sets as FastAPI writes them.

    Raises ResultNotJsonError, and ResultTooLargeError above `limit` bytes of UTF-8.
    """
    plain: object = None
    try:
        if isinstance(value, GeneratorType):
            value = list(islice(value, limit))  # it may never end
        refuse_huge(value, limit)
        plain = to_jsonable_python(value)
        text = dump(plain)
        size = len(text.encode())
    except ResultTooLargeError:
        raise
    except Exception as error:  # a model's serializer is the task's own code and may raise anything
        flaws = check(plain)
        raise ResultNotJsonError(InvalidInputError(flaws[:3]) if flaws else message_of(error)) from error
    # the size first: looking at each value of something huge would take seconds
    if size > limit:
        raise ResultTooLargeError(size, limit)
    if flaws := check(plain):
        raise ResultNotJsonError(InvalidInputError(flaws[:3]))
    return text


def names_in(value: object) -> frozenset[str]:
    """The names of all objects in a JSON value, at any depth; cycles are fine."""
    names: set[str] = set()
    seen: set[int] = set()
    todo = [value]
    while todo:
        container = todo.pop()
        if isinstance(container, dict | list) and id(container) not in seen:
            seen.add(id(container))
            if isinstance(container, dict):
                names.update(name for name in container if isinstance(name, str))
            todo.extend(container.values() if isinstance(container, dict) else container)
    return frozenset(names)


def message_of(error: BaseException) -> str:
    """The text of an error. Never raises."""
    try:
        return str(error)
    except BaseException as worse:  # noqa: BLE001 - the task's own __str__ may do anything
        return f"<the message cannot be shown: __str__ raised {type(worse).__qualname__}>"


def shown(value: object) -> str:
    """The repr of a value. Never raises."""
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


def step(key: str | int) -> str:
    """One step of a pointer, in a form that any text can hold."""
    return "/" + visible(str(key).replace("~", "~0").replace("/", "~1"))


def visible(text: str) -> str:
    """The text with what PostgreSQL cannot hold, NUL and lone surrogates, written as escapes."""
    return text.replace("\0", "\\u0000").encode(errors="backslashreplace").decode()


class _Refused(NamedTuple):
    """Stands in a value for something that was in the text and cannot be stored."""

    detail: str


def _flaws(value: object, depth: int) -> Iterator[FieldError]:
    if not isinstance(value, dict | list):
        yield from (FieldError("", detail) for detail in _wrong_with(value))
    elif depth == MAX_NESTING:
        yield FieldError("", _TOO_DEEP)
    else:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict) and not isinstance(key, str):
                yield FieldError("", f"a name must be a string, not {type(key).__qualname__}")
            elif not (_is_plain(key) and _is_plain(item)):
                yield from (FieldError(step(key), f"its name has {each}") for each in _unstorable(str(key)))
                yield from (flaw.under(step(key)) for flaw in _flaws(item, depth + 1))


def _wrong_with(value: object) -> Iterator[str]:
    match value:
        case str():
            yield from (f"the text has {each}" for each in _unstorable(value))
        case float() if math.isnan(value):
            yield "NaN is not JSON"
        case int() | float():
            if not -_LARGEST <= value <= _LARGEST:
                yield "a number beyond the range of a double"
        case _Refused(detail):
            yield detail
        case None:
            pass
        case _:
            yield f"{type(value).__qualname__} is not JSON"


def _unstorable(text: str) -> Iterator[str]:
    if "\0" in text:
        yield "the character U+0000"
    if re.search("[\ud800-\udfff]", text):
        yield "a lone surrogate"


_SMALL: Final = 2**63


def _is_plain(value: object) -> bool:
    """True if nothing can be wrong with it, as with nearly all values; fast."""
    if type(value) is str:
        return value.isascii() and "\0" not in value
    if type(value) is float:
        return math.isfinite(value)
    return value is None or value is True or value is False or (type(value) is int and -_SMALL < value < _SMALL)


def _decode(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        raise NotJsonError("invalid UTF-8", before.count("\n") + 1, len(before) - before.rfind("\n")) from None
    if text.startswith("\N{ZERO WIDTH NO-BREAK SPACE}"):
        raise NotJsonError("the text begins with a byte order mark; send UTF-8 without one", 1, 1)
    return text


# Only escapes can bring NUL and lone surrogates into a text that was decoded from UTF-8.
_DOUBTFUL_TEXT: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
# Without a match no number can leave a double's range: fewer than 200 digits before an exponent of one.
_DOUBTFUL_NUMBER: Final = re.compile(r"[0-9][eE]\+?[0-9]{2}|(?<![0-9])[0-9]{200}|NaN|Infinity")


def _read(text: str) -> tuple[object, bool]:
    """The value, and whether `check` may find something in it: a _Refused, or what JSON text can say and jsonb cannot.

    Each number is looked at only if one of them may be too long: that makes a long list six times as slow to read.
    """
    hook = _read_number if _DOUBTFUL_NUMBER.search(text) else None
    if hook is None:
        try:
            return _DECODER.decode(text), _DOUBTFUL_TEXT.search(text) is not None
        except _RepeatedNameError:
            pass
    return json.loads(text, parse_int=hook, parse_float=hook, object_pairs_hook=_read_repeated), True


class _RepeatedNameError(Exception): ...


def _read_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(found := dict(pairs)) < len(pairs):
        raise _RepeatedNameError
    return found


# made once: json.loads makes one for each text that it reads with a hook
_DECODER: Final = json.JSONDecoder(object_pairs_hook=_read_object)


def _read_repeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    counts = Counter(name for name, _ in pairs)
    refused = _Refused("the name appears more than once in its object")
    return dict(pairs) | {name: refused for name, count in counts.items() if count > 1}


def _read_number(digits: str) -> object:
    # Python itself refuses to read more than 4,300 digits.
    if len(digits) > MAX_DIGITS and sum(map(str.isdigit, digits)) > MAX_DIGITS:
        return _Refused(f"a number of more than {MAX_DIGITS} digits")
    return int(digits) if digits.lstrip("-").isdigit() else float(digits)


def _is_deep(value: object) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_NESTING):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


def _cut_where_too_deep(text: str) -> str:
    """The text up to one level more than can be stored, and closed there: Python could not read all of it."""
    closers = ""
    for token in re.finditer(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', text):
        match token[0]:
            case "[" | "{" if len(closers) == MAX_NESTING:
                return f"{text[: token.start()]}[]{closers}"
            case "[":
                closers = f"]{closers}"
            case "{":
                closers = f"}}{closers}"
            case "]" | "}":
                closers = closers[1:]
            case _:
                pass
    raise InvalidInputError([FieldError("", _TOO_DEEP)])  # it was read from a deep stack


_WEIGHED: Final = frozenset({str, list, tuple, dict})


def refuse_huge(value: object, limit: int) -> None:
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
