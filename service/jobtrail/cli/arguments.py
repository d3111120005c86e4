"""KEY=VALUE pairs, durations and reasons as they are written behind a verb. What cannot be read is a usage error."""

from collections.abc import Sequence
from datetime import timedelta

import typer

from jobtrail.durations import parse_duration
from jobtrail.limits import MAX_REASON


def read_pairs(pairs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{pair!r:.80} is not KEY=VALUE")
        if name in found:
            raise typer.BadParameter(f"{name!r:.80} is given twice")
        found[name] = value
    return found


def read_duration(option: str, text: str, word: str | None = None) -> timedelta:
    """`word` is what may be written instead, for the message."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}{f', or {word}' if word else ''}") from None


def read_reason(text: str | None) -> str | None:
    if text is not None and len(text) > MAX_REASON:
        raise typer.BadParameter(f"--reason: at most {MAX_REASON} characters")
    return text or None
