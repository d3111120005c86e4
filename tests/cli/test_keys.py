"""Access keys from the command line, and a service that needs them."""

import asyncio
import re
from pathlib import Path

import pytest

from jobtrail.ops.keys import digest, make
from support.command import Command, ended
from support.served import CHECKOUT, Served
from support.until import until
from support.world import Place

ANN = {"USER": "ann", "LOGNAME": "ann"}
HOW_TO_SCOPE = "--scope: write what the key may do: read, submit, operate, or several of them"


async def test_only_the_key_is_on_standard_output(jobtrail: Command, place: Place) -> None:
    first = await jobtrail("keys", "create", "shop", "--scope", "submit", "--scope", "read", "--expires", "90d", **ANN)
    again = await jobtrail("keys", "create", "shop", "--scope", "read")
    (row, _) = await place.rows("""SELECT prefix, hash, scopes, created_by, expires_at - created_at AS lives_for,
        to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS ends FROM jobtrail.keys
        ORDER BY created_at""")
    assert re.fullmatch(r"jt_[a-z2-7]{12}_[A-Za-z0-9_-]{43}\n", first.out)
    assert (first.code, row["hash"], row["scopes"]) == (0, digest(first.out.strip()), ["read", "submit"])
    assert (row["created_by"], row["lives_for"].days) == ("cli:ann", 90)
    assert first.err == (
        f"The key of key:shop, which may read, submit until {row['ends']}. It is not shown again.\n"
        f"Send it as `Authorization: Bearer KEY`; `jobtrail keys revoke {row['prefix']}` ends it.\n"
        "It is the first one: from now on the service asks every caller for a key.\n"
    )
    assert again.err.startswith("The key of key:shop, which may read until it is revoked. It is not shown again.\n")
    assert "the first one" not in again.err
    assert first.out.strip()[16:] not in first.err


async def test_keys_are_listed_and_revoked(jobtrail: Command) -> None:
    assert (await jobtrail("keys", "list")).out == "there are no access keys\n"
    text = (await jobtrail("keys", "create", "shop", "--scope", "read", "--scope", "operate", **ANN)).out.strip()
    prefix = text[3:15]
    listed = (await jobtrail("keys", "list")).out.splitlines()
    assert re.split(" {2,}", listed[0]) == [
        "PREFIX", "NAME", "SCOPES", "STATE", "CREATED", "CREATED BY", "EXPIRES", "USED", "REVOKED", "REVOKED BY"
    ]  # fmt: skip
    assert listed[1].split()[:5] == [prefix, "shop", "read", "operate", "active"]
    done, again = await jobtrail("keys", "revoke", prefix, **ANN), await jobtrail("keys", "revoke", text)
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(rf"access key {prefix} of shop is revoked since \S+Z by cli:ann\n", done.out)
    assert again == done
    narrow = await jobtrail.in_terminal(60, "keys", "list")
    assert re.search(r"created by: +cli:ann\n", narrow)
    assert re.search(r"revoked by: +cli:ann\n", narrow)
    assert text[16:] not in done.out + narrow + (await jobtrail("keys", "list")).out


async def test_the_documents_are_those_of_the_api(jobtrail: Command) -> None:
    made = (await jobtrail("keys", "create", "shop", "--scope", "read", "--json")).json
    text = made.pop("key")
    assert text.startswith(f"jt_{made['prefix']}_")
    assert set(made) == {
        "id", "name", "prefix", "scopes", "state", "created_at", "created_by", "expires_at", "revoked_at", "revoked_by",
        "last_used_at",
    }  # fmt: skip
    assert (await jobtrail("keys", "list", "--json")).json == {"items": [made]}
    revoked = (await jobtrail("keys", "revoke", made["id"], "--json")).json
    assert (revoked["state"], revoked["id"]) == ("revoked", made["id"])


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["create", "shop"], 2, HOW_TO_SCOPE),
        (["create", "shop", "--scope", "all"], 2, HOW_TO_SCOPE),
        (["create", "shop", "--scope", "read", "--scope", ""], 2, HOW_TO_SCOPE),
        (["create", "a b", "--scope", "read"], 2, "NAME: write 1 to 100 letters, digits and _ . : @ -"),
        (["create", "shop", "--scope", "read", "--expires", "soon"], 2, "--expires: 'soon' is not a duration"),
        (["create", "shop", "--scope", "read", "--expires", "0"], 2, "--expires: a key lives for 1 second"),
        (["create", "--scope", "read"], 2, "Missing argument 'NAME'"),
        ([], 2, "Missing command (see `jobtrail keys --help`)"),
        (["make"], 2, "No such command 'make'"),
        (["revoke"], 2, "Missing argument 'ID_OR_PREFIX'"),
        (["revoke", "jt_zzzzzzzzzzzz_" + "S" * 43], 1, "no access key has the id or prefix 'zzzzzzzzzzzz'; `jobtrail"),
    ],
)
async def test_wrong_words(jobtrail: Command, place: Place, words: list[str], code: int, complaint: str) -> None:
    done = await jobtrail("keys", *words)
    assert (done.code, done.out, done.err.startswith(f"jobtrail: {complaint}")) == (code, "", True), done.err
    assert (done.err.count("\n"), "SSS" in done.err) == (1, False)
    assert await place.value("SELECT count(*) FROM jobtrail.keys") == 0


