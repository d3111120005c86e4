"""However the node of a process for tasks was started: it works, and it dies with it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from support.orders import gone
from support.servers import environment

TOP = Path(__file__).parents[2]
PARENT = TOP / "tests" / "support" / "parent.py"

STARTS = {
    "a script, with its tasks in __main__": ([str(PARENT)], "__mp_main__"),
    "a module": (["-m", "support.parent"], "__mp_main__"),
    "a command, with its tasks in a module": (["{folder}/command"], "support.parent"),
    "an ASGI server": (["-m", "uvicorn", "--port", "0", "support.parent:app"], "support.parent"),
}


@asynccontextmanager
async def started(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    found = environment(PYTHONPATH=f"{TOP / 'service'}:{TOP / 'tests'}")
    parent = await asyncio.create_subprocess_exec(
        sys.executable, *command, env=found, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield parent
    finally:
        with contextlib.suppress(ProcessLookupError):
            parent.kill()
        await parent.communicate()


async def test_it_works_however_the_node_was_started_and_lets_it_end(tmp_path: Path) -> None:
    (tmp_path / "command").write_text("import sys; from support.parent import main; sys.exit(main())")

    async def printed(command: list[str]) -> str:
        async with started(*(each.format(folder=tmp_path) for each in command)) as parent:
            output, errors = await asyncio.wait_for(parent.communicate(), 60)
            assert output, errors.decode()
            return output.decode()

    outputs = await asyncio.gather(*(printed(command) for command, _ in STARTS.values()))
    for output, (_, name) in zip(outputs, STARTS.values(), strict=True):
        n, module, pid = json.loads(output)
        assert (n, module) == (42, name)
        await gone(pid)


async def test_a_script_without_the_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(PARENT.read_text().replace('if __name__ == "__main__":', "if True:"))
    async with started(str(script)) as parent:
        output, _ = await asyncio.wait_for(parent.communicate(), 60)
    assert b"no process can be started" in output
    assert b"the proper idiom in the main module" in output


async def test_they_die_with_their_node() -> None:
    """At work and idle, though a fork of the node holds on to what it had open."""
    async with started(str(PARENT), "fork") as parent:
        assert parent.stdout
        busy, idle, fork = [int(each) for each in (await asyncio.wait_for(parent.stdout.readline(), 60)).split()]
        parent.kill()
        try:
            await asyncio.gather(gone(busy), gone(idle))
        finally:
            os.kill(fork, signal.SIGKILL)
