"""The place of all measures: a PostgreSQL of its own, databases, processes, what they spend, and figures."""

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

from jobtrail.db.embedded import EmbeddedPostgres
from support.servers import environment

TOP = Path(__file__).parents[2]
HAS_PGQUEUER = find_spec("pgqueuer") is not None
BODY = '{"task":"noop","args":{"a":1}}'
PREPARED = """
INSERT INTO jobtrail.jobs (id, task, queue, args, trace_id)
SELECT id, 'noop', 'default', '{{"a": 1}}', replace(id::text, '-', '')
  FROM (SELECT uuidv7() AS id FROM generate_series(1, {count})) AS new
"""


class Size(NamedTuple):
    """`rounds` of each way in turn; `seconds` of load; a `backlog` to drain; up to `finished` and `pending` rows."""

    rounds: int
    seconds: float
    connections: int
    backlog: int
    finished: int
    pending: int


SIZES = {
    "tiny": Size(1, 0.3, 4, 100, 2_000, 1_000),
    "default": Size(5, 4, 32, 20_000, 500_000, 200_000),
    "full": Size(7, 8, 32, 20_000, 10_000_000, 1_000_000),
}


class Spent(NamedTuple):
    """CPU seconds of Python and of PostgreSQL, and bytes of WAL."""

    python: float
    postgres: float
    wal: float

    def per_job(self, before: "Spent", count: float) -> dict[str, float]:
        used = [(now - then) / max(count, 1) for now, then in zip(self, before, strict=True)]
        return {"python": used[0] * 1e6, "postgres": used[1] * 1e6, "wal": used[2]}


@dataclass(frozen=True)
class Figure:
    """One row of the table: a value for each round, and of what it is compared with where there is such a thing."""

    what: str
    unit: str
    ours: Sequence[float]
    beside: str = ""
    theirs: Sequence[float] = ()

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ours) / (statistics.median(self.theirs) or 1) if self.theirs else None


@dataclass(frozen=True)
class Database:
    name: str
    url: str
    sql: psycopg.Connection[Any] = field(repr=False)

    def value(self, query: str, *args: Any) -> Any:
        return (self.sql.execute(query, args or None).fetchone() or [None])[0]

    def prepare(self, count: int) -> None:
        """Pending jobs, as clients would have submitted them."""
        self.sql.execute(PREPARED.format(count=count))

    def empty(self) -> None:
        for table in ("jobs", "transitions"):
            self.sql.execute(f"ALTER TABLE jobtrail.{table} DISABLE TRIGGER USER")
            self.sql.execute(f"TRUNCATE jobtrail.{table}")
            self.sql.execute(f"ALTER TABLE jobtrail.{table} ENABLE TRIGGER USER")

    def pause(self) -> None:
        self.sql.execute("INSERT INTO jobtrail.pauses (kind, name) VALUES ('queue', 'default')")

    def resume(self) -> None:
        self.sql.execute("DELETE FROM jobtrail.pauses")

    def settle(self) -> None:
        """Wait until no job is left to run, which all have to have succeeded."""
        while self.value("SELECT EXISTS (SELECT FROM jobtrail.jobs WHERE status IN ('pending', 'running'))"):
            time.sleep(0.05)
        assert not self.value("SELECT EXISTS (SELECT FROM jobtrail.jobs WHERE status IN ('failed', 'cancelled'))")

    def succeeded(self) -> int:
        return int(self.value("SELECT count(*) FROM jobtrail.transitions WHERE to_status = 'succeeded'"))