async def test_what_is_wrong_is_told_before_anybody_is_asked(bare: Command) -> None:
    done = await bare("keys", "create", "shop", JOBTRAIL_DATABASE_URL="postgresql://ann@127.0.0.1:1/app")
    assert (done.code, done.err.startswith(f"jobtrail: {HOW_TO_SCOPE}")) == (2, True)


async def test_help(bare: Command) -> None:
    verbs, create = await bare("keys", "--help"), await bare("keys", "create", "--help")
    assert (verbs.code, create.code) == (0, 0)
    assert all(f" {name} " in verbs.out for name in ("create", "list", "revoke"))
    assert "--scope" in create.out
    assert "--expires" in create.out


async def test_an_address_that_others_reach_is_refused_without_keys(jobtrail: Command) -> None:
    process = await jobtrail.start("serve", JOBTRAIL_HOST="0.0.0.0", JOBTRAIL_PORT="0")  # noqa: S104 - it is refused
    try:
        done = await asyncio.wait_for(ended(process), 60)
    finally:
        if process.returncode is None:
            process.kill()
    told = (
        "JOBTRAIL_HOST: '0.0.0.0' can be reached by others and there are no access keys: make one with "
        "`jobtrail keys create NAME --scope read --scope submit --scope operate`, or set JOBTRAIL_HOST=127.0.0.1"
    )
    assert (done.code, done.out, done.err) == (2, "", f"jobtrail: {told}\n")


async def test_with_keys_it_opens_to_those_and_with_revoked_ones_to_nobody(
    jobtrail: Command, folder: Path, place: Place
) -> None:
    text = (await jobtrail("keys", "create", "ops", "--scope", "operate")).out.strip()
    held = {"Authorization": f"Bearer {text}"}
    everywhere = {**CHECKOUT, "JOBTRAIL_HOST": "0.0.0.0"}  # noqa: S104 - for a moment, and it asks for keys
    async with Served.start(folder, place.url.libpq, **everywhere) as service:
        assert await _status(service) == 401
        assert await _status(service, {"Authorization": f"Bearer {make().text}"}) == 401
        assert await _status(service, held) == 200
        assert (await service.client.get("/health/ready")).status_code == 200
        await jobtrail("keys", "revoke", text)
        await until(lambda: _is(401, service, held))
        assert await _status(service) == 401
    async with Served.start(folder, place.url.libpq, **everywhere) as service:
        await place.empty()  # a superuser could, and others than this machine are still asked
        assert [await _status(service, headers) for headers in ({}, held)] == [401, 401]


async def test_on_loopback_the_first_key_closes_the_door(folder: Path, place: Place) -> None:
    # not written as an address that anybody would know: what counts is where it leads
    async with Served.start(folder, place.url.libpq, **CHECKOUT, JOBTRAIL_HOST="127.1") as service:
        assert await _status(service) == 200
        made = await service.client.post("/v1/keys", json={"name": "ops", "scopes": ["operate"]})
        await until(lambda: _is(401, service, {}))
        assert await _status(service, {"Authorization": f"Bearer {made.json()['key']}"}) == 200
    log = (folder / "serve.log").read_text()
    assert "access key made" in log
    assert made.json()["key"][16:] not in log


async def _status(service: Served, headers: dict[str, str] | None = None) -> int:
    return (await service.client.get("/v1/jobs", headers=headers)).status_code


async def _is(status: int, service: Served, headers: dict[str, str]) -> bool:
    return await _status(service, headers) == status
