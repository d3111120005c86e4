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
from datetime import datetime
from functools import cached_property
from http.client import HTTPConnection
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil
import psycopg

from jobtrail.db.embedded import EmbeddedPostgres
from support.servers import environment

TOP = Path(__file__).parents[2]
HAS_PGQUEUER = find_spec("pgqueuer") is not None
SERVER = {"shared_preload_libraries": "pg_stat_statements"}
"""PostgreSQL's own durability; what the extension costs, it costs all of them."""

BODY = '{"task":"noop","args":{"a":1}}'
PREPARED = """
INSERT INTO jobtrail.jobs (id, task, queue, args, trace_id)
SELECT id, 'noop', 'default', '{{"a": 1}}', replace(id::text, '-', '')
  FROM (SELECT uuidv7() AS id FROM generate_series(1, {count})) AS new
"""
FINISHED = """
INSERT INTO jobtrail.jobs (id, task, queue, args, status, result, error, trace_id, tags, attempt, node_id, seq,
    moved_by, move_reason, created_at, run_at, started_at, finished_at, ttl, ttl_failed, expires_at)
SELECT id, 'noop', 'default', '{{"a": 1}}', CASE WHEN is_bad THEN 'failed' ELSE 'succeeded' END,
       CASE WHEN NOT is_bad THEN '{{"ok": 1}}'::jsonb END, CASE WHEN is_bad THEN '{{"type": "ValueError"}}'::jsonb END,
       replace(id::text, '-', ''), CASE WHEN is_bad THEN '{{rare}}' ELSE '{{}}' END::text[], 1, gen_random_uuid(), 3,
       'node', 'ended', at, at, at, at, '7 days', '7 days', at + interval '{kept}'
  FROM (SELECT uuidv7(at - clock_timestamp()) AS id, at, number % 100 = 0 AS is_bad
          FROM (SELECT number, clock_timestamp() - interval '6 days' * (1 - number / {count}.0) AS at
                  FROM generate_series(1, {count}) AS number) AS numbered) AS ended
"""
MOVED = """
INSERT INTO jobtrail.transitions (job_id, seq, attempt, from_status, to_status, at, actor, reason, trace_id, task)
SELECT j.id, m.seq, j.attempt, m.before, coalesce(m.after, j.status), j.created_at, 'node', 'moved', j.trace_id, j.task
  FROM jobtrail.jobs j CROSS JOIN (VALUES (1, NULL, 'pending'), (2, 'pending', 'running'), (3, 'running', NULL))
       AS m(seq, before, after)
"""
UNFINISHED = """
SELECT EXISTS (SELECT FROM jobtrail.jobs WHERE status = 'pending')
    OR EXISTS (SELECT FROM jobtrail.jobs WHERE status = 'running')
"""
SUCCEEDED = "SELECT count(*) FROM jobtrail.transitions WHERE to_status = 'succeeded' AND at > %s"


class Size(NamedTuple):
    """`rounds` of each way in turn; `seconds` of load, `opened` of them with a query that stays open; a `backlog` to
    drain with so many `slots` and `nodes`; up to `finished` and `pending` rows; `singles` jobs one after the other;
    so many `waiters` at once.
    """

    rounds: int
    seconds: float
    connections: int
    backlog: int
    finished: int
    pending: int
    opened: float
    singles: int
    waiters: int = 500
    slots: Sequence[int] = (200, 1000)
    nodes: Sequence[int] = (2, 4)


SIZES = {
    "tiny": Size(1, 0.3, 4, 100, 2_000, 1_000, 0.3, 10, 5, (200,), (2,)),
    "default": Size(5, 4, 32, 20_000, 500_000, 200_000, 20, 100),
    "full": Size(7, 8, 32, 20_000, 10_000_000, 1_000_000, 60, 300),
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
    curve: str = ""
    """The picture in which this is a point, at `x`."""
    x: float = 0

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ours) / (statistics.median(self.theirs) or 1) if self.theirs else None


