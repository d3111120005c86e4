"""Fields that are secrets by their names, in both forms of a line."""

import logging
from collections.abc import Callable
from typing import Any, Literal

import pytest

from jobtrail.logs import configure

Lines = Callable[[], list[str]]

log = logging.getLogger("shop.tasks")


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "extra",
    [
        {"password": "x-secret"},
        {"API-Key": ["x-secret"]},
        {"account": {"user": "ann", "db_password": "x-secret"}},
        {"several": [{"token": {"a": "x-secret"}}]},
    ],
)
def test_they_are_not_shown(lines: Lines, form: Literal["text", "json"], extra: dict[str, Any]) -> None:
    configure(form, "INFO")
    log.info("said", extra={**extra, "n": "shown"})
    [line] = lines()
    assert ("x-secret" in line, "[redacted]" in line, "shown" in line) == (False, True, True)


@pytest.mark.parametrize("form", ["text", "json"])
def test_words_of_ones_own(lines: Lines, form: Literal["text", "json"]) -> None:
    configure(form, "INFO", ["iban"])
    log.info("said", extra={"IBAN": "x-hidden", "password": "x-shown"})
    [line] = lines()
    assert ("x-hidden" in line, "x-shown" in line) == (False, True)


def test_something_too_deep_to_look_at(lines: Lines) -> None:
    configure("json", "INFO")
    value: Any = {"password": "x-secret"}
    for _ in range(300):
        value = [value]
    log.info("said", extra={"deep": value})
    [line] = lines()
    assert "x-secret" not in line
