"""A scenario, what it must show, and how it is played: a world of its own, its faults, the questions to every row."""

import platform
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from chaos import checks
from chaos.process import Nursery
from chaos.world import Fault, World


@dataclass(frozen=True)
class Size:
    """`jobs` at least, at `rate` a second; `faults` at least, or the run fails; `lease` in seconds; how many of the
    fleet `serve`, and how many only `work`.
    """

    jobs: int
    faults: int
    rate: float
    lease: float = 3.0
    serve: int = 2
    work: int = 2


@dataclass(frozen=True)
class Figure:
    """`must`: what the value has to equal; None: a number that is only told."""

    what: str
    value: float | str
    must: float | str | None = None

    @property
    def is_wrong(self) -> bool:
        return self.must is not None and self.value != self.must

    def __str__(self) -> str:
        must = "" if self.must is None else f"  (must be {self.must})"
        return f"{self.what}: {self.value}{must}{'  WRONG' if self.is_wrong else ''}"


Run = Callable[[World, Size], Awaitable[Sequence[Figure]]]


@dataclass(frozen=True)
class Scenario:
    """`run` brings its world to rest, and gives the figures that the common checks do not give. `shows` names those of
    all figures that it is played for.
    """

    name: str
    title: str
    full: Size
    small: Size
    run: Run
    shows: Sequence[str] = ()


@dataclass(frozen=True)
class Result:
    scenario: Scenario
    size: Size
    seed: int
    figures: Sequence[Figure]
    faults: Sequence[Fault]
    seconds: float
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def wrong(self) -> list[str]:
        return [str(figure) for figure in self.figures if figure.is_wrong]

    def __str__(self) -> str:
        proofs = [f"  {fault.at:6.1f} s  {fault.what}: {fault.proof}" for fault in self.faults]
        shown = proofs if len(proofs) <= _SHOWN else [*proofs[:_SHOWN], f"  … and {len(proofs) - _SHOWN} more"]
        told = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        heading = f"{self.scenario.name}: {self.scenario.title}"
        end = f"{'WRONG' if self.wrong else 'as it must be'}; {self.seconds:.1f} s, seed {self.seed}; {told}"
        return "\n".join([heading, *shown, *(f"  {figure}" for figure in self.figures), f"  {end}", ""])


_SHOWN = 8
"""Faults that are told one by one."""


async def play(scenario: Scenario, size: Size, seed: int, nursery: Nursery | None = None) -> Result:
    """With a `nursery`, processes are forked from it. Raises when something of the suite itself fails; figures that are
    wrong are told by the result.
    """
    began = time.monotonic()
    async with World.made(seed, nursery) as world:
        own = await scenario.run(world, size)
        figures = [
            Figure("faults fewer than wanted", max(0, size.faults - len(world.faults)), 0),
            Figure("jobs fewer than wanted", max(0, size.jobs - len(world.ledger.acknowledged)), 0),
            *own,
            *(Figure(*each) for each in await checks.ask_all(world)),
        ]
        versions = await _versions(world)
    figures.append(Figure("processes left behind", len(world.left), 0))
    seconds = time.monotonic() - began
    return Result(scenario, size, seed, figures, world.faults, seconds, versions)


async def _versions(world: World) -> dict[str, str]:
    server = str(await world.value("SELECT current_setting('server_version')"))
    packages = {name: version(name) for name in ("asyncpg", "SQLAlchemy", "uvicorn")}
    return {"Python": platform.python_version(), "PostgreSQL": server, **packages}
