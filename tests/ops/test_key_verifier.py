"""Whose key it is; and that a wrong one learns nothing from the refusal, nor anybody from what is left behind."""

import asyncio
import hmac
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from jobtrail.callers import SCOPES, Caller, Scope
from jobtrail.db.engine import open_database
from jobtrail.errors import AccessKeyNotFoundError, UnavailableError
from jobtrail.jobs.services import Services
from jobtrail.ops import key_verifier as module
from jobtrail.ops.key_verifier import KeyVerifier
from jobtrail.ops.keys import KeyRecord, create_key, list_keys, make, revoke_key
from support.statements import statements
from support.world import Place


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(services: Services, clock: Clock) -> KeyVerifier:
    return KeyVerifier(services, clock=clock)


async def made(services: Services, *scopes: Scope, name: str = "shop") -> tuple[KeyRecord, str]:
    return await create_key(services, name, scopes or ["read"], by="ann")


async def ended(place: Place, record: KeyRecord) -> None:
    await place.psql.execute("UPDATE jobtrail.keys SET expires_at = now() WHERE id = $1", record.id)


async def test_an_answer_that_is_there_and_not_heard_yet_is_not_awaited_for_ever(keys: KeyVerifier) -> None:
    """A request that comes just then."""
    found = await keys._ask()
    keys._asked_at = float("-inf")
    keys._asking = asyncio.get_running_loop().create_future()
    keys._asking.set_result(found)
    assert await keys.needed() is False


@pytest.mark.parametrize("scopes", [("submit",), ("read", "operate"), SCOPES])
async def test_a_right_key_is_its_caller(services: Services, keys: KeyVerifier, scopes: tuple[Scope, ...]) -> None:
    (_, text), (_, same) = await made(services, *scopes), await made(services, *scopes)
    await made(services, "read", name="other")
    assert await keys.identify(text) == await keys.identify(same) == Caller("key:shop", frozenset(scopes))


# what is sent, made of a right key and of one that ended
WRONG = {
    "empty": lambda _right, _over: "",
    "half": lambda right, _: right[:40],
    "one more": lambda right, _: right + "A",
    "long": lambda right, _: right * 1000,
    "no text of ours": lambda _right, _over: "\ud800\0é" * 30,
    "another secret": lambda right, _: right[:16] + make().text[16:],
    "another end": lambda right, _: right[:-1] + ("A" if right[-1] != "A" else "B"),
    "another beginning": lambda right, _: make().text[:16] + right[16:],
    "nobody's": lambda _right, _over: make().text,
    "ended": lambda _, over: over,
    "of one that ended": lambda right, over: over[:16] + right[16:],
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_wrong_key_is_nobodys_and_the_work_is_always_the_same(
    place: Place, services: Services, keys: KeyVerifier, monkeypatch: pytest.MonkeyPatch, what: str, how: str
) -> None:
    _, right = await made(services)
    record, over = await made(services, *SCOPES)
    await (ended(place, record) if how == "expired" else revoke_key(services, record.id, by="ann"))
    compared: list[tuple[bytes, ...]] = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *pair: compared.append(pair) or real(*pair))
    with statements(place) as said:
        for _ in range(2):  # a refusal is not remembered
            assert await keys.identify(WRONG[what](right, over)) is None
    assert [len(each) for pair in compared for each in pair] == [32] * 4
    assert len(said) == 2
    assert len(set(said)) == 1
    assert await place.value("SELECT count(last_used_at) FROM jobtrail.keys") == 0
    assert await keys.identify(right) == Caller("key:shop", frozenset({"read"}))


async def test_a_right_key_is_remembered_for_a_second(
    place: Place, services: Services, keys: KeyVerifier, clock: Clock
) -> None:
    record, text = await made(services)
    caller = await keys.identify(text)
    await revoke_key(services, record.id, by="ann")
    clock.now += 0.75
    with statements(place) as said:
        assert await keys.identify(None) is None
        assert await keys.identify(text) == caller
        assert await keys.identify(text[:-1] + "-") is None
        assert await keys.identify(text.upper()) is None
    assert len(said) == 2
    clock.now += 0.25
    assert await keys.identify(text) is None


