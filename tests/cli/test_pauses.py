import pytest

from support.command import Command
from support.rows import born
from support.world import Place


async def test_a_queue_is_paused_listed_and_resumed(jobtrail: Command, place: Place) -> None:
    ann = {"USER": "ann", "LOGNAME": "ann"}
    assert (await jobtrail("pause")).out == "nothing is paused\n"
    done = await jobtrail("pause", "--queue", "default", "--reason", "the provider is down", **ann)
    since = await place.value("""SELECT to_char(paused_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
                                   FROM jobtrail.pauses""")
    told = f"queue default is paused since {since} by cli:ann: the provider is down\n"
    assert (done.code, done.out, done.err) == (0, told, "")
    assert (await jobtrail("pause", "--queue", "default")).out == told
    listed = await jobtrail("pause")
    assert listed.out.splitlines()[0].split() == ["KIND", "NAME", "SINCE", "BY", "REASON"]
    assert listed.out.splitlines()[1].split(maxsplit=4) == [
        "queue", "default", since, "cli:ann", "the provider is down"
    ]  # fmt: skip
    first, again = await jobtrail("resume", "--queue", "default"), await jobtrail("resume", "--queue", "default")
    assert (first.code, first.out) == (0, "queue default goes on\n")
    assert (again.code, again.out) == (0, "queue default was not paused\n")


async def test_the_documents_are_those_of_the_api(jobtrail: Command) -> None:
    paused = (await jobtrail("pause", "--task", "noop", "--json")).json
    assert set(paused) == {"kind", "name", "paused_at", "paused_by", "reason"}
    assert (paused["kind"], paused["name"], paused["reason"]) == ("task", "noop", None)
    assert (await jobtrail("pause", "--json")).json == {"items": [paused]}
    for was_paused in (True, False):
        resumed = await jobtrail("resume", "--task", "noop", "--json")
        assert resumed.json == {"kind": "task", "name": "noop", "was_paused": was_paused}


async def test_without_task_modules_it_goes_by_the_database(jobtrail: Command, place: Place) -> None:
    nobody = {"JOBTRAIL_TASKS": ""}
    unknown = await jobtrail("pause", "--task", "noop", **nobody)
    assert (unknown.code, unknown.err) == (2, "jobtrail: no task is named 'noop'\n")
    await born(place)
    done = await jobtrail("pause", "--task", "noop", **nobody)
    assert (done.code, done.out.startswith("task noop is paused since ")) == (0, True)


async def test_a_name_from_psql_is_shown_so_that_a_terminal_does_not_obey_it(jobtrail: Command, place: Place) -> None:
    await place.psql.execute(
        "INSERT INTO jobtrail.pauses (kind, name, reason) VALUES ('queue', $1, $1)", "a\x1b[31m\nb"
    )
    done = await jobtrail("pause", "--queue", "a\x1b[31m\nb")
    assert "\x1b" not in done.out + (await jobtrail("pause")).out
    assert r"queue a\x1b[31m\nb is paused since" in done.out


@pytest.mark.parametrize(
    ("words", "kind", "complaint"),
    [
        (("pause", "--queue", "defualt"), "unknown-queue-error", "no queue is named 'defualt'; did you mean default?"),
        (("resume", "--task", "nop"), "unknown-task-error", "no task is named 'nop'; did you mean noop?"),
        (("resume",), "usage", "name one of them: --queue NAME or --task NAME"),
        (("pause", "--queue", "a", "--task", "b"), "usage", "name one of them: --queue NAME or --task NAME"),
        (("pause", "--reason", "x"), "usage", "name one of them: --queue NAME or --task NAME"),
        (("pause", "--queue", "default", "--reason", "x" * 1001), "usage", "--reason: at most 1000 characters"),
    ],
)
async def test_wrong_words_are_usage_errors(
    jobtrail: Command, place: Place, words: tuple[str, ...], kind: str, complaint: str
) -> None:
    plain, document = await jobtrail(*words), await jobtrail(*words, "--json")
    assert (plain.code, plain.out, plain.err.startswith(f"jobtrail: {complaint}")) == (2, "", True)
    assert (document.code, document.out) == (2, "")
    assert f'"type": "{kind.removesuffix("-error")}"' in document.err
    assert await place.value("SELECT count(*) FROM jobtrail.pauses") == 0
