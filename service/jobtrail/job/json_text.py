"""Reading a JSON text so that what cannot be stored is noticed and can be pointed at."""

import json
import math
import re
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from jobtrail.job.errors import FieldError, InvalidInputError, NotJsonError
from jobtrail.job.limits import MAX_DIGITS, MAX_NESTING
from jobtrail.job.pointer import Path, pointer

LARGEST: Final = int(sys.float_info.max)
TOO_DEEP: Final = f"nested more than {MAX_NESTING} levels deep"
TOO_LARGE: Final = "a number beyond the range of a double"
_TOO_LONG: Final = f"a number of more than {MAX_DIGITS} digits"
_REPEATED: Final = "the name appears more than once in its object"

# Only escapes can bring NUL and lone surrogates into a text that was decoded from UTF-8.
_SUSPECT_ESCAPE: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
# Without a match no number can leave a double's range: fewer than 200 digits before an exponent of one.
_LONG_NUMBER: Final = re.compile(r"[0-9][eE]\+?[0-9]{2}|(?<![0-9])[0-9]{200}")
_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]')


class Refused(NamedTuple):
    """Stands in a value for something that was in the text and cannot be stored."""

    detail: str


class Reading(NamedTuple):
    """`suspect` False: nothing in the value needs a second look."""

    value: object
    suspect: bool


def read(raw: bytes) -> Reading:
    """Raises NotJsonError, and InvalidInputError for a text nested so deep that Python cannot read it."""
    text = _decode(raw)
    hooks = _Hooks()
    try:
        value = hooks.read(text, careful=_LONG_NUMBER.search(text) is not None)
    except json.JSONDecodeError as error:
        raise NotJsonError(error.msg, error.lineno, error.colno) from None
    except RecursionError:
        raise InvalidInputError([FieldError(_pointer_to_depth(text), TOO_DEEP)]) from None
    return Reading(value, hooks.refused or _SUSPECT_ESCAPE.search(text) is not None or _is_deep(value))


def _decode(raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise _not_json("invalid UTF-8", raw[: error.start].decode()) from None
    if text.startswith("\N{ZERO WIDTH NO-BREAK SPACE}"):
        raise _not_json("the text begins with a byte order mark; send UTF-8 without one", "")
    return text


def _not_json(reason: str, before: str) -> NotJsonError:
    return NotJsonError(reason, before.count("\n") + 1, len(before) - before.rfind("\n"))


class _Hooks:
    """What the parser of the standard library asks during one parse. `refused`: a Refused stands in the value."""

    def __init__(self) -> None:
        self.refused = False

    def read(self, text: str, *, careful: bool) -> object:
        """`careful` looks at every number, which makes a long list of them six times as slow to read."""
        return json.loads(
            text,
            parse_int=self._read_int if careful else None,
            parse_float=self._read_float if careful else None,
            parse_constant=lambda name: self._refuse(f"{name} is not JSON"),
            object_pairs_hook=self._read_object,
        )

    def _refuse(self, detail: str) -> Refused:
        self.refused = True
        return Refused(detail)

    def _read_int(self, digits: str) -> object:
        # The length comes first: Python itself refuses to read more than 4,300 digits.
        if len(digits) > MAX_DIGITS and _is_too_long(digits):
            return self._refuse(_TOO_LONG)
        number = int(digits)
        return number if -LARGEST <= number <= LARGEST else self._refuse(TOO_LARGE)

    def _read_float(self, digits: str) -> object:
        if len(digits) > MAX_DIGITS and _is_too_long(digits):
            return self._refuse(_TOO_LONG)
        number = float(digits)
        return number if math.isfinite(number) else self._refuse(TOO_LARGE)

    def _read_object(self, pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            for name, _ in pairs:
                if name in seen:
                    found[name] = self._refuse(_REPEATED)
                seen.add(name)
        return found


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


def _is_too_long(digits: str) -> bool:
    return sum(map(str.isdigit, digits)) > MAX_DIGITS


def _pointer_to_depth(text: str) -> str:
    """Where the text goes too deep: what comes before that place is closed there and read instead."""
    closers: list[str] = []
    for token in _TOKEN.finditer(text):
        match token[0]:
            case "[" | "{" if len(closers) == MAX_NESTING:
                before = f"{text[: token.start()]}null{''.join(reversed(closers))}"
                return pointer(_path_to_end(_Hooks().read(before, careful=True)))
            case "[":
                closers.append("]")
            case "{":
                closers.append("}")
            case "]" | "}":
                closers.pop()
            case _:
                pass
    return ""


def _path_to_end(value: object) -> Path:
    path: Path = None
    while isinstance(value, dict | list):
        key, value = list(value.items())[-1] if isinstance(value, dict) else (len(value) - 1, value[-1])
        path = (path, key)
    return path