@dataclass
class Lab:
    server: EmbeddedPostgres
    folder: Path
    size: Size

    @contextmanager
    def database(self, name: str, *, migrated: bool = True) -> Iterator[Database]:
        with psycopg.connect(self.server.url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name}")
            url = make_conninfo(self.server.url, dbname=name)
            host = psycopg.conninfo.conninfo_to_dict(url)["host"]
            url = f"postgresql://postgres@/{name}?host={host}&port=5432"
            if migrated:
                command = [sys.executable, "-m", "jobtrail", "migrate"]
                subprocess.run(command, cwd=self.folder, env=self.environ(url), check=True, stdout=subprocess.DEVNULL)
            with psycopg.connect(url, autocommit=True) as connection:
                yield Database(name, url, connection)
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def environ(self, url: str = "", **more: str) -> dict[str, str]:
        own = {"PYTHONPATH": f"{TOP / 'service'}:{TOP / 'tests'}", "PYTHONWARNINGS": "ignore"}
        at = {"JOBTRAIL_DATABASE_URL": url, "DATABASE_URL": url, "JOBTRAIL_TASKS": "benchmarks.tasks"} if url else {}
        return environment(**own, **at, **more)

    @contextmanager
    def started(self, *command: str, url: str = "", **settings: str) -> Iterator[subprocess.Popen[str]]:
        """A Python module as a process; its standard error is a file of the folder."""
        with (self.folder / "stderr").open("a") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=self.folder, env=self.environ(url, **settings), text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)

    def said(self, process: subprocess.Popen[str]) -> str:
        """The next line of its standard output; an assertion that there is one."""
        assert process.stdout
        line = process.stdout.readline()
        assert line, (self.folder / "stderr").read_text()
        return line.strip()

    @contextmanager
    def jobtrail(self, *words: str, url: str, **settings: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
        """`jobtrail serve` or `work`, and what it said once it was ready."""
        with self.started("jobtrail", *words, "--json", url=url, JOBTRAIL_PORT="0", **settings) as process:
            yield process, json.loads(self.said(process))

    @contextmanager
    def app(self, name: str, url: str = "") -> Iterator[tuple[subprocess.Popen[str], str]]:
        """An app below `benchmarks`, and its address."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        flags = ("--port", str(port), "--no-access-log", "--log-level", "warning")
        with self.started("uvicorn", f"benchmarks.{name}", *flags, url=url) as process:
            while not _answers(port):
                assert process.poll() is None, (self.folder / "stderr").read_text()
                time.sleep(0.05)
            yield process, f"http://127.0.0.1:{port}"

    def load(
        self, url: str, body: str = BODY, *, method: str = "POST", seconds: float = 0, connections: int = 0,
        then: Callable[[], int] = int,
    ) -> dict[str, float]:  # fmt: skip
        """What the client found; `then` is asked the moment the window is over, and gives `then`."""
        many, long = connections or self.size.connections, seconds or self.size.seconds
        with self.started("benchmarks.client", url, method, body, str(many), str(long)) as client:
            assert self.said(client) == "ended"
            found = then()
            figures: dict[str, float] = json.loads(self.said(client))
            client.wait()
        assert not figures["refused"], f"{url} refused {figures['refused']} of {figures['count']}"
        return {**figures, "then": found, "rate": figures["count"] / figures["seconds"]}

    def spent(self, *processes: subprocess.Popen[str], database: Database | None = None) -> Spent:
        postmaster = int((self.server.folder / "data" / "postmaster.pid").read_text().split("\n")[0])
        wal = database.value("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn") if database else 0
        return Spent(sum(_cpu(each.pid) for each in processes), _cpu(postmaster), float(wal))

    def in_turn(
        self, ways: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int = 0
    ) -> dict[str, dict[str, list[float]]]:
        """The figures of each way, a list with one of each round; all ways have their turn in each round."""
        found: dict[str, dict[str, list[float]]] = {name: {} for name in ways}
        for number in range(rounds or self.size.rounds):
            for name, way in ways.items():
                figures = way()
                told = {key: round(value, 3 if value < 10 else 0) for key, value in figures.items()}
                print(f"round {number + 1}, {name}: {json.dumps(told)}", file=sys.stderr, flush=True)
                for key, value in figures.items():
                    found[name].setdefault(key, []).append(value)
        return found

    def setting(self) -> Sequence[str]:
        """Versions, machine, and what PostgreSQL was told otherwise than by default."""
        names = ("jobtrail", "fastapi", "uvicorn", "uvloop", "asyncpg", "sqlalchemy", "pydantic", "pgqueuer")
        with psycopg.connect(self.server.url) as connection:
            number = connection.execute("SHOW server_version").fetchone()
            names_of = "fsync", "synchronous_commit", "shared_buffers", "max_wal_size", "max_connections", "jit"
            told = [f"{name} {(connection.execute(f'SHOW {name}').fetchone() or '?')[0]}" for name in names_of]
        memory = psutil.virtual_memory().total / 2**30
        system = f"{platform.system()} {platform.release()}"
        return (
            ", ".join(
                [f"Python {platform.python_version()}", f"PostgreSQL {(number or '?')[0]}", *map(_version, names)]
            ),
            f"{os.cpu_count()} CPUs ({_model()}), {memory:.0f} GiB, {system}; client, service, PostgreSQL share them",
            f"PostgreSQL's own settings: {', '.join(told)}",
            f"sizes: {self.size}",
        )


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _cpu(pid: int) -> float:
    """Of a process, its children, and those of them that are gone."""
    process = psutil.Process(pid)
    total = sum(process.cpu_times()[:4])
    for child in process.children(recursive=True):
        try:
            total += sum(child.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def _model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
