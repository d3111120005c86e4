"""What is hidden for its name, at any depth, and nothing else."""

from copy import deepcopy
from typing import Any

import pytest

from jobtrail.errors import FieldError
from jobtrail.redaction import NOTHING, REDACTED, Redaction

BY_DEFAULT = Redaction()


@pytest.mark.parametrize(
    "name",
    [
        "password", "PASSWORD", "db_password", "passwordHash", "pass-word", "passwd", "api_key", "api-key", "apiKey",
        "X-API-Key", "apikeys", "_token_", "access_token", "Authorization", "set-cookie", "credentials", "private_key",
        "aws_secret_access_key", "sshPrivateKey", "passphrase", f"{'x' * 500}secret", "api key", "api.key", "pass.word",
        "db:pass/word", "\uff50\uff41\uff53\uff53word", "\uff21\uff30\uff29\uff3f\uff2b\uff25\uff39", "pass\u200bword",
        "PWD", "bearer", "idJwt",
    ],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    for _ in range(2):  # remembered or not
        assert BY_DEFAULT.hides(name)
    assert not NOTHING.hides(name)


@pytest.mark.parametrize("name", ["", "to", "n", "pass", "key", "author", "keyboard", "api", "api_url", "ключ", "_-_"])
def test_other_names(name: str) -> None:
    for _ in range(2):
        assert not BY_DEFAULT.hides(name)


def test_words_of_ones_own() -> None:
    own = Redaction(["IBAN", "card-number", " ", "", "_", "a.c"])
    hidden = [
        name for name in ("my_iban", "cardNumber", "card_number_2", "a.c", "abc", "password", "") if own.hides(name)
    ]
    assert hidden == ["my_iban", "cardNumber", "card_number_2", "a.c"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"n": 1}, {"n": 1}),
        ({"n": 1, "token": "x"}, {"n": 1, "token": REDACTED}),
        ({"token": {"a": [1]}}, {"token": REDACTED}),
        ({"token": None}, {"token": REDACTED}),
        ({"a": [{"b": {"password": 1, "c": 2}}]}, {"a": [{"b": {"password": REDACTED, "c": 2}}]}),
        ([[{"secret": 1}]], [[{"secret": REDACTED}]]),
        ("password", "password"),
        (None, None),
    ],
)
def test_values(value: Any, shown: Any) -> None:
    before = deepcopy(value)
    assert BY_DEFAULT.of(value) == shown
    assert value == before
    assert NOTHING.of(value) is value


def test_below_all_that_can_be_stored_nothing_is_shown() -> None:
    value: Any = {"token": "x"}
    for _ in range(5000):
        value = [value]
    shown = BY_DEFAULT.of(value)
    while isinstance(shown, list):
        (shown,) = shown
    assert shown == REDACTED


def test_callers_do_not_fill_the_memory() -> None:
    redaction = Redaction()
    assert not any(redaction.hides(f"n{n}") for n in range(5000))
    assert all(redaction.hides(f"token{n}") for n in range(5000))
    assert len(redaction._known) <= 1000


def test_defaults_and_examples_of_a_schema() -> None:
    schema = {
        "properties": {
            "n": {"default": 1, "examples": [2]},
            "token": {"default": "x", "examples": ["y"], "anyOf": [{"type": "string", "default": "z"}]},
            "config": {"default": {"password": "p", "host": "h"}, "$ref": "#/$defs/Config"},
            "default": {"type": "string"},
            "properties": {"properties": {"secret": {"default": 1}}},
        },
        "required": ["token"],
        "$defs": {"Config": {"properties": {"password": {"default": "p"}, "host": {"default": "h"}}}},
    }
    assert BY_DEFAULT.of_schema(schema) == {
        "properties": {
            "n": {"default": 1, "examples": [2]},
            "token": {"default": REDACTED, "examples": REDACTED, "anyOf": [{"type": "string", "default": REDACTED}]},
            "config": {"default": {"password": REDACTED, "host": "h"}, "$ref": "#/$defs/Config"},
            "default": {"type": "string"},
            "properties": {"properties": {"secret": {"default": REDACTED}}},
        },
        "required": ["token"],
        "$defs": {"Config": {"properties": {"password": {"default": REDACTED}, "host": {"default": "h"}}}},
    }
    assert NOTHING.of_schema(schema) == schema


@pytest.mark.parametrize(
    ("flaw", "is_told"),
    [
        (FieldError("/args/n", "x is bad"), True),
        (FieldError("/args/token", "x is bad"), False),
        (FieldError("/args/config/password/0", "x is bad"), False),
        (FieldError("/jobs/3/args/api_key", "x is bad"), False),
        (FieldError("/args/token", "this argument is missing"), True),
        (FieldError("/args/c", "x is bad", frozenset({"n", "passWord"})), False),
        (FieldError("/args/c", "x is bad", frozenset({"n"})), True),
        (FieldError("/args/token", "there is no such argument; the task takes n"), True),
    ],
)
def test_flaws(flaw: FieldError, is_told: bool) -> None:
    (told,) = BY_DEFAULT.of_flaws([flaw])
    assert told.pointer == flaw.pointer
    assert (told == flaw) is is_told
    assert is_told or "x is bad" not in told.detail
    assert NOTHING.of_flaws([flaw]) == [flaw]
