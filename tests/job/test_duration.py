from datetime import timedelta

import pytest

from jobtrail.job.duration import format_duration, parse_duration

READ = {
    "30": timedelta(seconds=30),
    "0.5": timedelta(milliseconds=500),
    "0": timedelta(0),
    "500ms": timedelta(milliseconds=500),
    "30s": timedelta(seconds=30),
    "5m": timedelta(minutes=5),
    "2h": timedelta(hours=2),
    "7d": timedelta(days=7),
    "1.5h": timedelta(minutes=90),
    " 5m\n": timedelta(minutes=5),
    "0.0000004": timedelta(0),
    "0.000001": timedelta(microseconds=1),
    "36525d": timedelta(days=36525),
}

REFUSED = [
    "", " ", "-5", "-0.1s", "+5", "nan", "NaN", "inf", "Infinity", "1e3", "5 parsecs", "5 m", "7D", "1h30m", ".5", "5.",
    "1_000", "٣", "0x10", "5s5", "ms",
]  # fmt: skip

WRITTEN = {
    timedelta(0): "0s",
    timedelta(days=7): "7d",
    timedelta(hours=24): "1d",
    timedelta(hours=36): "36h",
    timedelta(minutes=90): "90m",
    timedelta(seconds=100): "100s",
    timedelta(seconds=1.5): "1.5s",
    timedelta(milliseconds=500): "500ms",
    timedelta(microseconds=1): "0.000001s",
    timedelta(days=1, microseconds=1): "86400.000001s",
}


@pytest.mark.parametrize(("text", "duration"), READ.items())
def test_a_number_is_seconds_unless_it_has_a_unit(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_duration_is_refused_with_the_forms_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration: write seconds or 500ms, 30s, 5m, 2h, 7d"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36526d", "9" * 20, "36525.00001d"])
def test_more_than_a_hundred_years_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="longer than 100 years"):
        parse_duration(text)


def test_a_long_text_is_refused_at_once_and_shown_short() -> None:
    with pytest.raises(ValueError, match="is not a duration") as refused:
        parse_duration("9" * 1_000_000)
    assert len(str(refused.value)) < 150


@pytest.mark.parametrize(("duration", "text"), WRITTEN.items())
def test_a_duration_is_written_in_the_largest_unit_that_is_exact(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@pytest.mark.parametrize("duration", [*READ.values(), *WRITTEN])
def test_what_was_written_reads_back_exactly(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration
