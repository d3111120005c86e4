"""The pictures of the README are what their script draws today, and load nothing from elsewhere."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from jobtrail.cli.jobs import MOVES as HEADS
from jobtrail.demo.tour import lines_of
from jobtrail.status import Status
from support.rows import in_status
from support.servers import environment
from support.world import Place

TOP = Path(__file__).parents[1]
PICTURES = TOP / "docs" / "pictures"
SVG = "{http://www.w3.org/2000/svg}"

DRAW = """
import json, os, sys
from pathlib import Path
from make import COLUMNS, PICTURES, draw, lines_of
from terminal import Terminal
with Terminal(COLUMNS, Path(sys.argv[1]), os.environ) as shell:
    shell.run(f"{sys.executable} -m jobtrail ls")
print(json.dumps([PICTURES, draw("history", lines_of(shell.sent))]))
"""


async def test_they_have_the_form_that_the_script_gives_today(place: Place, tmp_path: Path) -> None:
    for status in Status:
        await in_status(place, status)
    named, drawn = await asyncio.to_thread(draw, tmp_path, JOBTRAIL_DATABASE_URL=place.url.libpq)
    today = parsed(drawn)
    assert {each.stem for each in PICTURES.glob("*.svg")} == named.keys()
    for name, title in named.items():
        picture = picture_of(name)
        assert form(picture) == form(today)
        assert "".join(picture.find(f"{SVG}text").itertext()) == title.replace(" ", "\N{NO-BREAK SPACE}")
    _, head, *rows = rows_of(today)
    assert [row.split()[1] for row in rows[: len(Status)]] == [*reversed(Status)]
    assert head.split() in [row.split() for row in rows_of(picture_of("history"))]


def draw(folder: Path, **settings: str) -> tuple[dict[str, str], str]:
    """Titles by name, and a picture of `jobtrail ls`."""
    command = [sys.executable, "-c", DRAW, str(folder)]
    environ = environment(**settings, PYTHONPATH=f"{TOP / 'service'}:{PICTURES}")
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    named, drawn = json.loads(done.stdout)
    return named, drawn


def picture_of(name: str) -> ET.Element:
    return parsed((PICTURES / f"{name}.svg").read_text())


def parsed(drawn: str) -> ET.Element:
    return ET.fromstring(drawn)  # noqa: S314 - it is of our own making


@pytest.mark.parametrize("name", sorted(each.stem for each in PICTURES.glob("*.svg")))
def test_they_are_small_and_load_nothing(name: str) -> None:
    text, picture = (PICTURES / f"{name}.svg").read_text(), picture_of(name)
    assert len(text.encode()) < 60_000
    assert {each.tag.removeprefix(SVG) for each in picture.iter()} <= {
        "svg", "style", "defs", "clipPath", "rect", "circle", "g", "text",
    }  # fmt: skip
    said = [value for each in picture.iter() for value in each.attrib.values()]
    said += [each.text for each in picture.iter(f"{SVG}style")]
    assert [each for each in said if re.search(r"://|@import|@font-face|url\((?!#)", each)] == []
    clips = {each.get("id") for each in picture.iter(f"{SVG}clipPath")}
    assert {each[5:-1] for each in said if each.startswith("url(#")} <= clips


def test_what_they_show_is_written_as_it_is_today() -> None:
    """The moves of a demo, the heads of a history, and that the job which was killed has survived."""
    for row, move in zip([each for each in rows_of(picture_of("demo")) if "sum_range" in each], MOVES, strict=False):
        (line,) = lines_of(SimpleNamespace(job_id=row[15:23], **move))
        assert row[14:].startswith(line)
    assert [name.upper() for name in HEADS] in [row.split() for row in rows_of(picture_of("history"))]
    told = "\n".join(rows_of(picture_of("survival")))
    assert re.search(
        r"(…\w{8})  nap +pending → running +attempt 1\nKilled\n\$ jobtrail demo\n(.+\n)+"
        r".*survived a kill: nap \1, attempt 2 began \d+\.\d s after .*\n⋮\n.*\n.*survived a kill: nap \1 succeeded",
        told,
    )


_MOVE = {"task": "sum_range", "result": None, "error": None, "reason": None, "lost": None}
MOVES = (
    {"from_status": None, "to_status": "pending", "attempt": 0, **_MOVE},
    {"from_status": "pending", "to_status": "running", "attempt": 1, **_MOVE},
)


def test_they_are_made_by_a_command() -> None:
    command = ["make", "--dry-run", "--no-print-directory", "pictures"]
    dry = subprocess.run(command, cwd=TOP, env=environment(), check=True, capture_output=True, text=True)
    assert dry.stdout.splitlines()[-1] == ".venv/bin/python docs/pictures/make.py"


def form(picture: ET.Element) -> tuple[set[Any], str]:
    """Which elements have which attributes, and how letters look; without the picture's name."""
    elements = {(each.tag, frozenset(each.keys())) for each in picture.iter()}
    style = "".join(picture.find(f"{SVG}style").itertext())
    return elements, re.sub(r"\.\w+-", ".", style).partition(".r1")[0]


def rows_of(picture: ET.Element) -> list[str]:
    """The text of each row, as it stands in its columns."""
    rows: dict[str, str] = {}
    for text in picture.findall(f"{SVG}g/{SVG}text"):
        place = round(float(text.get("x")) / 12.2)
        rows[text.get("y")] = rows.get(text.get("y"), "").ljust(place) + text.text.replace("\N{NO-BREAK SPACE}", " ")
    return [row.rstrip() for row in rows.values()]
