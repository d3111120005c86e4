"""Make the pictures of the README: what a demo of its own and a few commands show in a terminal, as SVG.

Everything runs, and what it printed is drawn as it was; ids and times are others each time.
"""
# ruff: noqa: INP001 - a folder of pictures is no package

import io
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text
from terminal import PROMPT, Terminal

from jobtrail.db.embedded import EmbeddedPostgres

HERE: Final = Path(__file__).parent

PICTURES: Final = {
    "demo": "jobtrail demo",
    "survival": "kill -9, and a second start",
    "history": "jobtrail ls, jobtrail show",
}
"""File and title."""

COLUMNS: Final = 100

OMITTED: Final = Text("⋮", "dim")

SERVING: Final = r"Serving \S+ \(process (\d+)\) until Ctrl-C; .*\n"
KEPT: Final = ("HOME", "LANG", "PYTHONPATH")
"""Variables of whoever makes the pictures; others could change what is printed."""

# rich's own format loads a font from elsewhere. Each text has its width, so any font keeps the columns.
FORMAT: Final = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix, .{unique_id}-title {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px;
}}
{styles}
</style>
<defs>
{lines}
</defs>
{chrome}
<g class="{unique_id}-matrix" transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
{matrix}
</g>
</svg>
"""


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with surroundings() as (folder, environ):
        own = {**environ, "JOBTRAIL_TASKS": "jobtrail.demo"}
        with Terminal(COLUMNS, folder, environ) as ours, Terminal(COLUMNS, folder, own) as other:
            shown = shoot(ours, other)
    for name, lines in shown.items():
        (HERE / f"{name}.svg").write_text(draw(name, lines), encoding="utf-8")
        sys.stdout.write(f"docs/pictures/{name}.svg\n")


def shoot(ours: Terminal, other: Terminal) -> Mapping[str, Sequence[Text]]:
    """The lines of each picture: a demo, its death and its second start in one terminal, the commands in another."""
    ours.type("jobtrail demo")
    process = int(ours.until(SERVING)[1])
    served = len(ours.sent)
    other.run("jobtrail submit nap seconds=5")
    ours.until(r"nap +pending → .*running", served)
    os.kill(process, signal.SIGKILL)
    ours.type("jobtrail demo")
    survivor = ours.until(r"survived a kill: nap …(\w+) succeeded.*\n", served)[1]
    submitted = other.sent.rindex(PROMPT)
    other.run("jobtrail ls --limit 11")
    job = other.until(rf"\S+{survivor}", submitted)[0]
    other.run(f"jobtrail show --history {job}")
    told, asked = lines_of(ours.sent), lines_of(other.sent[submitted:])
    ours.interrupt()
    ours.until(r"Stopped\.")
    return {"demo": _moves(told), "survival": _death(told), "history": asked[:-1]}


def _moves(told: Sequence[Text]) -> Sequence[Text]:
    """Of the first start, from the beginning; and how the last jobs ended."""
    end = place_of(told, "what came of it") - 1
    return [*told[:24], OMITTED, *told[end - 9 : end]]


def _death(told: Sequence[Text]) -> Sequence[Text]:
    """From the peace before it to the second attempt; then what became of it."""
    began, ended = (place for place, line in enumerate(told) if "survived a kill" in line.plain)
    return [*told[place_of(told, "until Ctrl-C") : began + 1], OMITTED, *told[ended - 1 : ended + 1]]


def draw(name: str, lines: Sequence[Text]) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="truecolor")
    for line in [*lines, Text()]:
        console.print(line, no_wrap=True)
    drawn = console.export_svg(title=PICTURES[name], theme=SVG_EXPORT_THEME, code_format=FORMAT, unique_id=name)
    # the same in half of the bytes: each line ends with an element that holds its line break
    return re.sub(r"<text [^>]*>\n</text>", "", drawn).replace("&#160;", "\N{NO-BREAK SPACE}")


def lines_of(sent: str) -> list[Text]:
    """As a terminal shows them: what is too wide goes on in the next row."""
    lines = Text.from_ansi(sent).split("\n", allow_blank=True)
    return [row for line in lines for row in line.divide(range(COLUMNS, len(line), COLUMNS))]


def place_of(lines: Sequence[Text], part: str) -> int:
    return next(place for place, line in enumerate(lines) if part in line.plain)


@contextmanager
def surroundings() -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder for the embedded PostgreSQL, and the environment of a newcomer who tries the demo in it."""
    folder = Path(tempfile.mkdtemp(prefix="try-", dir="/tmp"))  # short, since it is in a picture
    folder.chmod(0o755)  # as root the server has an account of its own
    data, left = folder / "pg", folder / "tmp"
    left.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    own = {"JOBTRAIL_DATABASE_URL": "embedded", "JOBTRAIL_DATA_DIR": str(data), "JOBTRAIL_PORT": str(port)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"
    try:
        yield folder, {**kept, **own, "PATH": path, "TMPDIR": str(left), "TZ": "UTC", "LOGNAME": "ada"}
    finally:
        if (data / "data" / "postmaster.pid").exists():
            with EmbeddedPostgres(data):  # its last user stops it
                pass
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
