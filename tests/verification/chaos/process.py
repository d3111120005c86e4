"""Processes of Jobtrail: started by themselves, or forked from one that has imported everything. Both die with us."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

import jobtrail
from chaos import leash
from support.servers import environment

TOP = Path(__file__).parents[3]
TESTS = f"{TOP / 'tests'}:{TOP / 'tests' / 'verification'}"
SERVICE = Path(jobtrail.__file__).parents[1]
"""Where this process has it from, so that a changed copy is tried as a whole."""

START = 60.0
"""Seconds for a process to come up, or to go, on a machine that is busy."""


@dataclass
class Process:
    """`code` once it has ended. Signals are sent to nobody else: a process that has ended gets none."""

    pid: int
    out: Path
    log: Path
    code: asyncio.Future[int]

    @property
    def returncode(self) -> int | None:
        return self.code.result() if self.code.done() else None

    async def said(self) -> dict[str, Any]:
        """Its first line, which it says when it is ready. Fails with its log when it ends without a word."""
        async with asyncio.timeout(START):
            while not (line := _first_line(self.out)):
                assert not self.code.done(), f"ended with {self.code.result()}: {self.log.read_text()}"
                await asyncio.sleep(0.02)
        return dict(json.loads(line))

    def signal(self, which: signal.Signals) -> None:
        if not self.code.done():
            os.kill(self.pid, which)

    async def ended(self) -> int:
        return await asyncio.wait_for(asyncio.shield(self.code), START)


def _first_line(path: Path) -> str:
    line, ended, _ = path.read_text().partition("\n")
    return line if ended else ""


async def start(words: Sequence[str], name: Path, variables: Mapping[str, str], module: str = "jobtrail") -> Process:
    """`jobtrail WORDS` in the folder of `name`, where its output goes to NAME.out and NAME.log."""
    out, log = Path(f"{name}.out"), Path(f"{name}.log")
    with out.open("ab") as output, log.open("ab") as errors:  # noqa: ASYNC230 - they are the child's
        process = await asyncio.create_subprocess_exec(
            *_LEASHED, str(os.getpid()), sys.executable, "-m", module, *words, cwd=name.parent,
            env=environment(**_environ(variables)), start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=errors,
        )  # fmt: skip
    return Process(process.pid, out, log, asyncio.ensure_future(process.wait()))


_LEASHED = (sys.executable, leash.__file__)


def _environ(variables: Mapping[str, str]) -> dict[str, str]:
    return {"PYTHONPATH": f"{SERVICE}:{TESTS}", **variables}


@dataclass
class Nursery:
    """The forked ones."""

    _process: asyncio.subprocess.Process
    _numbers: "count[int]" = field(default_factory=count)
    _pids: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    _codes: dict[int, asyncio.Future[int]] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def opened(cls) -> AsyncIterator[Self]:
        process = await asyncio.create_subprocess_exec(
            *_LEASHED, str(os.getpid()), sys.executable, "-m", "chaos.nursery", env=environment(**_environ({})),
            start_new_session=True, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        nursery = cls(process)
        hearing = asyncio.create_task(nursery._hear())
        try:
            yield nursery
        finally:
            assert process.stdin
            process.stdin.close()
            await asyncio.wait_for(process.wait(), START)
            await hearing

    async def start(
        self, words: Sequence[str], name: Path, variables: Mapping[str, str], dies: str | None = None
    ) -> Process:
        """As `start`; for `dies` see `chaos.nursery`."""
        number, loop = next(self._numbers), asyncio.get_running_loop()
        pid = self._pids[number] = loop.create_future()
        code = self._codes[number] = loop.create_future()
        out, log = Path(f"{name}.out"), Path(f"{name}.log")
        out.touch()
        order = {
            "number": number, "words": list(words), "folder": str(name.parent), "out": str(out), "log": str(log),
            "environ": environment(**_environ(variables)), "dies": dies,
        }  # fmt: skip
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return Process(await asyncio.wait_for(pid, START), out, log, code)

    async def _hear(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            said = json.loads(line)
            if "pid" in said:
                self._pids[said["number"]].set_result(said["pid"])
            else:
                self._codes[said["number"]].set_result(said["ended"])
