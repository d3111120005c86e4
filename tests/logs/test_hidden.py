"""Fields that are secrets by their names, in both forms of a line."""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from jobtrail.logs import configure

Lines = Callable[[], list[str]]

log = logging.getLogger("shop.tasks")


@dataclass
class Account:
    user: str
    password: str
    left_out: str = field(default="left", repr=False)


class Row(NamedTuple):
    user: str
    password: str


class Model(BaseModel):
    user: str
    password: str
    more: Any
    left_out: str = Field(default="left", repr=False)
    excluded: str = Field(default="left", exclude=True)


ANN: dict[str, Any] = {"user": "ann", "password": "x-secret"}


class Told:
    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


class Bearing:
    __slots__ = ("_password",)

    def __init__(self, password: str) -> None:
        self._password = password

    def __str__(self) -> str:
        return f"with {self._password}"


class Failing(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "extra",
    [
        {"password": "x-secret"},
        {"API-Key": ["x-secret"]},
        {"account": {"user": "ann", "db_password": "x-secret"}},
        {"several": [{"token": {"a": "x-secret"}}]},
        {"keys": {(1, 2): 3, "password": "x-secret"}},
        {"keys": {("db", "password"): "x-secret"}},
        {"keys": {b"password": "x-secret", Path("x"): 1}},
        {"nan": [float("nan"), {"password": "x-secret"}]},
        {"sets": ({"a": MappingProxyType({"password": "x-secret"})}, {1, 2})},
        {"account": Account("ann", "x-secret")},
        {"account": [Row("ann", "x-secret")]},
        {"account": {"model": Model(**ANN, more=Account("bob", "x-secret"))}},
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


@pytest.mark.parametrize("form", ["text", "json"])
def test_of_what_cannot_be_looked_through_the_type_is_shown(lines: Lines, form: Literal["text", "json"]) -> None:
    told = {
        "by_its_text": Told("Client(api_key='x-secret')"),
        "by_its_attributes": Bearing("x-secret"),
        "plain": Told("Client(host='here')"),
        "id": UUID(int=7),
        "list": Failing([{"password": "x-secret"}]),
    }
    configure(form, "INFO")
    log.info("said", extra=told)
    [line] = lines()
    shown = ("<Told>" in line, "<Bearing>" in line, "<Failing>" in line, "Client(host='here')" in line)
    assert ("x-secret" in line, shown, str(UUID(int=7)) in line) == (False, (True,) * 4, True)


def test_what_is_in_itself_is_looked_through_once(lines: Lines) -> None:
    around: dict[str, Any] = {"password": "x-secret", "n": "shown"}
    around["again"] = [around] * 30
    configure("json", "INFO")
    log.info("said", extra={"around": around})
    [line] = lines()
    assert json.loads(line)["around"] == {"password": "[redacted]", "n": "shown", "again": ["<dict>"] * 30}


def test_what_a_class_leaves_out_of_its_text_is_left_out(lines: Lines) -> None:
    configure("json", "INFO")
    log.info("said", extra={"account": Account(**ANN), "model": Model(**ANN, more=None)})
    [line] = lines()
    account = {"user": "ann", "password": "[redacted]"}
    assert [json.loads(line)[name] for name in ("account", "model")] == [account, account | {"more": None}]


def test_something_too_deep_to_look_at(lines: Lines) -> None:
    configure("json", "INFO")
    value: Any = {"password": "x-secret"}
    for _ in range(300):
        value = [value]
    log.info("said", extra={"deep": value})
    [line] = lines()
    assert "x-secret" not in line
