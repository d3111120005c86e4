"""A host's own migrations, in the same database: they meet nothing of ours, and ours nothing of them."""

import asyncio
import sys
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from sqlalchemy.ext.asyncio import create_async_engine

from jobtrail.db.migrate import config, head, migrate
from jobtrail.db.url import normalize
from support.servers import environment

TOP = Path(__file__).parents[2]

INI = """
[alembic]
script_location = migrations
prepend_sys_path = .
"""
MODELS = """
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase): pass

class Job(Base):
    __tablename__ = "jobs"
    id: Mapped[int] = mapped_column(primary_key=True)

class User(Base):
    __tablename__ = "users"
    email: Mapped[str] = mapped_column(primary_key=True)
    job: Mapped[int] = mapped_column(ForeignKey("jobs.id"))
"""
ENV = """
import asyncio, os
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine
import jobtrail, jobtrail.embed.jobs, jobtrail.jobs.row
from models import Base

jobtrail.jobs.row.row_of  # what a host imports brings no table into its metadata

def run(connection):
    context.configure(connection=connection, target_metadata=Base.metadata OPTIONS)
    with context.begin_transaction():
        context.run_migrations()

async def main():
    engine = create_async_engine(os.environ["HOST_URL"])
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()

asyncio.run(main())
"""
TEMPLATE = """
from alembic import op
import sqlalchemy as sa
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}

def upgrade():
    ${upgrades if upgrades else "pass"}

def downgrade():
    ${downgrades if downgrades else "pass"}
"""
RUN = "import sys; from alembic.config import main; [main(each.split()) for each in sys.argv[1:]]"

ALL_SCHEMAS = ", include_schemas=True"
BUT_OURS = (
    ALL_SCHEMAS
    + """,
        include_name=lambda name, kind, _: kind != "schema" or name != "jobtrail" """
)


@pytest.fixture
async def url(empty_url: str) -> str:
    """Of a database with our schema and nothing else."""
    found = normalize(empty_url)
    await migrate(found.sqlalchemy)
    return found.sqlalchemy


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a host."""
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    for name, text in {"alembic.ini": INI, "models.py": MODELS, "migrations/script.py.mako": TEMPLATE}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


async def alembic(folder: Path, url: str, *commands: str) -> str:
    """What it says to these commands, one after the other in one process."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN, *commands, cwd=folder,
        env=environment(HOST_URL=url, PYTHONPATH=str(TOP / "service")),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    told = (await running.communicate())[0].decode()
    assert running.returncode == 0, told
    return told


def written(folder: Path) -> list[str]:
    """The first lines of the operations that its only revision has."""
    (revision,) = (folder / "migrations" / "versions").glob("*.py")
    upgrade = revision.read_text().split("def upgrade")[1].split("def downgrade")[0]
    return [line.strip() for line in upgrade.splitlines() if "op." in line]


@pytest.mark.parametrize("options", ["", BUT_OURS])
async def test_autogenerate_proposes_only_what_is_the_hosts(folder: Path, url: str, options: str) -> None:
    (folder / "migrations" / "env.py").write_text(ENV.replace("OPTIONS", options))
    told = await alembic(folder, url, "revision --autogenerate -m first", "upgrade head", "check")
    assert written(folder) == ["op.create_table('jobs',", "op.create_table('users',"]
    assert "No new upgrade operations detected" in told
    connection = await asyncpg.connect(normalize(url).libpq)
    tables = await connection.fetch("SELECT schemaname FROM pg_tables WHERE tablename = 'alembic_version' ORDER BY 1")
    assert [each["schemaname"] for each in tables] == ["jobtrail", "public"]
    assert await connection.fetchval("SELECT version_num FROM jobtrail.alembic_version") == head()
    await connection.close()
    ours = config()
    ours.attributes["connection"] = create_async_engine(url)
    await asyncio.to_thread(command.check, ours)  # raises for anything that is found to do


async def test_a_host_that_looks_into_every_schema_must_leave_ours_out(folder: Path, url: str) -> None:
    (folder / "migrations" / "env.py").write_text(ENV.replace("OPTIONS", ALL_SCHEMAS))
    await alembic(folder, url, "revision --autogenerate -m first")
    assert "op.drop_table('jobs', schema='jobtrail')" in written(folder)
