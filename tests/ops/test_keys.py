"""Making, listing and revoking keys."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobtrail.errors import AccessKeyNotFoundError, InvalidInputError
from jobtrail.jobs.services import Services
from jobtrail.ops.key_text import digest
from jobtrail.ops.keys import any_keys, create_key, list_keys, revoke_key
from support.world import Place


async def test_a_key_is_made_once_and_kept_as_a_hash(place: Place, services: Services) -> None:
    record, text = await create_key(services, "shop", ["operate", "read", "read"], by="ann")
    assert (record.name, record.scopes, record.created_by, record.state) == (
        "shop", ["read", "operate"], "ann", "active"
    )  # fmt: skip
    assert text.startswith(f"jt_{record.prefix}_")
    assert await place.value("SELECT hash FROM jobtrail.keys") == digest(text)
    assert await list_keys(services) == [record]
    assert (record.expires_at, record.revoked_at, record.revoked_by, record.last_used_at) == (None, None, None, None)


async def test_several_keys_may_have_one_name(services: Services) -> None:
    made = [await create_key(services, "shop", ["submit"], by="ann") for _ in range(3)]
    assert len({record.prefix for record, _ in made}) == len({text for _, text in made}) == 3
    assert await list_keys(services) == [record for record, _ in made]


async def test_many_at_once(services: Services) -> None:
    made = await asyncio.gather(*(create_key(services, f"n{number}", ["read"], by="ann") for number in range(20)))
    assert {each.id for each in await list_keys(services)} == {record.id for record, _ in made}


async def test_it_ends_by_the_databases_clock(place: Place, services: Services) -> None:
    now = await place.value("SELECT now()")
    for ends in ({"lives_for": timedelta(hours=1)}, {"expires_at": now + timedelta(hours=1)}):
        record, _ = await create_key(services, "shop", ["read"], by="ann", **ends)
        assert record.expires_at is not None
        assert timedelta(minutes=59) < record.expires_at - now < timedelta(minutes=61)


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"name": "a b"}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["all"]}, "/scopes"),
        ({"lives_for": timedelta(0)}, "/expires_in"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "/expires_at"),
        ({"expires_at": datetime(9999, 12, 31, tzinfo=UTC)}, "/expires_at"),
        ({"expires_at": datetime(2030, 1, 1, tzinfo=UTC), "lives_for": timedelta(days=1)}, "/expires_at"),
    ],
)
async def test_what_is_no_key_is_not_stored(
    place: Place, services: Services, wrong: dict[str, Any], pointer: str
) -> None:
    wanted: dict[str, Any] = {"name": "shop", "scopes": ["read"], **wrong}
    with pytest.raises(InvalidInputError) as error:
        await create_key(services, by="ann", **wanted)
    assert [flaw.pointer for flaw in error.value.flaws] == [pointer]
    assert await place.value("SELECT count(*) FROM jobtrail.keys") == 0


@pytest.mark.parametrize("way", ["id", "id as text", "id in capitals", "prefix", "beginning", "text", "half"])
async def test_a_key_is_revoked_by_whatever_is_known_of_it(services: Services, way: str) -> None:
    record, text = await create_key(services, "shop", ["read"], by="ann")
    other, _ = await create_key(services, "shop", ["read"], by="ann")
    written: dict[str, UUID | str] = {
        "id": record.id, "id as text": str(record.id), "id in capitals": str(record.id).upper(),
        "prefix": record.prefix, "beginning": text[:16], "text": text, "half": text[:40],
    }  # fmt: skip
    revoked = await revoke_key(services, written[way], by="bob")
    assert (revoked.id, revoked.state, revoked.revoked_by) == (record.id, "revoked", "bob")
    assert await list_keys(services) == [revoked, other]


async def test_the_first_to_revoke_it_stays(services: Services) -> None:
    record, _ = await create_key(services, "shop", ["read"], by="ann")
    first = await revoke_key(services, record.id, by="bob")
    assert await revoke_key(services, record.prefix, by="eve") == first


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (UUID(int=1), "'00000000-0000-0000-0000-000000000001'"),
        ("zzzzzzzzzzzz", "'zzzzzzzzzzzz'"),
        ("jt_zzzzzzzzzzzz_" + "S" * 43, "'zzzzzzzzzzzz'"),
        ("Bearer jt_zzzzzzzzzzzz_" + "S" * 43, "'Bearer jt_zzzzz…'"),
        ("ZZZ_" * 5 + "S" * 43, "'ZZZ_ZZZ_ZZZ_ZZZ…'"),
        ("shop", "'shop'"),
        ("", "''"),
        ("\0", r"'\x00'"),
        ("\ud800", r"'\ud800'"),
    ],
)
async def test_no_such_key(services: Services, written: UUID | str, told: str) -> None:
    await create_key(services, "shop", ["read"], by="ann")
    with pytest.raises(AccessKeyNotFoundError) as error:
        await revoke_key(services, written, by="bob")
    assert str(error.value) == f"no access key has the id or prefix {told}; `jobtrail keys list` shows them"
    assert [each.state for each in await list_keys(services)] == ["active"]


async def test_a_revoked_key_still_counts(services: Services) -> None:
    """Who revokes the last one does not open the door."""
    assert await any_keys(services) is False
    record, _ = await create_key(services, "shop", ["read"], by="ann")
    assert await any_keys(services) is True
    await revoke_key(services, record.id, by="bob")
    assert await any_keys(services) is True


async def test_the_log_says_who(services: Services, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "jobtrail"):
        record, _ = await create_key(services, "shop", ["read"], by="ann")
        await revoke_key(services, record.id, by="bob")
        with pytest.raises(AccessKeyNotFoundError):
            await revoke_key(services, uuid4(), by="bob")
    told = [
        (each.getMessage(), *(each.__dict__[name] for name in ("prefix", "key_name", "by"))) for each in caplog.records
    ]
    assert told == [
        ("access key made", record.prefix, "shop", "ann"),
        ("access key revoked", record.prefix, "shop", "bob"),
    ]
