"""Real documents in a folder of samples, and reading nothing outside of it."""

import re
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path, PurePosixPath
from typing import Final, TypedDict

LARGEST: Final = 5 * 1024 * 1024
"""Bytes of a document."""

_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")  # noqa: RUF001 - texts do have typographic apostrophes
_HEADING: Final = re.compile(r"#{1,6}\s+(.+?)\s*#*")
_UNDERLINE: Final = re.compile(r"={3,}|-{3,}")


class Index(TypedDict):
    """`most_frequent` as (word, how often), the most frequent first."""

    lines: int
    words: int
    different_words: int
    most_frequent: list[tuple[str, int]]
    sections: list[str]


def make_samples(folder: Path) -> None:
    """What every installation has at hand: Jobtrail's own description and the licence of Python."""
    (folder / "README.md").write_text(_readme(), encoding="utf-8")
    (folder / "python-licence.txt").write_text(_licence(), encoding="utf-8")


def read_sample(folder: Path, path: str) -> str:
    """The text of the document at `path`, relative to `folder`. Raises ValueError, which says what to write instead."""
    wanted = PurePosixPath(path)
    if wanted.is_absolute() or ".." in wanted.parts or "\0" in path:
        raise ValueError(f"{path!r}: write a path that begins in the samples folder and stays there, such as README.md")
    root = folder.resolve(strict=True)
    try:
        found = (root / wanted).resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links that lead in a circle
        there = ", ".join(sorted(each.name for each in root.iterdir()))
        raise ValueError(f"{path!r} is not in the samples folder; there is: {there}") from None
    if not found.is_relative_to(root):
        raise ValueError(f"{path!r} is a link that leads out of the samples folder")
    if not found.is_file():
        raise ValueError(f"{path!r} is not a document")
    return _decode(found, path)


def index(text: str) -> Index:
    words = Counter(_WORD.findall(text.lower()))
    return {
        "lines": len(text.splitlines()),
        "words": words.total(),
        "different_words": len(words),
        "most_frequent": words.most_common(10),
        "sections": list(_headings(text)),
    }


def _decode(file: Path, path: str) -> str:
    with file.open("rb") as opened:
        raw = opened.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise ValueError(f"{path!r} is larger than {LARGEST // 1024**2} MiB")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path!r} is not a text in UTF-8") from None


def _headings(text: str) -> Iterator[str]:
    """Markdown's `# Heading`, and a line underlined with = or -; not what looks like it inside a block of code."""
    is_code, above = False, ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("```"):
            is_code = not is_code
        elif is_code:
            continue
        elif heading := _HEADING.fullmatch(line):
            yield heading[1]
        elif above and _UNDERLINE.fullmatch(line):
            yield above
        above = line


def _readme() -> str:
    """As the installed distribution carries it."""
    described = metadata("jobtrail").json
    return str(described.get("description") or described["summary"])


def _licence() -> str:
    file = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt"
    return file.read_text(encoding="utf-8") if file.is_file() else sys.copyright
