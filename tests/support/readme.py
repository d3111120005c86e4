"""The README taken at its word: its blocks, a shell that runs them, and the comparison with what is written."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KINDS = (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", r"[0-9a-f]{32}", r"\d{4}-\d\d-\d\dT[\d:.]+Z", r".*…")


class Block(NamedTuple):
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    return [Block(*found) for found in _FENCE.findall(page)]


def differences(written: object, found: object, where: str = "") -> list[str]:
    """Ids and times are compared by their form, all else by value. The key `…` allows for more keys than written."""
    if isinstance(written, dict) and isinstance(found, dict):
        keys = written.keys() - {"…"}
        wrong = [f"{where}: {key!r} is not there" for key in keys - found.keys()]
        if "…" not in written:
            wrong += [f"{where}: {key!r} is not written" for key in found.keys() - keys]
        return wrong + [
            each for key in keys & found.keys() for each in differences(written[key], found[key], f"{where}/{key}")
        ]
    if isinstance(written, list) and isinstance(found, list) and len(written) == len(found):
        return [
            each
            for n, pair in enumerate(zip(written, found, strict=True))
            for each in differences(*pair, f"{where}/{n}")
        ]
    if isinstance(written, str) and isinstance(found, str):
        kind = next((kind for kind in _KINDS if re.fullmatch(kind, written)), re.escape(written))
        return [] if re.fullmatch(".*" if kind == _KINDS[-1] else kind, found) else [f"{where}: {found!r}"]
    return [] if (type(written), written) == (type(found), found) else [f"{where}: {found!r}"]


def last_json(said: str) -> Any:
    return json.loads(next(line for line in reversed(said.splitlines()) if line.startswith("{")))


def table(text: str) -> list[list[str]]:
    """The cells of what psql prints, without the line under its head."""
    lines = [line for line in text.strip().splitlines() if not set(line) <= {"-", "+"}]
    return [[cell.strip() for cell in line.split("|")] for line in lines]


class Shell:
    """One bash for all the blocks, as a reader has one terminal; it ends at the first command that fails."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, environ: Mapping[str, str]) -> AsyncIterator[Self]:
        process = await asyncio.create_subprocess_exec(
            "bash", cwd=folder, env=dict(environ), stdin=-1, stdout=-1, stderr=asyncio.subprocess.STDOUT, limit=2**24
        )
        shell = cls(process)
        await shell.run("set -eo pipefail")
        try:
            yield shell
        finally:
            if process.stdin:
                process.stdin.close()
            await process.wait()

    async def run(self, commands: str) -> str:
        """What they said on both outputs."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{commands}\nprintf '\\n@@@\\n'\n".encode())
        said: list[str] = []
        while (line := (await self._process.stdout.readline()).decode()) != "@@@\n":
            assert line, f"the shell ended in:\n{commands}\nit said:\n{''.join(said)}"
            said.append(line)
        return "".join(said)
