"""Pauses, access keys, and a service that needs them; audit questions."""

import asyncio
import re
from pathlib import Path

from jobtrail.ops.audit import questions
from jobtrail.ops.batches import submit_batch
from jobtrail.ops.keys import digest, make
from jobtrail.status import Status
from jobtrail.task.submission import Submission
from support.command import Command, ended
from support.rows import in_status
from support.served import CHECKOUT, Served
from support.until import until
from support.world import Place, services_at

ANN = {"USER": "ann", "LOGNAME": "ann"}


async def test_a_queue_is_paused_listed_and_resumed(jobtrail: Command, place: Place) -> None:
    assert (await jobtrail("pause")).out == "nothing is paused\n"
    done = await jobtrail("pause", "--queue", "default", "--reason", "the provider is down", **ANN)
    since = await place.value("""SELECT to_char(paused_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
                                   FROM jobtrail.pauses""")
    told = f"queue default is paused since {since} by cli:ann: the provider is down\n"
    assert (done.code, done.out, done.err) == (0, told, "")
    assert (await jobtrail("pause", "--queue", "default")).out == told
    heads, row = (await jobtrail("pause")).out.splitlines()
    assert heads.split() == ["KIND", "NAME", "SINCE", "BY", "REASON"]
    assert row.split(maxsplit=4) == ["queue", "default", since, "cli:ann", "the provider is down"]
    first, again = await jobtrail("resume", "--queue", "default"), await jobtrail("resume", "--queue", "default")
    assert (first.code, first.out) == (0, "queue default goes on\n")
    assert (again.code, again.out) == (0, "queue default was not paused\n")


async def test_the_documents_of_a_pause_are_those_of_the_api(jobtrail: Command) -> None:
    paused = (await jobtrail("pause", "--task", "noop", "--json")).json
    assert set(paused) == {"kind", "name", "paused_at", "paused_by", "reason"}
    assert (paused["kind"], paused["name"], paused["reason"]) == ("task", "noop", None)
    assert (await jobtrail("pause", "--json")).json == {"items": [paused]}
    for was_paused in (True, False):
        resumed = await jobtrail("resume", "--task", "noop", "--json")
        assert resumed.json == {"kind": "task", "name": "noop", "was_paused": was_paused}


async def test_a_name_from_psql_is_shown_so_that_a_terminal_does_not_obey_it(jobtrail: Command, place: Place) -> None:
    name = "a\x1b[31m\nb"
    await place.psql.execute("INSERT INTO jobtrail.pauses (kind, name, reason) VALUES ('queue', $1, $1)", name)
    done = await jobtrail("pause", "--queue", name)
    assert "\x1b" not in done.out + (await jobtrail("pause")).out
    assert r"queue a\x1b[31m\nb is paused since" in done.out


async def test_a_limit_is_overridden_listed_and_reset(jobtrail: Command, place: Place) -> None:
    assert (await jobtrail("limits")).out == "no unfinished job has a limit\n"
    done = await jobtrail("limits", "tenant:a b", "--set", "2.5", **ANN)
    assert (done.code, done.out, done.err) == (0, "limit tenant:a b is 2.5 now\n", "")
    found = (await jobtrail("limits", "tenant:a b", "--json")).json
    assert (await jobtrail("limits", "--json")).json == found
    (record,) = found["items"]
    assert (record["key"], record["number"], record["override"], record["changed_by"]) == (
        "tenant:a b", None, 2.5, "cli:ann"
    )  # fmt: skip
    assert (await jobtrail("limits", "tenant:a b", "--reset")).out == "limit tenant:a b has its own number again\n"
    again = await jobtrail("limits", "tenant:a b", "--reset", "--json")
    assert again.json == {"key": "tenant:a b", "was_overridden": False}
    assert await place.value("SELECT count(*) FROM jobtrail.limits WHERE override IS NOT NULL") == 0


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


async def test_the_documents_of_a_key_are_those_of_the_api(jobtrail: Command) -> None:
    made = (await jobtrail("keys", "create", "shop", "--scope", "read", "--json")).json
    assert made.pop("key").startswith(f"jt_{made['prefix']}_")
    assert set(made) == {
        "id", "name", "prefix", "scopes", "state", "created_at", "created_by", "expires_at", "revoked_at", "revoked_by",
        "last_used_at",
    }  # fmt: skip
    assert (await jobtrail("keys", "list", "--json")).json == {"items": [made]}
    revoked = (await jobtrail("keys", "revoke", made["id"], "--json")).json
    assert (revoked["state"], revoked["id"]) == ("revoked", made["id"])


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


async def test_an_address_is_loopback_by_where_it_leads(folder: Path, place: Place) -> None:
    async with Served.start(folder, place.url.libpq, **CHECKOUT, JOBTRAIL_HOST="127.1") as service:
        assert await _status(service) == 200


async def test_audit_lists_its_questions_and_answers_one(jobtrail: Command, place: Place) -> None:
    words, document = await jobtrail("audit"), await jobtrail("audit", "--json")
    assert [line.split()[0] for line in words.out.splitlines()] == ["NAME", *questions()]
    assert [each["name"] for each in document.json["items"]] == list(questions())
    (failures,) = [line for line in words.out.splitlines() if line.startswith("failures_by_task")]
    assert failures.endswith("since=24 hours task= limit=100")
    job_id = await in_status(place, Status.FAILED)
    words = await jobtrail("audit", "history_of_job", f"id={job_id}")
    document = await jobtrail("audit", "history_of_job", f"id={job_id}", "limit=2", "--json")
    header, *lines = words.out.splitlines()
    assert (words.code, words.err, len(lines)) == (0, "", 3)
    assert [name.lower() for name in header.split()] == document.json["columns"]
    assert [each["to_status"] for each in document.json["items"]] == ["pending", "running"]


async def _status(service: Served, headers: dict[str, str] | None = None) -> int:
    return (await service.client.get("/v1/jobs", headers=headers)).status_code


async def _is(status: int, service: Served, headers: dict[str, str]) -> bool:
    return await _status(service, headers) == status


async def test_a_batch_is_shown_cancelled_and_retried(jobtrail: Command, place: Place) -> None:
    wanted = [Submission(task="noop")] * 2
    batch, _ = await submit_batch(services_at(place), wanted, by="ann")
    shown = (await jobtrail("batches", "show", str(batch.id), "--json")).json
    assert (shown["id"], shown["pending"], shown["progress"]) == (str(batch.id), 2, 0.0)
    done = await jobtrail("batches", "cancel", str(batch.id), "--reason", "no need")
    assert (done.code, done.out) == (0, "2 of 2 jobs cancelled, or asked to stop where they run\n")
    assert (await jobtrail("batches", "retry", str(batch.id), "--json")).json["changed"] == 2
    text = (await jobtrail("batches", "show", str(batch.id))).out
    assert "pending:" in text
    unknown = await jobtrail("batches", "show", "00000000-0000-4000-8000-000000000000")
    assert (unknown.code, "no batch has the id" in unknown.err) == (1, True)
