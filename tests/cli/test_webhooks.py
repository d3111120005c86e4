"""`jobtrail webhooks`, on a database without a node."""

from jobtrail.outbound import key_of, new_secret
from support.command import Command
from support.world import Place

ANN = {"USER": "ann", "LOGNAME": "ann"}


async def test_a_webhook_is_made_listed_rotated_and_deleted(jobtrail: Command, place: Place) -> None:
    assert (await jobtrail("webhooks", "list")).out == "there are no webhooks\n"
    url = "https://example.com/hooks"
    made = await jobtrail("webhooks", "put", "ops", url, "--task", "noop", "--status", "failed", **ANN)
    assert (made.code, len(key_of(made.out.strip()))) == (0, 32)
    assert made.err == "The secret that signs what ops gets. It is not shown again.\n"
    heads, row = (await jobtrail("webhooks", "list")).out.splitlines()
    assert heads.split() == ["NAME", "URL", "TASKS", "STATUSES", "CHANGED", "BY", "ROTATED"]
    assert row.split()[:4] == ["ops", url, "noop", "failed"]
    assert "cli:ann" in row
    again = await jobtrail("webhooks", "put", "ops", url, "--json")
    assert (again.json["secret"], again.json["statuses"]) == (None, ["succeeded", "failed", "cancelled"])
    assert (await jobtrail("webhooks", "put", "ops", url)).out == "webhook ops is replaced; its secret is as it was\n"
    rotated, own = await jobtrail("webhooks", "rotate", "ops"), new_secret()
    given = await jobtrail("webhooks", "rotate", "ops", "--secret", own, "--json")
    assert given.json["secret"] == own
    assert await place.value("SELECT secrets FROM jobtrail.webhooks") == [own, rotated.out.strip()]
    assert (await jobtrail("webhooks", "delete", "ops")).out == "webhook ops is deleted\n"
    for verb in ("delete", "rotate"):
        gone = await jobtrail("webhooks", verb, "ops")
        assert (gone.code, gone.err) == (
            1, "jobtrail: no webhook is named 'ops'; `jobtrail webhooks list` shows them\n",
        )  # fmt: skip


async def test_what_is_refused_is_named_as_it_is_written(jobtrail: Command) -> None:
    for arguments, said in (
        (["put", "ops", "http://example.com"], "URL: write https://"),
        (["put", "a b", "https://example.com"], "NAME: write letters"),
        (["put", "ops", "https://example.com", "--status", "gone"], "--status: name one or more of"),
        (["rotate", "ops", "--secret", "short"], "--secret: a secret is whsec_"),
    ):
        done = await jobtrail("webhooks", *arguments)
        assert (done.code, said in done.err, "short" in done.err) == (2, True, False), done.err


async def test_a_callback_from_the_command_line(jobtrail: Command) -> None:
    refused = await jobtrail("submit", "noop", "--callback-url", "https://example.com/")
    assert (refused.code, "set JOBTRAIL_WEBHOOK_SECRET" in refused.err) == (2, True)
    done = await jobtrail(
        "submit", "noop", "--callback-url", "https://example.com/", "--json", JOBTRAIL_WEBHOOK_SECRET=new_secret()
    )
    assert done.json["callback_url"] == "https://example.com/"
