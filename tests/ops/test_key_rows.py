"""Keys in the table: what it refuses, from psql too, and how they are found."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from jobtrail.ops import key_rows
from jobtrail.ops.key_text import KeyRecord, NewKey, make
from support.world import Place

PREFIX: Final = "abcdefgh2345"
HASH: Final = b"h" * 32


async def written(place: Place, **columns: Any) -> UUID:
    """A row as somebody with psql would write it."""
    values = {"id": uuid4(), "name": "shop", "prefix": PREFIX, "hash": HASH, "scopes": ["read"], **columns}
    marks = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await place.psql.execute(f"INSERT INTO jobtrail.keys ({', '.join(values)}) VALUES ({marks})", *values.values())
    return values["id"]


async def put(place: Place, new: NewKey | None = None, **wanted: Any) -> KeyRecord | None:
    wanted = {
        "name": "shop",
        "scopes": ["read"],
        "actor": "ann",
        "expires_at": None,
        "lives_for": None,
        "no_longer": None,
        **wanted,
    }
    async with place.database.sessions.begin() as session:
        return await key_rows.put(session, new or make(), **wanted)


async def found(place: Place, *prefixes: str) -> list[key_rows.KeyRow | None]:
    return [each.key for each in await key_rows.look_up_group(place.database, prefixes)]


@pytest.mark.parametrize(
    "columns",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"prefix": ""},
        {"prefix": "abcdefgh234"},
        {"prefix": "abcdefgh23456"},
        {"prefix": "ABCDEFGH2345"},
        {"prefix": "abcdefgh234\n"},
        {"hash": b""},
        {"hash": b"h" * 31},
        {"hash": b"h" * 33},
        {"scopes": []},
        {"scopes": ["admin"]},
        {"scopes": ["read", "admin"]},
        {"scopes": [None]},
        {"scopes": ["read", None]},
        {"scopes": ["read"] * 4},
        {"scopes": [["read", "submit"]]},
        {"created_by": ""},
        {"created_by": "x" * 256},
        {"revoked_at": datetime.now(UTC)},
        {"revoked_by": "ann"},
        {"revoked_at": datetime.now(UTC), "revoked_by": ""},
        {"revoked_at": datetime.now(UTC), "revoked_by": "x" * 256},
    ],
)
async def test_the_table_refuses_what_is_no_key(place: Place, columns: dict[str, Any]) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await written(place, **columns)
    assert await place.value("SELECT count(*) FROM jobtrail.keys") == 0


@pytest.mark.parametrize("end", ["infinity", "-infinity", "0001-01-01 BC", "10000-01-01"])
async def test_no_end_that_nobody_could_read(place: Place, end: str) -> None:
    await written(place)
    with pytest.raises(asyncpg.CheckViolationError):
        await place.psql.execute(f"UPDATE jobtrail.keys SET expires_at = '{end}'")


async def test_a_prefix_is_of_one_key(place: Place) -> None:
    await written(place)
    with pytest.raises(asyncpg.UniqueViolationError):
        await written(place)
    await written(place, prefix="zbcdefgh2345")
    assert await place.value("SELECT count(*) FROM jobtrail.keys") == 2


@pytest.mark.parametrize(
    "change",
    [
        "id = gen_random_uuid()", "name = 'other'", "prefix = 'zzzzzzzzzzzz'", "hash = sha256('')",
        "scopes = '{operate}'", "created_by = 'bob'", "created_at = now()",
    ],
)  # fmt: skip
async def test_what_a_key_is_cannot_change(place: Place, change: str) -> None:
    key_id = await written(place)
    with pytest.raises(asyncpg.CheckViolationError, match="a key stays what it is"):
        await place.psql.execute(f"UPDATE jobtrail.keys SET {change}")
    assert [row["id"] for row in await place.rows("SELECT id FROM jobtrail.keys WHERE name = 'shop'")] == [key_id]


@pytest.mark.parametrize("later", ["NULL", "expires_at + interval '1 second'"])
async def test_its_end_comes_no_later_than_was_said(place: Place, later: str) -> None:
    await written(place, expires_at=datetime(2030, 1, 1, tzinfo=UTC))
    with pytest.raises(asyncpg.CheckViolationError, match="ends no later than was said"):
        await place.psql.execute(f"UPDATE jobtrail.keys SET expires_at = {later}")


async def test_it_can_be_used_and_end_earlier_and_be_revoked_but_not_come_back(place: Place) -> None:
    await written(place)
    await place.psql.execute("UPDATE jobtrail.keys SET last_used_at = now(), expires_at = now()")
    await place.psql.execute("UPDATE jobtrail.keys SET revoked_at = now(), revoked_by = 'bob'")
    await place.psql.execute("UPDATE jobtrail.keys SET last_used_at = now(), revoked_by = 'bob'")
    for change in ("revoked_at = NULL, revoked_by = NULL", "revoked_by = 'ann'", "revoked_at = clock_timestamp()"):
        with pytest.raises(asyncpg.CheckViolationError, match="stays revoked"):
            await place.psql.execute(f"UPDATE jobtrail.keys SET {change}")
    assert await place.value("SELECT revoked_by FROM jobtrail.keys") == "bob"


@pytest.mark.parametrize("statement", ["DELETE FROM jobtrail.keys", "TRUNCATE jobtrail.keys"])
async def test_its_row_stays(place: Place, statement: str) -> None:
    await written(place, revoked_at=datetime.now(UTC), revoked_by="ann")
    with pytest.raises(asyncpg.CheckViolationError, match="a key is revoked, and its row stays"):
        await place.psql.execute(statement)
    assert await place.value("SELECT count(*) FROM jobtrail.keys") == 1


async def test_what_is_stored(place: Place) -> None:
    new = make()
    before = await place.value("SELECT clock_timestamp()")
    record = await put(place, new, scopes=["read", "submit"], lives_for=timedelta(days=90))
    (row,) = await place.rows("SELECT * FROM jobtrail.keys")
    assert record is not None
    assert (row["prefix"], row["hash"], row["scopes"]) == (new.prefix, new.hash, ["read", "submit"])
    assert row["id"].version == 7
    assert before <= row["created_at"] <= await place.value("SELECT clock_timestamp()")
    assert row["expires_at"] - row["created_at"] == timedelta(days=90)
    shown = {name: row[name] for name in row if name != "hash"}
    assert {name: getattr(record, name) for name in shown} == shown
    assert record.state == "active"


@pytest.mark.parametrize(
    ("ends", "is_stored"),
    [
        ("now() - interval '1 second'", False),
        ("now()", False),
        ("now() + interval '1 minute'", True),
        ("now() + interval '3649 days 23 hours'", True),
        ("now() + interval '3650 days 1 minute'", False),
        ("'9999-12-31'", False),
        ("'0001-01-01'", False),
    ],
)
async def test_an_end_must_be_to_come(place: Place, ends: str, *, is_stored: bool) -> None:
    expires_at = await place.value(f"SELECT CAST({ends} AS timestamptz)")
    record = await put(place, expires_at=expires_at)
    assert (record is not None) == is_stored
    assert await place.value("SELECT count(*) FROM jobtrail.keys") == int(is_stored)


async def test_the_longest_life_is_within_ten_years(place: Place) -> None:
    record = await put(place, lives_for=timedelta(days=3650))
    assert record is not None


async def test_each_prefix_gets_its_own_answer_in_one_statement(place: Place) -> None:
    names = {f"{letter}bcdefgh2345": letter for letter in "abcde"}
    for prefix, name in names.items():
        await written(place, prefix=prefix, name=name, hash=name.encode() * 32)
    asked = ["ebcdefgh2345", "", "abcdefgh2345", "zzzzzzzzzzzz", "ebcdefgh2345", "x' OR '1'='1", "cbcdefgh2345"]
    answers = await found(place, *asked)
    assert [each and each.name for each in answers] == ["e", None, "a", None, "e", None, "c"]
    assert [each.hash[:1] for each in answers if each] == [b"e", b"a", b"e", b"c"]


async def test_a_look_up_tells_how_long_the_key_still_lives(place: Place) -> None:
    now = await place.value("SELECT clock_timestamp()")
    for letter, ends in (("a", None), ("b", timedelta(hours=1)), ("c", timedelta(hours=-1))):
        await written(place, prefix=f"{letter}bcdefgh2345", expires_at=ends and now + ends)
    await written(place, prefix="dbcdefgh2345", revoked_at=now, revoked_by="ann")
    never, later, over, revoked = (each for each in await found(place, *(f"{x}bcdefgh2345" for x in "abcd")) if each)
    assert (never.lives_for, never.is_revoked, revoked.is_revoked) == (None, False, True)
    assert later.lives_for is not None
    assert over.lives_for is not None
    assert 3500 < later.lives_for <= 3600
    assert -3700 < over.lives_for <= -3600


@pytest.mark.parametrize(
    ("ago", "is_stale"), [(None, True), ("61 seconds", True), ("1 day", True), ("30 seconds", False)]
)
async def test_its_use_is_written_at_most_once_a_minute(place: Place, ago: str | None, *, is_stale: bool) -> None:
    key_id = await written(place)
    if ago:
        await place.psql.execute(f"UPDATE jobtrail.keys SET last_used_at = now() - interval '{ago}'")
    before = await place.value("SELECT last_used_at FROM jobtrail.keys")
    (seen,) = await found(place, PREFIX)
    assert seen is not None
    assert seen.is_stale == is_stale
    await key_rows.say_used(place.database, key_id)
    after = await place.value("SELECT last_used_at FROM jobtrail.keys")
    assert (after != before) == is_stale
    await key_rows.say_used(place.database, key_id)
    assert await place.value("SELECT last_used_at FROM jobtrail.keys") == after


async def test_nobody_waits_for_a_row_that_is_locked(place: Place) -> None:
    key_id = await written(place)
    async with place.psql.transaction():
        await place.psql.execute("SELECT FROM jobtrail.keys FOR UPDATE")
        await key_rows.say_used(place.database, key_id)
        assert (await found(place, PREFIX))[0] is not None
        assert await place.value("SELECT last_used_at FROM jobtrail.keys") is None
    await key_rows.say_used(place.database, key_id)
    assert await place.value("SELECT last_used_at FROM jobtrail.keys") is not None


async def test_it_is_revoked_once(place: Place) -> None:
    key_id = await written(place)
    async with place.database.sessions.begin() as session:
        first = await key_rows.revoke(session, key_id=key_id, actor="ann")
        again = await key_rows.revoke(session, prefix=PREFIX, actor="bob")
        assert await key_rows.revoke(session, key_id=uuid4(), actor="bob") is None
        assert await key_rows.revoke(session, prefix="zzzzzzzzzzzz", actor="bob") is None
        assert await key_rows.revoke(session, actor="bob") is None
    assert first is not None
    assert (first, first.state, first.revoked_by) == (again, "revoked", "ann")


async def test_the_state_is_by_the_databases_clock(place: Place) -> None:
    now = await place.value("SELECT clock_timestamp()")
    hour = timedelta(hours=1)
    await written(place, prefix="abcdefgh2345")
    await written(place, prefix="bbcdefgh2345", expires_at=now + hour)
    await written(place, prefix="cbcdefgh2345", expires_at=now - hour)
    await written(place, prefix="dbcdefgh2345", expires_at=now - hour, revoked_at=now, revoked_by="ann")
    async with place.database.sessions() as session:
        listed = await key_rows.all_keys(session)
    assert [each.state for each in listed] == ["active", "active", "expired", "revoked"]
    assert {each.created_by for each in listed} == {await place.value("SELECT session_user")}
