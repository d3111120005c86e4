"""Entity tags and cursors."""

from datetime import UTC

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from jobtrail.api.headers import etag_of, matches_if_match, matches_if_none_match
from jobtrail.api.query import read_cursor, write_cursor
from jobtrail.errors import InvalidInputError
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


CURSORS = st.builds(Cursor, st.datetimes(timezones=st.just(UTC)), st.uuids())


@given(CURSORS, st.text("Aä_=-"))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_cursor_is_read_as_it_was_written_and_no_other_text_is_one(cursor: Cursor, other: str) -> None:
    text = write_cursor(cursor)
    assert read_cursor(text) == cursor
    for wrong in (other, text[:-1], f"{text}A", f"{text}=", f"Z{text[1:]}", text.replace(text[5], "!"), f" {text}"):
        with pytest.raises(InvalidInputError):
            read_cursor(wrong)
