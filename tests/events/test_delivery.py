"""Deliveries: one for each move that matches, whoever made it, sent until the receiver has it."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from jobtrail.events import delivery
from jobtrail.events.delivery import QUEUE, TASK, advance
from jobtrail.events.feed import mark
from jobtrail.jobs.cancel import cancel
from jobtrail.jobs.retry import retry
from jobtrail.jobs.services import Services
from jobtrail.ops.webhooks import Webhook, delete, put
from jobtrail.outbound import Outbound
from jobtrail.status import Status
from support.receiver import SECRET, Receiver, always, receiving, services_that_deliver
from support.until import until
from support.urls import URLS
from support.world import Place, ended, node_at, ran, submitted

DELIVERIES = "SELECT * FROM jobtrail.jobs WHERE task = 'jobtrail.webhook' ORDER BY created_at, id"


@pytest.fixture
def services(place: Place) -> Services:
    return services_that_deliver(place)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def hooked(services: Services, receiver: Receiver, name: str = "ops", **wanted: Any) -> tuple[Webhook, str]:
    found, secret = await put(services, name, receiver.url, by="ann", **wanted)
    assert secret is not None
    return found, secret


async def derived(services: Services) -> None:
    """All that has been committed until now."""
    await mark(services.database)
    while await advance(services):
        pass


async def arrived(receiver: Receiver, number: int) -> None:
    async def enough() -> bool:
        return len(receiver.got) >= number

    await until(enough)


async def test_the_end_of_a_job_is_delivered_signed(place: Place, services: Services, receiver: Receiver) -> None:
    _, secret = await hooked(services, receiver)
    async with node_at(services, place):
        job = await ran(services, "noop", n=5)
        await arrived(receiver, 1)
        (delivered,) = await place.rows(DELIVERIES)
        done = await ended(services, delivered["id"])
    (got,) = receiver.got
    [move] = await place.rows("SELECT * FROM jobtrail.transitions WHERE job_id = $1 AND seq = 3", job.id)
    at = move["at"].isoformat().replace("+00:00", "Z")
    assert got.verified(secret) == {
        "type": "job.succeeded",
        "timestamp": at,
        "data": {
            "job_id": str(job.id), "seq": 3, "task": "noop", "attempt": 1, "from_status": "running",
            "to_status": "succeeded", "at": at, "reason": move["reason"], "error": None, "trace_id": job.trace_id,
        },
    }  # fmt: skip
    assert got.id == str(delivered["id"])
    assert (done.queue, done.task, done.status, done.result) == (QUEUE, TASK, Status.SUCCEEDED, {"status": 204})
    assert (done.created_by, done.tags, done.trace_id) == ("webhook ops", ["webhook:ops"], job.trace_id)
    assert secret not in str(done.args)


async def test_each_move_once_whoever_made_it(place: Place, services: Services, receiver: Receiver) -> None:
    """By a verb, in psql, and by what begins and ends in one transaction of somebody else's."""
    statuses = ["pending", "running", "succeeded", "failed", "cancelled"]
    await hooked(services, receiver, statuses=statuses)
    await hooked(services, receiver, "cancelled", statuses=["cancelled"], tasks=["noop"])
    await hooked(services, receiver, "others", tasks=["fail"])
    first, second = await submitted(services, "noop"), await submitted(services, "noop")
    await cancel(services, first.id, by="ann", reason="why not")
    await place.psql.execute("UPDATE jobtrail.jobs SET status = 'cancelled' WHERE id = $1", second.id)
    for _ in range(3):
        await derived(services)
    rows = [(each["created_by"], each["args"]) for each in await place.rows(DELIVERIES)]
    assert sorted(by for by, _ in rows) == ["webhook cancelled"] * 2 + ["webhook ops"] * 4
    assert len({each["id"] for each in await place.rows(DELIVERIES)}) == 6


async def test_several_nodes_make_one_delivery_of_each_move(
    place: Place, services: Services, receiver: Receiver
) -> None:
    await hooked(services, receiver)
    jobs = [await submitted(services, "noop") for _ in range(30)]
    async with node_at(services, place), node_at(services, place), node_at(services, place):
        for job in jobs:
            await ended(services, job.id)
        await arrived(receiver, 30)
    assert {each.id for each in receiver.got} == {str(each["id"]) for each in await place.rows(DELIVERIES)}
    assert len(await place.rows(DELIVERIES)) == 30


async def test_a_webhook_counts_what_commits_after_it(place: Place, services: Services, receiver: Receiver) -> None:
    before = await submitted(services, "noop")
    async with place.psql.transaction():
        late = await place.value("INSERT INTO jobtrail.jobs (id, task) VALUES (gen_random_uuid(), 'noop') RETURNING id")
        await hooked(services, receiver, statuses=["pending"])
        await derived(services)
    after = await submitted(services, "noop")
    await derived(services)
    told = {str(each["args"]) for each in await place.rows(DELIVERIES)}
    assert [str(before.id) in str(told), str(late) in str(told), str(after.id) in str(told)] == [False, True, True]


