"""What a test says of what was submitted."""

from typing import Any
from uuid import UUID

import pytest

from jobtrail import Jobtrail
from jobtrail.errors import InvalidArgumentsError
from jobtrail.testing import Workbench
from support.rehearsal import ship
from support.tasks import noop

ORDER = UUID(int=7)


SAME: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((), {"order": ORDER}),
    ((str(ORDER),), {"express": False}),
    ((ORDER,), {"parts": [1, 2]}),
    ((ORDER, False, (1, 2)), {}),
]


@pytest.mark.parametrize("said", [{}, {"express": False}, {"parts": (1, 2)}])
async def test_the_same_call(trail: Jobtrail, bench: Workbench, said: dict[str, Any]) -> None:
    """However it is written."""
    job = await trail.submit(ship, ORDER, **said)
    assert {bench.assert_submitted(ship, *args, **kwargs).id for args, kwargs in SAME} == {job.id}


async def test_another_call(trail: Jobtrail, bench: Workbench) -> None:
    with pytest.raises(AssertionError, match=r"no job noop\(…\) was submitted; nothing was submitted"):
        bench.assert_submitted(noop)
    await trail.submit(ship, ORDER, parts=(3,))
    await trail.submit(ship, ORDER)
    listed = f'what was submitted:\n  ship {{"order":"{ORDER}","parts":[3]}}\n  ship {{"order":"{ORDER}"}}'
    for kwargs in ({"order": UUID(int=8)}, {"order": ORDER, "express": True}):
        call = ", ".join(f"{name}={value!r}" for name, value in kwargs.items())
        with pytest.raises(AssertionError) as found:
            bench.assert_submitted(ship, **kwargs)  # type: ignore[arg-type]
        assert str(found.value) == f"no job ship({call}) was submitted; {listed}"
    with pytest.raises(AssertionError, match=r"no job noop\(1\) was submitted; what was submitted:"):
        bench.assert_submitted(noop, 1)
    with pytest.raises(InvalidArgumentsError, match="/m: there is no such argument"):
        bench.assert_submitted(noop, m=1)  # type: ignore[call-overload]


async def test_the_newest_is_given(trail: Jobtrail, bench: Workbench) -> None:
    jobs = [await trail.submit(noop, n) for n in (1, 2, 1, 3)]
    assert bench.assert_submitted(noop, 1).id == jobs[2].id
    assert bench.assert_submitted(noop).id == jobs[3].id
    assert [job.id for job in bench.submitted()] == [job.id for job in jobs]


async def test_nothing(trail: Jobtrail, bench: Workbench) -> None:
    bench.assert_nothing_submitted()
    await trail.submit(noop)
    bench.assert_nothing_submitted(ship)
    assert bench.submitted(ship) == []
    for task in (noop, None):
        with pytest.raises(AssertionError, match=r"what was submitted:\n  noop \{\}"):
            bench.assert_nothing_submitted(task)
