"""Hides values whose name says that they are secret. The row keeps them: the task needs them."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from jobtrail.errors import FieldError
from jobtrail.ranges import MAX_NESTING
from jobtrail.task.arguments import MISSING, UNKNOWN

REDACTED: Final = "[redacted]"

WORDS: Final = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "access_key",
    "private_key",
    "authorization",
    "credential",
    "cookie",
    "pwd",
    "bearer",
    "jwt",
)

_UNTOLD: Final = "this does not fit the task; what is wrong is not told, since it is or has a secret by its name"

_MOST_NAMES: Final = 1000
_LONGEST_NAME: Final = 100

_CONTAINERS: Final = frozenset({dict, list})

_SCHEMAS: Final = frozenset({"properties", "$defs", "patternProperties"})
"""Keywords of JSON Schema whose keys are names and no keywords."""


class Redaction:
    """Hides what has one of these words anywhere in its name: `api_key` is in `apiKey`, `X-API-Key`, `old_api_keys`."""

    def __init__(self, words: Iterable[str] = WORDS) -> None:
        known = sorted({_plain(word) for word in words} - {""})
        self._pattern: Final = re.compile("|".join(map(re.escape, known))) if known else None
        self._known: Final[dict[str, bool]] = {}

    def hides(self, name: str) -> bool:
        if self._pattern is None:
            return False
        hidden = self._known.get(name)
        if hidden is None:
            hidden = self.is_in(name)
            # callers choose names, so what is remembered of them has an end
            if len(name) <= _LONGEST_NAME and len(self._known) < _MOST_NAMES:
                self._known[name] = hidden
        return hidden

    def is_in(self, text: str) -> bool:
        """True if the text, which may be long, has a hidden name anywhere in it."""
        return self._pattern is not None and self._pattern.search(_plain(text)) is not None

    def of(self, value: Any, depth: int = 0) -> Any:
        """The JSON value without what is hidden in it, at any depth; below all that can be stored nothing is shown."""
        if self._pattern is None:
            return value
        if depth > MAX_NESTING:
            return REDACTED
        hides, inner = self.hides, depth + 1
        match value:
            case dict():
                return {
                    name: REDACTED if hides(name) else self.of(item, inner) if type(item) in _CONTAINERS else item
                    for name, item in value.items()
                }
            case list():
                return [self.of(item, inner) if type(item) in _CONTAINERS else item for item in value]
            case _:
                return value

    def of_schema(self, schema: Any, name: str = "", depth: int = 0) -> Any:
        """A JSON Schema without the defaults and examples of what is hidden, which is called `name` itself."""
        if isinstance(schema, list):
            return [self.of_schema(each, name, depth + 1) for each in schema]
        if not isinstance(schema, Mapping) or depth > MAX_NESTING:
            return schema
        return {key: self._of_keyword(key, said, name, depth + 1) for key, said in schema.items()}

    def of_flaws(self, flaws: Sequence[FieldError]) -> Sequence[FieldError]:
        """Hides details that may quote a secret, as a validator of the task may."""
        found = []
        for flaw in flaws:
            quotes_nothing = flaw.detail == MISSING or flaw.detail.startswith(UNKNOWN)
            is_hidden = any(self.hides(name) for name in (*flaw.pointer.split("/"), *flaw.names))
            found.append(FieldError(flaw.pointer, _UNTOLD) if is_hidden and not quotes_nothing else flaw)
        return found

    def _of_keyword(self, key: str, said: Any, name: str, depth: int) -> Any:
        if key in _SCHEMAS and isinstance(said, Mapping):
            return {inner: self.of_schema(each, inner, depth) for inner, each in said.items()}
        if key in ("default", "examples"):
            return REDACTED if self.hides(name) else self.of(said)
        return self.of_schema(said, name, depth)


def _plain(name: str) -> str:
    """Its letters and digits alone, in one form (Unicode, Annex 15: NFKC)."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).lower()))


NOTHING: Final = Redaction(())
"""Hides nothing."""
