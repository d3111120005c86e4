"""Keys made of arguments: `"tenant:{tenant}"`. Checked against the signature at declaration, filled in at submit."""

from collections.abc import Callable, Collection, Sequence
from string import Formatter
from typing import Any

from jobtrail.errors import DeclarationError, FieldError, InvalidArgumentsError
from jobtrail.ranges import MAX_LIMIT_KEY
from jobtrail.task.storable import step


def names_in(template: object) -> Sequence[str]:
    """The arguments that it names. Raises DeclarationError for anything but a text with plain names in braces."""
    if not isinstance(template, str) or not 1 <= len(template) <= MAX_LIMIT_KEY or "\0" in template:
        raise DeclarationError(
            f"{template!r:.100}: a key is a text of 1 to {MAX_LIMIT_KEY} characters, with arguments in braces: "
            '"tenant:{tenant}"'
        )
    try:
        parts = [part for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise DeclarationError(f"{template!r}: {error}; write {{{{ and }}}} for braces that are meant") from error
    for _, name, form, conversion in parts:
        if form or conversion or not str(name).isidentifier():
            raise DeclarationError(
                f"{template!r}: {{{name}}} is not the name of an argument; take the argument as a whole, without a "
                "format or a part of it"
            )
    return [str(name) for _, name, _, _ in parts]


def require_arguments(names: Sequence[str], known: Collection[str], whose: str) -> None:
    """Raises DeclarationError for a name that is no argument of the task."""
    for name in names:
        if name not in known:
            there = ", ".join(known) or "none"
            raise DeclarationError(f"{whose}: {{{name}}} names no argument of the task; there are: {there}")


def filled(template: str, value: Callable[[str], Any]) -> str:
    """The key of a job; `value` gives an argument as JSON. Raises InvalidArgumentsError."""
    parts = []
    name = ""
    for text, found, _, _ in Formatter().parse(template):
        parts.append(text)
        if found is not None:
            name = found
            parts.append(_written(name, value(name)))
    key = "".join(parts)
    if not 1 <= len(key) <= MAX_LIMIT_KEY:
        raise misfit(name, f"the key {template!r} comes to {len(key)} characters; it has 1 to {MAX_LIMIT_KEY}")
    return key


def misfit(name: str, detail: str) -> InvalidArgumentsError:
    return InvalidArgumentsError([FieldError(step(name) if name else "", detail)])


def _written(name: str, value: Any) -> str:
    match value:
        case str():
            return value
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case int() | float():
            return str(value)
        case _:
            raise misfit(name, "it is part of a key: a text, a number, true, false or null")
