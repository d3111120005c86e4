"""The secrets that sign deliveries: after a rotation, and where they were typed wrong in psql."""

import base64
from collections.abc import AsyncIterator

import pytest

from jobtrail.jobs.services import Services
from jobtrail.ops.webhooks import Webhook, put, rotate
from jobtrail.outbound import new_secret
from support.receiver import Receiver, receiving, services_that_deliver
from support.until import until
from support.world import Place, node_at, ran

ERROR = "SELECT error->>'message' FROM jobtrail.jobs WHERE task = 'jobtrail.webhook'"
OLD = new_secret()


@pytest.fixture
def services(place: Place) -> Services:
    return services_that_deliver(place)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def hooked(services: Services, receiver: Receiver) -> tuple[Webhook, str]:
    found, secret = await put(services, "ops", receiver.url, by="ann")
    assert secret is not None
    return found, secret


async def typed(place: Place, secrets: list[str]) -> None:
    await place.psql.execute("UPDATE jobtrail.webhooks SET secrets = $1", secrets)


async def arrived(receiver: Receiver, number: int) -> None:
    async def enough() -> bool:
        return len(receiver.got) >= number

    await until(enough)


async def test_after_a_rotation_both_secrets_sign(place: Place, services: Services, receiver: Receiver) -> None:
    hook, old = await hooked(services, receiver)
    _, new = await rotate(services, hook.name, by="ann")
    async with node_at(services, place):
        await ran(services, "noop")
        await arrived(receiver, 1)
        assert receiver.got[0].verified(old) == receiver.got[0].verified(new)
        _, newest = await rotate(services, hook.name, by="ann", secret="whsec_" + base64.b64encode(b"k" * 24).decode())
        await ran(services, "noop")
        await arrived(receiver, 2)
    assert receiver.got[1].verified(newest) == receiver.got[1].verified(new)
    with pytest.raises(Exception, match="No matching signature"):
        receiver.got[1].verified(old)


@pytest.mark.parametrize(
    ("typed_in", "kept"),
    [(["mistyped"], []), (["whsec_é", OLD], [OLD]), ([OLD, "whsec_c2hvcnQ="], [OLD])],
    ids=["none is right", "not the newest", "not the oldest"],
)
async def test_a_rotation_keeps_no_secret_that_cannot_sign(
    place: Place, services: Services, receiver: Receiver, typed_in: list[str], kept: list[str]
) -> None:
    await hooked(services, receiver)
    await typed(place, typed_in)
    hook, new = await rotate(services, "ops", by="ann")
    assert await place.value("SELECT secrets FROM jobtrail.webhooks") == [new, *kept]
    assert (hook.rotated_at is not None) == bool(kept)


async def test_secrets_that_can_sign_do_so_beside_one_that_cannot(
    place: Place, services: Services, receiver: Receiver
) -> None:
    _, secret = await hooked(services, receiver)
    await typed(place, ["mistyped", secret])
    async with node_at(services, place):
        await ran(services, "noop")
        await arrived(receiver, 1)
    assert receiver.got[0].verified(secret)
    assert len(receiver.got[0].headers["webhook-signature"].split()) == 1


async def test_a_delivery_says_that_no_secret_can_sign(place: Place, services: Services, receiver: Receiver) -> None:
    await hooked(services, receiver)
    await typed(place, ["mistyped"])
    async with node_at(services, place):
        await ran(services, "noop")
        error = await until(lambda: place.value(ERROR))
    assert error == "no secret of the webhook ops can sign: `jobtrail webhooks rotate ops` makes one"
    assert receiver.connections == 0
