"""What is done to PostgreSQL as a whole, and how it is known that it happened. Each leaves a note in its world."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil

from chaos.world import World
from support.embedded import postmaster_of, servers_in
from support.until import until

TOO_MANY = asyncpg.TooManyConnectionsError


async def freeze(world: World, seconds: float) -> None:
    """Every process of the server stands still for so long, and goes on."""
    postmaster = postmaster_of(world.server.folder)
    began = time.monotonic()
    postmaster.suspend()  # first, so that none is born meanwhile
    await until(lambda: _all_stopped([postmaster]), within=10)
    processes = servers_in(world.server.folder)
    for process in processes:
        process.suspend()
    await until(lambda: _all_stopped(processes), within=10)
    ran = [process.cpu_times()[:2] for process in processes]
    await asyncio.sleep(seconds)
    still = [process.cpu_times()[:2] for process in processes] == ran
    took = time.monotonic() - began
    for process in processes:
        process.resume()
    assert still, "PostgreSQL ran while it was to stand still"
    assert took >= seconds
    world.note("PostgreSQL stopped by SIGSTOP", f"{len(processes)} processes stood still for {took:.2f} s")


@asynccontextmanager
async def read_only(world: World) -> AsyncIterator[None]:
    """Whoever asks for nothing else can only read."""
    connection = await world.connection()
    await connection.execute("SET default_transaction_read_only = off")
    await _set_read_only(connection, "on")
    other = await asyncpg.connect(world.url.libpq)
    try:
        await until(lambda: other.fetchval("SELECT current_setting('transaction_read_only') = 'on'"), within=10)
        began = time.monotonic()
        yield
        refused = await _refusal(other)
    finally:
        await _set_read_only(connection, "off")
        await other.close()
    world.note("database read-only", f"for {time.monotonic() - began:.2f} s; it said: {refused}")


@asynccontextmanager
async def full(world: World) -> AsyncIterator[int]:
    """All connections that the server has are taken; how many."""
    taken = await _take_all(world)
    began = time.monotonic()
    try:
        yield len(taken)
        refused = await _refused(world)
    finally:
        for each in taken:
            await each.close()
    world.note("connections exhausted", f"{len(taken)} taken for {time.monotonic() - began:.2f} s; it said: {refused}")


async def restart(world: World, **options: str) -> None:
    """With other options of the server; before the fleet is there."""
    await asyncio.to_thread(world.server.stop)
    await asyncio.to_thread(world.server.start, options)


async def _take_all(world: World) -> list[asyncpg.Connection]:
    """Whoever has one is thrown out, until nobody but us has any."""
    taken: list[asyncpg.Connection] = []
    ours = "SELECT pg_backend_pid()"
    pids = [await world.value(ours)]
    others = """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE backend_type = 'client backend' AND pid <> ALL($1::int[])"""
    while True:
        try:
            connection = await asyncpg.connect(world.url.libpq)
        except TOO_MANY:
            if not await world.value(others, pids):
                return taken
            continue
        taken.append(connection)
        pids.append(await connection.fetchval(ours))


async def _refused(world: World) -> str:
    try:
        connection = await asyncpg.connect(world.url.libpq)
    except TOO_MANY as error:
        return str(error)
    await connection.close()
    raise AssertionError("there was room for one more connection")


async def _refusal(connection: asyncpg.Connection) -> str:
    try:
        await connection.execute("INSERT INTO outside VALUES (NULL)")
    except asyncpg.ReadOnlySQLTransactionError as error:
        return str(error)
    raise AssertionError("the database could be written to")


async def _set_read_only(connection: asyncpg.Connection, value: str) -> None:
    await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    await connection.execute("SELECT pg_reload_conf()")


async def _all_stopped(processes: list[psutil.Process]) -> bool:
    return all(Path(f"/proc/{each.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T" for each in processes)
