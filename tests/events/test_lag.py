"""How far behind is what follows the feed: as stats and the audit tell it, and as plain SQL does."""

from datetime import UTC, datetime, timedelta

from jobtrail.events import feed
from jobtrail.jobs.services import AlarmLimits
from jobtrail.ops.audit import ask, question
from jobtrail.ops.stats import read_stats
from support.rows import born, passed
from support.world import Place

# Not the oldest of what is ahead, as the product asks, but the age of each.
AHEAD = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - m.at)), 0)::float8
  FROM jobtrail.feed_marks m JOIN jobtrail.feed_cursors c ON m.no > c.no WHERE c.name = $1
"""


async def test_how_far_behind_is_what_plain_sql_says(place: Place) -> None:
    await passed(place)
    for minutes in (30, 20, 10):
        await born(place)
        made = await feed.mark(place.database)
        ago = "UPDATE jobtrail.feed_marks SET at = at - $1::interval WHERE no = $2"
        await place.psql.execute(ago, timedelta(minutes=minutes), made.no)
    for behind, expected in ((3, 1800), (2, 1200), (1, 600), (0, 0)):
        for name, field in (("minutes", "numbers_lag"), ("webhooks", "webhooks_lag")):
            await place.psql.execute("UPDATE jobtrail.feed_cursors SET no = $1", made.no)
            await place.psql.execute("UPDATE jobtrail.feed_cursors SET no = no - $1 WHERE name = $2", behind, name)
            before = await place.value(AHEAD, name)
            found = await read_stats(place.database, datetime.now(UTC), AlarmLimits())
            lags = {"numbers_lag": found.numbers_lag, "webhooks_lag": found.webhooks_lag}
            assert before <= lags.pop(field) <= await place.value(AHEAD, name)
            assert list(lags.values()) == [0]
            assert expected <= before < expected + 300
            async with place.database.sessions() as session:
                answer = await ask(session, question("feed_lag"), {})
            rows = [
                (each["name"], each["newest"] - each["passed"], each["seconds"] >= before) for each in answer.items()
            ]
            assert rows == [(name, behind, True)] * bool(behind)