@dataclass(frozen=True)
class Database:
    url: str
    sql: psycopg.Connection[Any] = field(repr=False)

    def value(self, query: str, *args: Any) -> Any:
        return (self.sql.execute(query, args or None).fetchone() or [None])[0]

    def prepare(self, count: int) -> None:
        """Pending jobs, as clients would have submitted them."""
        self.sql.execute(PREPARED.format(count=count))

    def fill(self, count: int, kept: str = "7 days") -> None:
        """Finished jobs of the last days and their history, as if they had been run; each hundredth has failed."""
        if count:
            with self.unguarded():
                self.sql.execute(FINISHED.format(count=count, kept=kept))
                self.sql.execute(MOVED)
        self.sql.execute("VACUUM ANALYZE jobtrail.jobs, jobtrail.transitions")
        self.sql.execute("CHECKPOINT")

    def empty(self) -> None:
        with self.unguarded():
            self.sql.execute("TRUNCATE jobtrail.jobs, jobtrail.transitions")

    @contextmanager
    def unguarded(self) -> Iterator[None]:
        for word in ("DISABLE", "ENABLE"):
            for table in ("jobs", "transitions"):
                self.sql.execute(f"ALTER TABLE jobtrail.{table} {word} TRIGGER USER")
            if word == "DISABLE":
                yield

    def now(self) -> datetime:
        found: datetime = self.value("SELECT clock_timestamp()")
        return found

    def pause(self) -> None:
        self.sql.execute("INSERT INTO jobtrail.pauses (kind, name) VALUES ('queue', 'default')")

    def resume(self) -> None:
        self.sql.execute("DELETE FROM jobtrail.pauses")

    def settle(self) -> None:
        """Wait until no job is left to run."""
        while self.value(UNFINISHED):
            time.sleep(0.05)

    def succeeded(self, since: datetime) -> int:
        return int(self.value(SUCCEEDED, since))


@dataclass
class Lab:
    server: EmbeddedPostgres
    folder: Path
    size: Size
    made: set[str] = field(default_factory=set)

    @contextmanager
    def database(self, name: str, *, migrated: bool = True, finished: int = 0) -> Iterator[Database]:
        """With so many finished jobs, which are made once and copied as files."""
        template = f"{self._filled(finished)} STRATEGY FILE_COPY" if finished else self._migrated
        with psycopg.connect(self.server.url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} TEMPLATE {template if migrated else 'template0'}")
            with psycopg.connect(self._url(name), autocommit=True) as connection:
                yield Database(self._url(name), connection)
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @cached_property
    def _migrated(self) -> str:
        with psycopg.connect(self.server.url, autocommit=True) as admin:
            admin.execute("CREATE DATABASE migrated")
        command = [sys.executable, "-m", "jobtrail", "migrate"]
        environ = self.environ(self._url("migrated"))
        subprocess.run(command, cwd=self.folder, env=environ, check=True, stdout=subprocess.DEVNULL)
        return "migrated"

    def _filled(self, count: int) -> str:
        name = f"finished_{count}"
        if name not in self.made:
            with psycopg.connect(self.server.url, autocommit=True) as admin:
                admin.execute(f"CREATE DATABASE {name} TEMPLATE {self._migrated}")
            with psycopg.connect(self._url(name), autocommit=True) as connection:
                Database(self._url(name), connection).fill(count)
            self.made.add(name)
        return name

    def _url(self, name: str) -> str:
        return self.server.url.replace("/jobtrail?", f"/{name}?")

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


def asked(method: str, url: str, body: str | None = None) -> Any:
    """The answer, which has to be a success, of a single request."""
    at = urlsplit(url)
    connection = HTTPConnection(at.netloc)
    headers = {"Content-Type": "application/json"} if body else {}
    connection.request(method, f"{at.path}?{at.query}".rstrip("?"), body, headers)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    assert answer.status < 300, said
    return json.loads(said)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def _cpu(pid: int) -> float:
    """The CPU of a process, of its children, and of those of them that are gone."""
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
