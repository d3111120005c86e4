"""What a type checker makes of the decorators."""

import re
import subprocess
import sys
from pathlib import Path

import jobtrail

TYPED = """
from typing import Any, ParamSpec, TypeVar
from jobtrail import JobContext, Retry, Task, task

P = ParamSpec("P")
R = TypeVar("R")

@task
async def bare(context: JobContext, n: int, x: str = "a") -> dict[str, int]: return {}

@task(max_attempts=5, timeout=30, retry=Retry(on=(TimeoutError,)))
async def told(context: JobContext, n: int, x: str = "a") -> dict[str, int]: return {}

@task
def sync(n: int, *, x: str = "a") -> list[int]: return []

@task(name="other", ttl=None)
def sync_told(context: JobContext, n: int) -> None: ...

@task
async def alone() -> int: return 1

@Retry(base=0.1, on=(OSError,))
async def called(n: int, *, x: str = "a") -> list[int]: return []

@Retry()
def called_sync(n: int) -> str: return ""

class Shop:
    @Retry()
    async def find(self, n: int) -> str: return ""

@task
@Retry()
async def both(context: JobContext, n: int) -> int: return n

def add(task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> R: raise NotImplementedError

reveal_type(bare)
reveal_type(told)
reveal_type(sync)
reveal_type(sync_told)
reveal_type(alone)
reveal_type(add(bare, 1, x="b"))
reveal_type(called)
reveal_type(called_sync(1))
reveal_type(Shop().find)
reveal_type(both)
reveal_type(Retry().call(called_sync, 1))
async def calls() -> None: reveal_type(await Retry().call(called, 1, x="b"))
add(bare, "1")
add(sync, 1, "b")
task(max_attempts="5")
called_sync("1")
Retry().call(called_sync, "1")
Retry()(1)
"""


def test_a_type_checker_sees_the_parameters_without_the_context(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    root = str(Path(jobtrail.__file__).parents[1])
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir=cache", "typed.py"],
        cwd=tmp_path,
        env={"MYPYPATH": root},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    assert re.findall(r'Revealed type is "(.*)"', told) == [
        "jobtrail.task.task.Task[[n: int, x: str =], dict[str, int]]",
        "jobtrail.task.task.Task[[n: int, x: str =], dict[str, int]]",
        "jobtrail.task.task.Task[[n: int, *, x: str =], list[int]]",
        "jobtrail.task.task.Task[[n: int], None]",
        "jobtrail.task.task.Task[[], int]",
        "dict[str, int]",
        "def (n: int, *, x: str =) -> typing.Coroutine[Any, Any, list[int]]",
        "str",
        "def (n: int) -> typing.Coroutine[Any, Any, str]",
        "jobtrail.task.task.Task[[n: int], int]",
        "str",
        "list[int]",
    ]
    assert re.findall(r"error: .*\[(.*)\]", told) == ["arg-type", "call-arg", "call-overload", *["arg-type"] * 3]
