"""JSON pointers (RFC 6901) to what is wrong in a value."""

from typing import Any

Path = tuple[Any, str | int] | None
"""A place in a value: its container's Path and its own key; None is the root. Cheap to carry; few are written."""


def pointer(path: Path) -> str:
    """The pointer in a form that any text can hold: NUL and lone surrogates are written as their escapes."""
    keys: list[str | int] = []
    while path is not None:
        path, key = path
        keys.append(key)
    return "".join(map(step, reversed(keys)))


def step(key: str | int) -> str:
    return "/" + visible(str(key).replace("~", "~0").replace("/", "~1"))


def visible(text: str) -> str:
    """The text with what PostgreSQL cannot hold, NUL and lone surrogates, written as escapes."""
    return text.replace("\0", "\\u0000").encode(errors="backslashreplace").decode()