async def test_a_webhook_that_is_written_in_psql(place: Place, services: Services, receiver: Receiver) -> None:
    """The database makes its secret."""
    insert = "INSERT INTO jobtrail.webhooks (name, url) VALUES ('by_hand', $1) RETURNING secrets[1]"
    secret = await place.value(insert, receiver.url)
    async with node_at(services, place):
        job = await ran(services, "noop")
        await arrived(receiver, 1)
    assert receiver.got[0].verified(secret)["data"]["job_id"] == str(job.id)


async def test_without_receivers_the_cursor_goes_along(place: Place, services: Services, receiver: Receiver) -> None:
    await submitted(services, "noop")
    await derived(services)
    no = await place.value("SELECT max(no) FROM jobtrail.feed_marks")
    assert no > 1
    assert await place.value("SELECT no FROM jobtrail.feed_cursors WHERE name = 'webhooks'") == no
    await hooked(services, receiver, statuses=["pending"])
    await submitted(services, "noop")
    await derived(services)
    assert len(await place.rows(DELIVERIES)) == 1


async def test_deliveries_are_delivered_to_nobody(place: Place, services: Services, receiver: Receiver) -> None:
    await hooked(services, receiver, statuses=["pending", "running", "succeeded"])
    await submitted(services, "noop")
    for _ in range(3):
        await derived(services)
    assert len(await place.rows(DELIVERIES)) == 1


async def test_a_callback_is_signed_by_the_installation(place: Place, services: Services, receiver: Receiver) -> None:
    async with node_at(services, place):
        job = await ran(services, "fail", how="error", callback_url=receiver.url, ttl=0)
        await arrived(receiver, 1)
        (delivered,) = await place.rows(DELIVERIES)
        await ended(services, delivered["id"])
    (got,) = receiver.got
    data = got.verified(SECRET)["data"]
    assert (data["job_id"], data["to_status"]) == (str(job.id), "failed")
    assert data["error"] == {"type": "ValueError", "message": "as asked", "attempt": 1}
    assert (delivered["created_by"], delivered["tags"]) == ("ann", ["callback"])
    assert (await ended(services, job.id)).callback_url == receiver.url, "it is kept until it is told"


async def test_a_delivery_that_fails_is_tried_again_with_the_same_id(place: Place, services: Services) -> None:
    async def at_the_third(number: int, writer: asyncio.StreamWriter) -> None:
        answer = always(["500 Internal Server Error", "302 Found", "204 No Content"][number])
        await answer(number, writer)

    async with receiving(at_the_third) as receiver:
        await hooked(services, receiver)
        async with node_at(services, place):
            await ran(services, "noop")
            for number in (1, 2):
                await arrived(receiver, number)
                await due_now(place)
            await arrived(receiver, 3)
            (delivered,) = await place.rows(DELIVERIES)
            done = await ended(services, delivered["id"])
    assert (done.status, done.attempt, done.max_attempts) == (Status.SUCCEEDED, 3, 8)
    assert {each.id for each in receiver.got} == {str(done.id)}
    assert len({each.headers["webhook-signature"] for each in receiver.got}) >= 1
    moves = await place.rows("SELECT * FROM jobtrail.transitions WHERE job_id = $1 ORDER BY seq", done.id)
    assert "answered 500" in str(moves[2]["error"])


@pytest.mark.parametrize(
    ("answer", "least", "most"),
    [
        ("503 Service Unavailable", 100, 100), ("429 Too Many Requests", 100, 100), ("500 Internal Server Error", 4, 6),
        ("503 Service Unavailable\r\nRetry-After: 1", 4, 6), ("429 Too Many\r\nRetry-After: 99999999", 18000, 18000),
    ],
)  # fmt: skip
async def test_a_receiver_that_says_when_is_left_alone_until_then(
    place: Place, services: Services, answer: str, least: float, most: float
) -> None:
    """Never sooner than without its word, and no later than the longest pause."""
    async with receiving(always(answer, "Retry-After: 100")) as receiver:
        await hooked(services, receiver, statuses=["pending"])
        await submitted(services, "noop")
        await derived(services)
        async with node_at(services, place):
            await arrived(receiver, 1)
            await until(partial(place.rows, f"SELECT FROM ({DELIVERIES}) d WHERE status = 'pending' AND attempt = 1"))
    waits = (
        "SELECT extract(epoch FROM d.due_at - t.at) FROM jobtrail.jobs d JOIN jobtrail.transitions t ON t.job_id = d.id"
    )
    wait = float(await place.value(f"{waits} WHERE t.task = '{TASK}' ORDER BY t.seq DESC LIMIT 1"))
    assert least - 0.1 <= wait <= most + 0.1
    [error] = await place.rows(f"SELECT error ->> 'type' AS type, error ->> 'message' AS said FROM ({DELIVERIES}) d")
    assert error == {"type": "ReceiverError", "said": f"the receiver answered {answer[:3]}"}


