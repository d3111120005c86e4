"""Access keys: made, listed and revoked; what the table refuses, from psql too."""

import asyncio
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtrail.errors import AccessKeyNotFoundError, InvalidInputError
from jobtrail.jobs.services import Services
from jobtrail.ops.keys import any_keys, create_key, digest, flaws_of, list_keys, make, parse, revoke_key, shown
from support.world import Place

PREFIX: Final = "abcdefgh2345"
TEXT: Final = f"jt_{PREFIX}_" + "A-_z0" * 8 + "abc"
NOW: Final = datetime.now(UTC)


def test_a_new_key_is_found_by_its_prefix_and_known_by_its_hash() -> None:
    made = [make() for _ in range(2000)]
    assert len({each.text for each in made}) == len({each.prefix for each in made}) == 2000
    assert all(re.fullmatch(rf"jt_{each.prefix}_.{{43}}", each.text) for each in made)
    assert all((parse(each.text), each.hash) == (each.prefix, digest(each.text)) for each in made)
    # every letter that there may be comes in both parts: nothing of them is fixed
    assert len(set("".join(each.prefix for each in made))) == 32
    assert len(set("".join(each.text[16:] for each in made))) == 64
    assert made[0].prefix in repr(made[0])
    assert made[0].text[16:] not in repr(made[0]) + str(made[0])
    assert str(made[0].hash) not in repr(made[0])


ANY_TEXT = st.text(st.characters(codec=None), max_size=70)


@given(ANY_TEXT | st.builds(lambda at, new: TEXT[:at] + new + TEXT[at + 1 :], st.integers(0, 59), st.text(max_size=2)))
def test_only_what_has_the_form_of_a_key_has_a_prefix(text: str) -> None:
    has_form = re.fullmatch(r"jt_[a-z2-7]{12}_[A-Za-z0-9_-]{43}", text) is not None
    assert parse(text) == (text[3:15] if has_form else None)
    assert len(digest(text)) == 32
    assert shown(text)[:15] == text[:15]
    assert len(shown(text)) <= 16


