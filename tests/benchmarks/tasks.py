"""The task of every measure: it does nothing."""

from jobtrail import task


@task
async def noop(a: int = 0) -> dict[str, int]:
    return {"ok": a}