async def due_now(place: Place) -> None:
    """What waits for its next attempt does not have to."""

    async def moved() -> bool:
        done = await place.psql.execute(
            "UPDATE jobtrail.jobs SET due_at = now() WHERE task = $1 AND status = 'pending' AND attempt > 0"
            " AND due_at > now()",
            TASK,
        )
        return bool(done == "UPDATE 1")

    await until(moved)


async def test_the_waits_grow_from_five_seconds_to_five_hours() -> None:
    waits = [delivery.RETRY.delay(attempt, 0.5) for attempt in range(1, delivery.MAX_ATTEMPTS)]
    assert waits == [5, 20, 80, 320, 1280, 5120, 18000]


@pytest.mark.parametrize(
    ("status", "kind"), [("410 Gone", "webhook-gone"), ("deleted", "webhook-deleted"), ("moved", "webhook-refused")]
)
async def test_what_can_never_be_delivered_fails_at_once_and_is_retried_by_hand(
    place: Place, services: Services, status: str, kind: str
) -> None:
    async with receiving(always(status) if status[0] == "4" else always("204 No Content")) as receiver:
        hook, _ = await hooked(services, receiver)
        job = await submitted(services, "noop")
        await cancel(services, job.id, by="ann")
        await derived(services)
        if status == "deleted":
            await delete(services, hook.name, by="ann")
        if status == "moved":
            await place.psql.execute("UPDATE jobtrail.webhooks SET url = 'https://10.0.0.1/'")
        (delivered,) = await place.rows(DELIVERIES)
        async with node_at(services, place):
            dead = await ended(services, delivered["id"])
            assert dead.error is not None
            assert (dead.status, dead.attempt, dead.error["type"]) == (Status.FAILED, 1, kind)
            receiver.answer = always("204 No Content")
            if status == "deleted":
                await hooked(services, receiver)  # another one of that name, which is told of what comes
                await retry(services, dead.id, by="ann")
                assert (await ended(services, dead.id)).status is Status.FAILED
                return
            if status == "moved":
                await place.psql.execute("UPDATE jobtrail.webhooks SET url = $1", receiver.url)
            await retry(services, dead.id, by="ann")
            assert (await ended(services, dead.id)).status is Status.SUCCEEDED
    assert receiver.got[-1].id == str(dead.id)


async def test_a_url_that_is_written_in_psql_is_judged_when_it_is_sent_to(place: Place, services: Services) -> None:
    """None of them keeps the deliveries of the others from being made, and each fails at once."""
    refused = [url for url, why in URLS.items() if why is not None]
    for n, url in enumerate(refused):
        await place.psql.execute("INSERT INTO jobtrail.webhooks (name, url) VALUES ($1, $2)", f"hook-{n}", url)
    job = await submitted(services, "noop")
    await cancel(services, job.id, by="ann")
    await derived(services)
    deliveries = await place.rows(DELIVERIES)
    async with node_at(services, place):
        dead = [await ended(services, each["id"]) for each in deliveries]
    assert len(dead) == len(refused)
    assert {(each.status, each.attempt, (each.error or {})["type"]) for each in dead} == {
        (Status.FAILED, 1, "webhook-refused")
    }


async def test_a_receiver_that_never_answers_holds_up_no_other(place: Place, services: Services) -> None:
    async def never(_number: int, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    outbound = Outbound.of(["127.0.0.1", "localhost"], [SECRET])
    services = services_that_deliver(place, delivery.Sender(outbound))
    async with receiving(never) as silent, receiving() as receiver:
        await hooked(services, silent, "silent")
        object.__setattr__(services, "outbound", outbound)
        await put(services, "well", receiver.url.replace("127.0.0.1", "localhost"), by="ann")
        for _ in range(6):
            job = await submitted(services, "noop")
            await cancel(services, job.id, by="ann")
        await derived(services)
        async with node_at(services, place, slots=8, grace=0.1):
            await arrived(receiver, 6)
            await arrived(silent, 2)
            running = "SELECT count(*) FROM jobtrail.jobs WHERE status = 'running' AND tags = '{webhook:silent}'"
            assert await place.value(running) == 2
    assert len(silent.got) == 2


async def test_an_event_is_short_whatever_the_error(place: Place) -> None:
    long = "\x01" * 50_000
    error = {"type": long, "message": long, "attempt": 1, "traceback": "secret"}
    match = {
        "job_id": UUID(int=1), "seq": 3, "task": "t" * 200, "attempt": 1, "from_status": "running",
        "to_status": "failed", "at": await place.value("SELECT now()"), "reason": "r" * 1000,
        "error": delivery.dump(error), "trace_id": "0" * 32,
    }  # fmt: skip
    body = delivery.dump(delivery.event_of(match))
    assert len(body.encode()) <= 20_000
    assert "secret" not in body
