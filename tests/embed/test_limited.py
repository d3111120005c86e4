"""Jobs with limits from an app: in a session of its own, and in the test kit."""

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from jobtrail import Jobtrail, Limit, task
from jobtrail.errors import LimitFullError
from jobtrail.testing import workbench
from support.world import Place


@task(limits=[Limit("one of {n}", 1), Limit("two", 2)])
async def counted(n: int) -> int:
    return n


@task(limits=[Limit("only one", 1)], on_full="reject")
async def rejecting() -> None: ...


async def test_a_limited_job_is_stored_by_a_session_and_run_by_the_test_kit(place: Place) -> None:
    engine = create_async_engine(place.url.sqlalchemy)
    with workbench(place.scratch, tasks=[counted, rejecting]) as bench:
        async with (
            Jobtrail(bench.database.settings(), tasks=[counted, rejecting]) as trail,
            AsyncSession(engine) as session,
        ):
            await trail.options(session=session).submit(counted, 7)
            await session.commit()
            for n in range(6):
                await trail.submit(counted, n % 2)
            row = (await place.rows("SELECT run_at, limit_keys FROM jobtrail.jobs WHERE args = '{\"n\": 7}'"))[0]
            assert (row["run_at"], row["limit_keys"]) == (None, ["one of 7", "two"])
            assert sorted(job.result for job in await bench.run_async()) == [0, 0, 0, 1, 1, 1, 7]
            with pytest.raises(TypeError, match=r"on_full='reject' of .* and session= do not go together"):
                await trail.options(session=session).submit(rejecting)
            await trail.submit(rejecting)
            with pytest.raises(LimitFullError):
                await trail.submit(rejecting)
    await engine.dispose()
