"""The wheel in an empty folder: what a user of the package has, who never saw the checkout."""

import asyncio
import csv
import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from support.served import Served
from support.servers import environment, reachable_folder

TOP = Path(__file__).parents[2]

TASKS = """
from jobtrail import task

@task
async def double(n: int) -> int:
    return 2 * n

@task
def refuse(n: int) -> int:
    raise ValueError("not today")
"""

WHERE = """
import json, jobtrail, jobtrail.ops.audit, jobtrail.db.migrate as schema
print(json.dumps([jobtrail.__file__, schema.config().get_main_option("script_location"), schema.head()]))
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """An empty folder for a build, an environment and a user's own modules."""
    with reachable_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def wheel(home: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([*pip, "wheel", str(TOP), "--no-deps", "--wheel-dir", str(home / "wheels")])
    (found,) = (home / "wheels").iterdir()
    return found


@pytest.fixture(scope="module")
def programs(home: Path, wheel: Path) -> Path:
    """A fresh environment with the wheel. What it depends on is lent by the environment of the tests, by a path that
    comes after its own; what is installed there in editable form is not lent, since nested .pth files are not read.
    """
    venv.create(home / "venv", symlinks=True)
    python = home / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python)]
    run([*pip, "install", "--no-deps", "--no-index", str(wheel)])
    own = Path(run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip())
    (own / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return python.parent


def run(command: list[str], **settings: str) -> str:
    done = subprocess.run(
        command, cwd="/", env=environment(PYTHONPATH="", **settings), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_it_migrates_and_runs_where_nothing_else_is(home: Path, programs: Path, empty_url: str) -> None:
    user = home / "user"
    user.mkdir()
    jobtrail = str(programs / "jobtrail")
    assert "is at revision" in run([jobtrail, "migrate"], JOBTRAIL_DATABASE_URL=empty_url)
    connection = await asyncpg.connect(empty_url)
    assert await connection.fetchval("SELECT count(*) FROM jobtrail.jobs") == 0
    await connection.close()
    (user / "errands_of_mine.py").write_text(TASKS)
    own = {"PYTHONPATH": "", "JOBTRAIL_TASKS": "errands_of_mine"}
    async with Served.start(user, empty_url, [jobtrail], **own) as service:
        job_id = await service.submit("double", args={"n": 21})
        assert (await service.reached(job_id, "succeeded"))["result"] == 42
        await service.reached(await service.submit("refuse", args={"n": 1}), "failed")
        ask = [jobtrail, "audit", "failures_by_task", "--json"]
        answer = json.loads(await asyncio.to_thread(run, ask, JOBTRAIL_DATABASE_URL=empty_url))
        assert [(row["task"], row["error_type"], row["failed"]) for row in answer["items"]] == [
            ("refuse", "ValueError", 1)
        ]
        assert (await service.client.get("/docs")).status_code == 200


def test_all_that_runs_lies_in_its_environment(programs: Path) -> None:
    package, migrations, head = json.loads(run([str(programs / "python"), "-c", WHERE]))
    own = programs.parent.resolve()
    assert Path(package).resolve().is_relative_to(own)
    assert Path(migrations).resolve().is_relative_to(own)
    assert head in {path.read_text().split('revision = "')[1].split('"')[0] for path in versions()}


def versions() -> list[Path]:
    return sorted((TOP / "migrations" / "versions").glob("*.py"))


def test_it_holds_the_package_the_migrations_and_the_questions(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (record,) = (name for name in names if name.endswith(".dist-info/RECORD"))
        listed = {row[0] for row in csv.reader(archive.read(record).decode().splitlines())}
        assert [name for name in names if str(TOP).encode() in archive.read(name)] == []
    wanted = {f"jobtrail/migrations/versions/{path.name}" for path in versions()}
    for folder in (TOP / "service").rglob("*"):
        if folder.suffix in {".py", ".sql", ".typed"}:
            wanted.add(str(folder.relative_to(TOP / "service")))
    assert wanted | {"jobtrail/migrations/env.py"} <= names == listed
    assert {name.split("/")[0] for name in names} == {"jobtrail", record.split("/")[0]}
