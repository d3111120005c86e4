"""Sizes as operators write them: `1048576`, `512KiB`, `1MiB`."""

import re
from typing import Final

_UNITS: Final = {None: 1, "KiB": 1024, "MiB": 1024 * 1024}
_WRITTEN: Final = re.compile(r"([0-9]{1,12})(KiB|MiB)?")


def parse_size(text: str) -> int:
    """Bytes. Raises ValueError for anything else; the message names the fix."""
    written = _WRITTEN.fullmatch(text.strip())
    if written is None:
        raise ValueError(f"{text!r:.60} is not a size: write bytes or 512KiB, 1MiB")
    number, unit = written.groups()
    return int(number) * _UNITS[unit]
