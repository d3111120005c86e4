"""The small readings: entity tags, cursors, keys, and the two ways to an endpoint."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from starlette.requests import Request

from jobtrail.api.headers import etag_of, idempotency_key_of, matches_if_match, matches_if_none_match
from jobtrail.api.query import read_cursor, write_cursor
from jobtrail.errors import InvalidInputError
from jobtrail.ids import new_job_id
from jobtrail.jobs.query import Cursor


def request_with(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw})


@pytest.mark.parametrize(
    ("said", "strong", "weak"),
    [
        ('"a"', True, True),
        ('W/"a"', False, True),
        ("*", True, True),
        (" * ", True, True),
        ('"b"', False, False),
        ('"b","a"', True, True),
        ('"b" , W/"a"', False, True),
        (',, "a" ,', True, True),
        ('"b,"a"', False, False),
        ("a", False, False),
        ("", False, False),
        ('"a" "b"', False, False),
        ('w/"a"', False, False),
        ('"A"', False, False),
        ('"a', False, False),
        ('*, "a"', False, False),
    ],
)
def test_entity_tags(said: str, strong: bool, weak: bool) -> None:
    assert matches_if_match(request_with(if_match=said), '"a"') is strong
    assert matches_if_none_match(request_with(if_none_match=said), '"a"') is weak


def test_without_a_condition_a_change_goes_ahead_and_an_answer_is_sent() -> None:
    assert matches_if_match(request_with(), '"a"')
    assert not matches_if_none_match(request_with(), '"a"')


def test_a_tag_changes_with_any_byte() -> None:
    assert len({etag_of(each) for each in (b"", b"a", b"b", b"a ")}) == 4


@pytest.mark.parametrize(
    "at", [datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), datetime(1, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
)
def test_a_cursor_gives_back_its_place(at: datetime) -> None:
    place = Cursor(at, new_job_id())
    assert read_cursor(write_cursor(place)) == place


def test_a_cursor_of_any_other_text_is_refused() -> None:
    text = write_cursor(Cursor(datetime.now(UTC) - timedelta(days=1), UUID(int=7)))
    for other in (
        text[:-1],
        text + "A",
        text + "=",
        "Z" + text[1:],
        text.replace(text[5], "!"),
        f" {text}",
        text[:-1] + "B",
        "ä",
    ):
        with pytest.raises(InvalidInputError):
            read_cursor(other)


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("k", "k"),
        ('"k"', "k"),
        ('"a b"', "a b"),
        ('"\\"\\\\"', '"\\'),
        ("a\\b", "a\\b"),
        ("x" * 255, "x" * 255),
        ("'k'", "'k'"),
    ],
)
def test_keys(said: str, key: str) -> None:
    assert idempotency_key_of(request_with(idempotency_key=said)) == key
