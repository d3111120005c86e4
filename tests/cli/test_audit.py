import json

from jobtrail.ops.audit import questions
from jobtrail.status import Status
from support.command import Command
from support.rows import in_status
from support.world import Place


async def test_without_a_name_the_questions_are_listed(bare: Command) -> None:
    words, document = await bare("audit"), await bare("audit", "--json")
    assert (words.code, document.code) == (0, 0)
    assert [line.split()[0] for line in words.out.splitlines()] == ["NAME", *questions()]
    assert [each["name"] for each in document.json["items"]] == list(questions())
    (failures,) = [line for line in words.out.splitlines() if line.startswith("failures_by_task")]
    assert failures.endswith("since=24 hours task= limit=100")


async def test_an_answer_for_people_and_for_programs(jobtrail: Command, place: Place) -> None:
    job_id = await in_status(place, Status.FAILED)
    words = await jobtrail("audit", "history_of_job", f"id={job_id}")
    document = await jobtrail("audit", "history_of_job", f"id={job_id}", "limit=2", "--json")
    header, *lines = words.out.splitlines()
    assert (words.code, words.err, len(lines)) == (0, "", 3)
    assert [name.lower() for name in header.split()] == document.json["columns"]
    assert [each["to_status"] for each in document.json["items"]] == ["pending", "running"]


async def test_what_cannot_be_asked_is_a_usage_error(jobtrail: Command) -> None:
    unknown, parameter = await jobtrail("audit", "nope"), await jobtrail("audit", "purged", "since=soon")
    name, pair = await jobtrail("audit", "purged", "until=1 h", "--json"), await jobtrail("audit", "purged", "since")
    assert [each.code for each in (unknown, parameter, name, pair)] == [2, 2, 2, 2]
    assert unknown.err.startswith("jobtrail: no audit question is named 'nope'; there are: by_trace, ")
    assert parameter.err.startswith("jobtrail: since: 'soon' is not an interval, such as '90 minutes' or '7 days'")
    (flaw,) = json.loads(name.err)["error"]["errors"]
    assert flaw["pointer"] == "/until"
    assert pair.err.startswith("jobtrail: 'since' is not KEY=VALUE")