async def test_no_key_is_remembered_beyond_its_end(
    place: Place, services: Services, keys: KeyVerifier, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED_FOR", 3600.0)
    record, text = await create_key(services, "shop", ["read"], by="ann", lives_for=timedelta(seconds=30))
    caller = await keys.identify(text)
    assert caller is not None
    assert caller.lives_for is not None
    assert 0 < caller.lives_for <= 30
    await ended(place, record)
    assert await keys.identify(text) is not None
    clock.now += 30
    assert await keys.identify(text) is None


async def test_not_more_is_remembered_than_there_is_room(
    services: Services, keys: KeyVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_REMEMBERED", 3)
    texts = [(await made(services))[1] for _ in range(7)]
    for text in (*texts, *texts):
        assert await keys.identify(text) is not None
        assert len(keys._verified) <= 3


async def test_many_at_the_same_moment_are_few_statements(place: Place, services: Services, keys: KeyVerifier) -> None:
    named = {(await made(services, name=name))[1]: f"key:{name}" for name in ("a", "b", "c")}
    asked = [[*named, make().text, ""][number % 5] for number in range(150)]
    with statements(place) as said:
        found = await asyncio.gather(*(keys.identify(each) for each in asked))
    assert [caller and caller.name for caller in found] == [named.get(each) for each in asked]
    lookups = [statement for statement in said if "unnest" in statement]
    assert len(lookups) <= 2


async def test_its_use_is_told_to_the_minute(place: Place, services: Services, keys: KeyVerifier, clock: Clock) -> None:
    _, text = await made(services)

    async def used_at(ago: int | None = None) -> Any:
        """After another use, when the last one was so many seconds ago."""
        if ago is not None:
            await place.psql.execute("UPDATE jobtrail.keys SET last_used_at = now() - $1 * interval '1 s'", ago)
        clock.now += 5
        assert await keys.identify(text) is not None
        return (await list_keys(services))[0].last_used_at

    begin = await place.value("SELECT clock_timestamp()")
    first = await used_at()
    assert first >= begin
    assert await used_at() == first
    assert await used_at(30) < begin
    assert await used_at(61) >= first
    async with place.psql.transaction():  # nobody waits for a locked row
        await place.psql.execute("UPDATE jobtrail.keys SET last_used_at = NULL")
        assert await used_at() is not None
    assert await place.value("SELECT last_used_at FROM jobtrail.keys") is None
    assert await used_at() is not None


async def test_the_first_key_is_noticed_at_once_where_it_was_made(services: Services, keys: KeyVerifier) -> None:
    assert await keys.needed() is False
    asked = asyncio.create_task(keys.needed())
    await made(services)
    assert await keys.needed() is True
    await asked
    assert await keys.needed() is True


async def test_the_first_key_of_another_process_is_noticed_within_a_second_and_for_ever(
    place: Place, services: Services, keys: KeyVerifier, clock: Clock
) -> None:
    another = Services(place.database, services.catalog)
    with statements(place) as said:
        assert [await keys.needed() for _ in range(5)] == [False] * 5
    assert len(said) == 1
    record, _ = await made(another)
    clock.now += 0.75
    assert await keys.needed() is False
    clock.now += 0.25
    assert await keys.needed() is True
    await revoke_key(services, record.id, by="ann")
    with statements(place) as said:
        clock.now += 1000
        assert await keys.needed() is True
    assert said == []


async def test_when_nobody_can_be_asked_nobody_is_let_in(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    nowhere = open_database("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    lost = KeyVerifier(Services(nowhere, services.catalog))
    for asked in (lost.identify(make().text), lost.identify("half"), lost.needed()):
        with pytest.raises(UnavailableError):
            await asked
    await nowhere.dispose()


async def test_the_log_says_why_and_is_not_filled(
    place: Place, services: Services, keys: KeyVerifier, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    (over, ended_text), (gone, revoked_text) = await made(services), await made(services)
    await ended(place, over)
    await revoke_key(services, gone.id, by="ann")
    forged = make()
    sent = {
        ("expired", over.prefix): ended_text, ("revoked", gone.prefix): revoked_text,
        ("unknown", forged.prefix): forged.text, ("malformed", None): ended_text[:-1],
    }  # fmt: skip
    caplog.clear()
    with caplog.at_level(logging.INFO, module.__name__):
        for _ in range(3):
            for text in sent.values():
                await keys.identify(text)
        assert [(each.__dict__["why"], each.__dict__["prefix"]) for each in caplog.records] == list(sent)
        clock.now += 10
        for _ in range(3):
            await keys.identify(forged.text)
    assert len(caplog.records) == 5


async def test_the_secret_is_found_nowhere(
    place: Place, services: Services, keys: KeyVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in what goes to the database, nor in any table, nor in any line of any log, nor in what an error says."""
    with caplog.at_level(logging.DEBUG), statements(place, with_values=True) as said:
        record, text = await made(services)
        for sent in (text, text[:-1], text[:16] + make().text[16:], f"{text} "):
            await keys.identify(sent)
        await revoke_key(services, text, by="ann")
        await keys.identify(text)
        with pytest.raises(AccessKeyNotFoundError) as error:
            await revoke_key(services, text.replace(record.prefix, "zzzzzzzzzzzz"), by="ann")
        listed = await list_keys(services)
    tables = [
        row["tablename"] for row in await place.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'jobtrail'")
    ]
    rows = [str(row) for name in tables for row in await place.rows(f"SELECT t::text FROM jobtrail.{name} t")]
    logged = [str(each.__dict__) for each in caplog.records]
    assert "keys" in tables
    assert any(record.prefix in row for row in rows)
    assert any(record.prefix in line for line in logged)
    assert said
    for found in (*rows, *logged, str(said), str(error.value), repr(listed)):
        for part in (text[16:], text[16:30], text[-14:]):
            assert part not in found
            assert part.encode().hex() not in found
