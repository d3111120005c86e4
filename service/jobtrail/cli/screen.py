"""The demo's lines on a screen: coloured, and in one row each where there is room for what matters."""

from collections.abc import Callable
from typing import Final

import typer

from jobtrail.cli import output

ROOM: Final = 100
"""Columns from which on a line is cut rather than folded."""

_REMARK: Final = r"survived a .*|(?<=: )it waits until .*"


def screen() -> Callable[[str], None]:
    """What shows a line; into a pipe it goes as it is."""
    if not output.is_terminal():
        return typer.echo
    from rich.console import Console  # noqa: PLC0415 - into a pipe it is never needed
    from rich.text import Text  # noqa: PLC0415 - the same

    console = Console(highlight=False)
    is_wide = console.width >= ROOM

    def show(line: str) -> None:
        text = Text(line)
        is_remark = text.highlight_regex(_REMARK, "bold magenta") > 0
        for status, style in output.STYLES.items():
            text.highlight_regex(rf"(?<=→ ){status}\b|(?<=  ){status}(?=   +\d)", style)
        if is_wide and not is_remark:
            console.print(text, no_wrap=True, overflow="ellipsis")
        else:
            console.print(text, soft_wrap=True)

    return show