@given(st.lists(ANY_TEXT, unique=True))
def test_each_text_has_a_hash_of_its_own(texts: list[str]) -> None:
    assert len({digest(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("wrong", "pointers"),
    [
        *(({"name": name}, []) for name in ("a", "9", "ann@example.org", "x" * 100)),
        *(({"name": name}, ["/name"]) for name in ("", "x" * 101, "-a", "a b", "a\n", "a\0", "ä", "\ud800")),
        ({"scopes": []}, ["/scopes"]),
        ({"scopes": ["admin"]}, ["/scopes"]),
        ({"scopes": ["read", ""]}, ["/scopes"]),
        ({"scopes": ["read", "submit", "operate", "read"]}, []),
        ({"lives_for": timedelta(seconds=1)}, []),
        ({"lives_for": timedelta(days=3650)}, []),
        ({"lives_for": timedelta(0)}, ["/expires_in"]),
        ({"lives_for": timedelta(days=3650, microseconds=1)}, ["/expires_in"]),
        ({"expires_at": NOW, "lives_for": timedelta(days=1)}, ["/expires_at"]),
        ({"name": "", "scopes": [], "lives_for": timedelta(0)}, ["/name", "/scopes", "/expires_in"]),
    ],
)
def test_what_a_key_may_be(wrong: dict[str, Any], pointers: list[str]) -> None:
    wanted = {"name": "shop", "scopes": ["read"], "expires_at": None, "lives_for": None, **wrong}
    assert [flaw.pointer for flaw in flaws_of(**wanted)] == pointers


async def test_a_key_is_made_once_and_kept_as_a_hash(place: Place, services: Services) -> None:
    made = [
        await create_key(services, "shop", ["operate", "read", "read"], by="ann", lives_for=timedelta(days=90)),
        *await asyncio.gather(*(create_key(services, "shop", ["submit"], by="ann") for _ in range(20))),
    ]
    assert {each.id for each in await list_keys(services)} == {record.id for record, _ in made}
    record, text = made[0]
    (row,) = await place.rows("SELECT * FROM jobtrail.keys WHERE id = $1", record.id)
    assert (row.pop("hash"), row["id"].version, row["scopes"]) == (digest(text), 7, ["read", "operate"])
    assert {name: getattr(record, name) for name in row} == row
    assert (record.name, record.created_by, record.state, record.last_used_at) == ("shop", "ann", "active", None)
    assert text.startswith(f"jt_{record.prefix}_")
    assert row["expires_at"] - row["created_at"] == timedelta(days=90)


@pytest.mark.parametrize(
    ("ends", "is_stored"),
    [
        ("now()", False),
        ("now() + interval '1 minute'", True),
        ("now() + interval '3649 days 23 hours'", True),
        ("now() + interval '3650 days 1 minute'", False),
        ("'9999-12-31'", False),
        ("'0001-01-01'", False),
    ],
)
async def test_an_end_must_be_to_come(place: Place, services: Services, ends: str, *, is_stored: bool) -> None:
    expires_at = await place.value(f"SELECT CAST({ends} AS timestamptz)")
    if is_stored:
        record, _ = await create_key(services, "shop", ["read"], by="ann", expires_at=expires_at)
        assert record.expires_at == expires_at
    else:
        with pytest.raises(InvalidInputError) as error:
            await create_key(services, "shop", ["read"], by="ann", expires_at=expires_at)
        assert [flaw.pointer for flaw in error.value.flaws] == ["/expires_at"]
    assert await any_keys(services) == is_stored


async def test_the_longest_life_is_within_ten_years(services: Services) -> None:
    record, _ = await create_key(services, "shop", ["read"], by="ann", lives_for=timedelta(days=3650))
    assert record.expires_at == record.created_at + timedelta(days=3650)
    with pytest.raises(InvalidInputError):
        await create_key(services, "shop", ["read"], by="ann", lives_for=timedelta(0))
    assert await list_keys(services) == [record]


async def test_a_key_is_revoked_once_by_whatever_is_known_of_it(services: Services) -> None:
    other, _ = await create_key(services, "shop", ["read"], by="ann")
    for way in (
        lambda record, _: record.id,
        lambda record, _: str(record.id).upper(),
        lambda record, _: record.prefix,
        lambda record, _: f"{record.prefix}_x",
        lambda _, text: text[:15],
        lambda _, text: text[:40],
        lambda _, text: text,
    ):
        record, text = await create_key(services, "shop", ["read"], by="ann")
        revoked = await revoke_key(services, way(record, text), by="bob")
        assert (revoked.id, revoked.state, revoked.revoked_by) == (record.id, "revoked", "bob")
        assert await revoke_key(services, record.id, by="eve") == revoked
    assert [each for each in await list_keys(services) if each.state == "active"] == [other]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (UUID(int=1), "'00000000-0000-0000-0000-000000000001'"),
        ("jt_zzzzzzzzzzzz_" + "S" * 43, "'zzzzzzzzzzzz'"),
        ("Bearer jt_zzzzzzzzzzzz_" + "S" * 43, "'Bearer jt_zzzzz…'"),
        ("ZZZ_" * 5 + "S" * 43, "'ZZZ_ZZZ_ZZZ_ZZZ…'"),
        (PREFIX[:-1], f"'{PREFIX[:-1]}'"),
        (f"jt{PREFIX}", f"'jt{PREFIX}'"),
        (f"{PREFIX}x", f"'{PREFIX}x'"),
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


async def test_a_revoked_key_still_counts_and_the_log_says_who(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    """To revoke the last one does not open the door."""
    assert await any_keys(services) is False
    with caplog.at_level(logging.INFO, "jobtrail"):
        record, _ = await create_key(services, "shop", ["read"], by="ann")
        await revoke_key(services, record.id, by="bob")
        with pytest.raises(AccessKeyNotFoundError):
            await revoke_key(services, uuid4(), by="bob")
    assert await any_keys(services) is True
    told = [
        (each.getMessage(), *(each.__dict__[name] for name in ("prefix", "key_name", "by"))) for each in caplog.records
    ]
    assert told == [
        ("access key made", record.prefix, "shop", "ann"),
        ("access key revoked", record.prefix, "shop", "bob"),
    ]


async def written(place: Place, **columns: Any) -> UUID:
    """A row as somebody with psql would write it."""
    values = {"id": uuid4(), "name": "shop", "prefix": PREFIX, "hash": b"h" * 32, "scopes": ["read"], **columns}
    marks = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await place.psql.execute(f"INSERT INTO jobtrail.keys ({', '.join(values)}) VALUES ({marks})", *values.values())
    return values["id"]


async def test_the_table_refuses_what_is_no_key(place: Place) -> None:
    wrong: dict[str, list[Any]] = {
        "name": ["", "x" * 101],
        "prefix": ["", "abcdefgh234", "abcdefgh23456", "ABCDEFGH2345", "abcdefgh234\n"],
        "hash": [b"", b"h" * 31, b"h" * 33],
        "scopes": [[], ["admin"], ["read", "admin"], [None], ["read", None], ["read"] * 4, [["read", "submit"]]],
        "created_by": ["", "x" * 256],
        "revoked_at": [NOW],
        "revoked_by": ["ann"],
    }
    rows = [{name: value} for name, values in wrong.items() for value in values]
    for row in [*rows, *({"revoked_at": NOW, "revoked_by": by} for by in ("", "x" * 256))]:
        with pytest.raises(asyncpg.CheckViolationError):
            await written(place, **row)
    await written(place)
    with pytest.raises(asyncpg.UniqueViolationError):
        await written(place)


SAME = "a key stays what it is"
LATER = "ends no later than was said"
STAYS = "a key is revoked, and its row stays"


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        *(
            (f"SET expires_at = '{end}'", "violates check")
            for end in ("infinity", "-infinity", "0001-01-01 BC", "10000-01-01")
        ),
        ("SET id = gen_random_uuid()", SAME),
        ("SET name = 'other'", SAME),
        ("SET prefix = 'zzzzzzzzzzzz'", SAME),
        ("SET hash = sha256('')", SAME),
        ("SET scopes = '{operate}'", SAME),
        ("SET created_by = 'bob'", SAME),
        ("SET created_at = now()", SAME),
        ("SET expires_at = NULL", LATER),
        ("SET expires_at = expires_at + interval '1 second'", LATER),
        ("DELETE FROM jobtrail.keys", STAYS),
        ("TRUNCATE jobtrail.keys", STAYS),
    ],
)
async def test_what_a_key_is_cannot_change(place: Place, statement: str, why: str) -> None:
    await written(place, expires_at=datetime(2030, 1, 1, tzinfo=UTC) if why == LATER else None)
    before = await place.rows("SELECT * FROM jobtrail.keys")
    with pytest.raises(asyncpg.CheckViolationError, match=why):
        await place.psql.execute(statement.replace("SET", "UPDATE jobtrail.keys SET"))
    assert await place.rows("SELECT * FROM jobtrail.keys") == before


async def test_it_can_be_used_and_end_earlier_and_be_revoked_but_not_come_back(place: Place) -> None:
    await written(place)
    await place.psql.execute("UPDATE jobtrail.keys SET last_used_at = now(), expires_at = now()")
    await place.psql.execute("UPDATE jobtrail.keys SET revoked_at = now(), revoked_by = 'bob'")
    await place.psql.execute("UPDATE jobtrail.keys SET last_used_at = now(), revoked_by = 'bob'")
    for change in ("revoked_at = NULL, revoked_by = NULL", "revoked_by = 'ann'", "revoked_at = clock_timestamp()"):
        with pytest.raises(asyncpg.CheckViolationError, match="stays revoked"):
            await place.psql.execute(f"UPDATE jobtrail.keys SET {change}")
    assert await place.value("SELECT revoked_by FROM jobtrail.keys") == "bob"


async def test_the_state_is_by_the_databases_clock(place: Place, services: Services) -> None:
    now = await place.value("SELECT clock_timestamp()")
    hour = timedelta(hours=1)
    await written(place, prefix="abcdefgh2345")
    await written(place, prefix="bbcdefgh2345", expires_at=now + hour)
    await written(place, prefix="cbcdefgh2345", expires_at=now - hour)
    await written(place, prefix="dbcdefgh2345", expires_at=now - hour, revoked_at=now, revoked_by="ann")
    listed = await list_keys(services)
    assert [each.state for each in listed] == ["active", "active", "expired", "revoked"]
    assert {each.created_by for each in listed} == {await place.value("SELECT session_user")}
