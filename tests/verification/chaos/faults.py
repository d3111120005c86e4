"""What is done to processes, and how it is known that it happened. Each leaves a note in its world."""

import asyncio
import signal
import time
from pathlib import Path

from chaos.checks import nodes_of
from chaos.fleet import Fleet, Member
from chaos.world import POSTGRES, World
from support.embedded import postmaster_of
from support.until import until


async def kill(fleet: Fleet, member: Member) -> None:
    """kill -9, and another process in its place."""
    silence(member)
    pid, code = member.pid, await member.kill()
    assert code == -signal.SIGKILL, f"{member.name} had ended with {code} before"
    fleet.world.note(f"kill -9 of {member.name}", f"process {pid} ended by signal {-code}")
    fleet.restart(member)


async def stop_for(fleet: Fleet, member: Member, seconds: float) -> None:
    """SIGSTOP, and SIGCONT after so many seconds: the same process goes on as if nothing had been."""
    silence(member)
    began = time.monotonic()
    member.up = False
    member.signal(signal.SIGSTOP)
    await until(lambda: _is_stopped(member.pid), within=5)
    ran = _ran(member.pid)
    await asyncio.sleep(seconds)
    still = await _is_stopped(member.pid) and _ran(member.pid) == ran
    stopped = time.monotonic() - began
    member.signal(signal.SIGCONT)
    member.up = True
    assert still, f"{member.name} ran while it was to stand still"
    assert stopped > fleet.lease
    fleet.world.note(f"SIGSTOP of {member.name}", f"it stood still for {stopped:.2f} s, the lease is {fleet.lease} s")


def silence(member: Member) -> None:
    """Keep when its node was last alive."""
    [node] = nodes_of(member.world.folder, f"{member.name}.{member.starts}.log")
    member.world.silences.append((node, time.time()))


async def replace(fleet: Fleet, member: Member) -> None:
    """SIGTERM; when it has ended, another one in its place. Returns when that one is ready."""
    began, pid = time.monotonic(), member.pid
    member.up = False
    member.signal(signal.SIGTERM)
    code = await member.ended()
    took = time.monotonic() - began
    assert code == 0, f"{member.name} ended with {code}"
    await member.start()
    fleet.world.note(f"SIGTERM of {member.name}", f"process {pid} ended with {code} after {took:.2f} s")


async def kill_postgres(world: World, *, away: float = 0.0) -> float:
    """An immediate stop, as by a crash, and a start after `away` seconds; the seconds until it answered again.

    Every process of the server is gone in between, and its log says why.
    """
    before = await world.value("SELECT pg_postmaster_start_time()")
    began = time.monotonic()
    postmaster = postmaster_of(world.server.folder)
    postmaster.send_signal(signal.SIGQUIT)
    await asyncio.to_thread(postmaster.wait, 30)
    await asyncio.sleep(away)
    await asyncio.to_thread(world.server.start, POSTGRES)
    took = time.monotonic() - began
    after = await world.value("SELECT pg_postmaster_start_time()")
    log = Path(f"{world.server.log_file}.1").read_text(errors="replace")
    assert after > before
    assert "immediate shutdown request" in log
    world.note("PostgreSQL killed", f"away for {took:.2f} s; its log: received immediate shutdown request")
    return took


async def terminate_backends(world: World) -> int:
    """Every connection but our own is ended by the server; how many there were."""
    query = """SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
    ended = int(await world.value(query))
    if ended:
        world.note("pg_terminate_backend", f"{ended} backends ended")
    return ended


async def _is_stopped(pid: int) -> bool:
    """proc(5): the state is what follows the name in brackets."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _ran(pid: int) -> int:
    """Clock ticks that it has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
