"""What breaks the feed and the webhooks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any, Final

from jobtrail.events import cursors, delivery, post
from mutants.mutant import Mutant, Patch


def move_the_cursor_first(patch: Patch) -> None:
    @asynccontextmanager
    async def apart(database: Any, name: str, **terms: Any) -> AsyncIterator[Any]:
        async with cursors.advancing(database, name, **terms) as step:
            if step is not None:
                await step.session.execute(cursors._MOVE, {"upto": step.bounds["upto"], "name": name})
                await step.session.commit()
            yield step

    patch.setattr(delivery, "advancing", apart)


def judge_before_the_connection(patch: Patch) -> None:
    async def connect_tcp(backend: Any, host: str, port: int, *_given: Any, **_more: Any) -> Any:
        for each in await backend._resolve(host, port):
            if backend._outbound.refuses(host, ip_address(each)):
                raise post.RefusedReceiverError(f"{host} leads to {each}, which is not public")
        [first, *_] = await backend._resolve(host, port)
        return await backend._plain.connect_tcp(first, port)

    patch.setattr(post._JudgedAddresses, "connect_tcp", connect_tcp)


OF_EVENTS: Final = (
    Mutant(
        "a feed that leaves out what was committed late",
        "tests/events/test_feed.py",
        statements=[(r"pg_snapshot_xip\(older\.snapshot\)", "pg_snapshot_xip('1:1:')")],
    ),
    Mutant(
        "a cursor that moves before its deliveries are stored",
        "tests/events/test_large_marks.py",
        move_the_cursor_first,
    ),
    Mutant("an address judged before the connection", "tests/events/test_post.py", judge_before_the_connection),
)
