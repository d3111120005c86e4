from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobtrail.durations import format_duration, parse_duration

WRITTEN = {
    "0s": timedelta(0),
    "7d": timedelta(days=7),
    "36h": timedelta(hours=36),
    "90m": timedelta(minutes=90),
    "100s": timedelta(seconds=100),
    "1.5s": timedelta(seconds=1.5),
    "500ms": timedelta(milliseconds=500),
    "0.000001s": timedelta(microseconds=1),
    "36525d": timedelta(days=36525),
}
READ = {
    "30": timedelta(seconds=30),
    "0.5": timedelta(milliseconds=500),
    "24h": timedelta(days=1),
    "1.5h": timedelta(minutes=90),
    " 5m\n": timedelta(minutes=5),
    "0.0000004": timedelta(0),
}
REFUSED = [
    "", " ", "-5", "-0.1s", "+5", "nan", "inf", "1e3", "5 parsecs", "5 m", "7D", "1h30m", ".5", "5.", "1_000", "٣",
    "0x10", "5s5", "ms", "9" * 1_000_000,
]  # fmt: skip


@pytest.mark.parametrize(("text", "duration"), [*READ.items(), *WRITTEN.items()])
def test_a_number_is_seconds_unless_it_has_a_unit(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:10])
def test_what_is_no_duration_is_refused_with_the_forms_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration: write seconds or 500ms, 30s, 5m, 2h, 7d") as refused:
        parse_duration(text)
    assert len(str(refused.value)) < 150


@pytest.mark.parametrize("text", ["36526d", "9" * 20, "36525.00001d"])
def test_more_than_a_hundred_years_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than 100 years"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "duration"), WRITTEN.items())
def test_a_duration_is_written_in_the_largest_unit_that_is_exact(text: str, duration: timedelta) -> None:
    assert format_duration(duration) == text


@given(st.timedeltas(timedelta(0), timedelta(days=36525)))
@settings(deadline=None)
def test_what_was_written_reads_back_exactly(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration
