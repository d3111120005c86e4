"""The settings of an operator, as one frozen class; only composition roots call `load`, all others get values.

`.env.example` explains every setting. A variable of the environment wins over `.env` in the current folder.
"""

import difflib
import ipaddress
import json
import os
import re
import warnings
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from dotenv import dotenv_values
from pydantic import BeforeValidator, ByteSize, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobtrail.db.url import normalize
from jobtrail.durations import format_duration, parse_duration
from jobtrail.errors import SettingsError
from jobtrail.outbound import MOST_SECRETS, allowed, key_of
from jobtrail.ranges import DEFAULT_SCHEMA, MAX_PENDING, MAX_TTL, QUEUE_PATTERN, SCHEMA_PATTERN
from jobtrail.redaction import WORDS

PREFIX: Final = "JOBTRAIL_"
EMBEDDED: Final = "embedded"

_ENV_FILE: Final = Path(".env")
_KEEP: Final = frozenset({"keep", "none"})


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _duration_or_keep(value: object) -> object:
    if isinstance(value, str) and value.strip().lower() in _KEEP:
        return None
    kept_for = _duration(value)
    if kept_for == timedelta(0):
        raise ValueError("0 would purge a row as it finishes; write keep to keep rows for ever")
    return kept_for


def _words(value: object) -> object:
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


def _words_or_none(value: object) -> object:
    """An empty variable is one that is not set."""
    return () if isinstance(value, str) and value.strip().lower() == "none" else _words(value)


def _numbers(value: object) -> object:
    """A JSON object of queues and numbers."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, Mapping) or not all(map(_is_number_of_queue, found, found.values())):
        how = f'write a JSON object of queues and whole numbers from 1 to {MAX_PENDING}, such as {{"mail": 1000}}'
        raise ValueError(f"{value!r:.60}: {how}")
    return found


def _is_number_of_queue(queue: object, number: object) -> bool:
    is_queue = isinstance(queue, str) and re.fullmatch(QUEUE_PATTERN, queue) is not None
    return is_queue and type(number) is int and 1 <= number <= MAX_PENDING


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
KeptFor = Annotated[
    timedelta | None,
    Field(ge=timedelta(seconds=1), le=timedelta(seconds=MAX_TTL)),
    BeforeValidator(_duration_or_keep),
]
Size = Annotated[ByteSize, Field(ge=1024, le=64 * 1024 * 1024)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Numbers = Annotated[Mapping[str, int], NoDecode, BeforeValidator(_numbers)]
WordsOrNone = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words_or_none)]


class _Shared(BaseSettings):
    """The database as the host app's own settings name it."""

    model_config = SettingsConfigDict(
        env_file=_ENV_FILE, env_file_encoding="utf-8", env_ignore_empty=True, extra="ignore"
    )

    database_url: str | None = Field(default=None, repr=False)


def _shared_database_url() -> str | None:
    url = _Shared().database_url
    if url is not None:
        try:
            normalize(url, "DATABASE_URL")
        except SettingsError as error:
            raise SettingsError(f"{error}; or set {PREFIX}DATABASE_URL, which comes first") from None
    return url


with warnings.catch_warnings():
    # the name is that of a deprecated method of pydantic's
    warnings.simplefilter("ignore", UserWarning)

    class _WithSchema(BaseSettings):
        schema: str = DEFAULT_SCHEMA  # type: ignore[assignment]


class Settings(_WithSchema):
    """Checked values. `database_url` may hold a password, so it is never shown; None means that none was given."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=_ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: str | None = Field(default_factory=_shared_database_url, repr=False)
    data_dir: Path | None = None
    pool_size: int = Field(default=5, ge=1, le=1000)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    max_body: Size = ByteSize(1024 * 1024)
    body_timeout: Duration = Field(default=timedelta(seconds=30), ge=timedelta(milliseconds=100))
    max_waiting: int = Field(default=5000, ge=1, le=1_000_000)
    max_pending: Numbers = Field(default_factory=dict)
    max_connections: int = Field(default=1000, ge=1, le=1_000_000)
    redact: WordsOrNone = WORDS

    tasks: Words = ()
    queues: Words = ()
    slots: int = Field(default=100, ge=0, le=10_000)
    threads: int = Field(default_factory=lambda found: 8 if found["slots"] else 0, ge=0, le=1000)
    processes: int = Field(default_factory=lambda found: (os.cpu_count() or 1) if found["slots"] else 0, ge=0, le=1000)
    max_result: Size = ByteSize(1024 * 1024)

    lease: Duration = Field(default=timedelta(seconds=30), ge=timedelta(seconds=1), le=timedelta(days=1))
    stall: Duration = Field(default=timedelta(seconds=300), ge=timedelta(seconds=1))
    grace: Duration = timedelta(seconds=20)
    cancel_grace: Duration = Field(default=timedelta(seconds=5), ge=timedelta(0), le=timedelta(minutes=10))
    poll_every: Duration = Field(default=timedelta(seconds=1), ge=timedelta(milliseconds=10))

    purge_every: Duration = Field(default=timedelta(seconds=60), ge=timedelta(milliseconds=100))
    ttl: KeptFor = timedelta(days=7)
    ttl_failed: KeptFor = timedelta(days=30)
    history_ttl: KeptFor = timedelta(days=90)
    feed_ttl: Duration = Field(default=timedelta(hours=24), ge=timedelta(seconds=1))
    streams: int = Field(default=500, ge=0, le=100_000)
    stream_max: Duration = Field(default=timedelta(minutes=15), ge=timedelta(seconds=1))

    trace_link_after: Duration = Field(default=timedelta(hours=1), ge=timedelta(0))
    webhook_secret: Words = Field(default=(), repr=False)
    webhook_allow: WordsOrNone = ()
    alarm_pending: int = Field(default=1000, ge=1, le=100_000)
    alarm_running: Duration = Field(default=timedelta(minutes=5), ge=timedelta(seconds=1))
    alarm_failures: float = Field(default=0.05, ge=0, le=1)
    metrics_port: int | None = Field(default=None, ge=1, le=65535)

    log_format: Literal["text", "json"] = "text"
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)] = "INFO"

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: str | None) -> str | None:
        if url is not None and url != EMBEDDED:
            try:
                normalize(url, f"{PREFIX}DATABASE_URL")
            except SettingsError as error:
                raise ValueError(str(error)) from None
        return url

    @field_validator("schema")
    @classmethod
    def _check_schema(cls, name: str) -> str:
        if not re.fullmatch(SCHEMA_PATTERN, name):
            raise ValueError(
                f"{name!r:.60} is no name for Jobtrail's own schema: write up to 50 lower-case letters, digits and _, "
                "beginning with a letter, such as shop_jobs; not pg_…, public or information_schema"
            )
        return name

    @field_validator("data_dir")
    @classmethod
    def _expand_home(cls, folder: Path | None) -> Path | None:
        return None if folder is None else folder.expanduser()

    @field_validator("tasks")
    @classmethod
    def _check_modules(cls, modules: tuple[str, ...]) -> tuple[str, ...]:
        for module in modules:
            if not all(part.isidentifier() for part in module.split(".")):
                raise ValueError(f"{module!r:.60} is not a module's name: write package.module, separated by commas")
        return modules

    @field_validator("webhook_secret")
    @classmethod
    def _check_secrets(cls, secrets: tuple[str, ...]) -> tuple[str, ...]:
        for secret in secrets:
            key_of(secret)
        if len(secrets) > MOST_SECRETS:
            raise ValueError(f"{len(secrets)} secrets: write the new one and, while receivers change, the old one")
        return secrets

    @field_validator("webhook_allow")
    @classmethod
    def _check_allowed(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            allowed(word)
        return words

    @field_validator("queues")
    @classmethod
    def _check_queues(cls, queues: tuple[str, ...]) -> tuple[str, ...]:
        for queue in queues:
            if not re.fullmatch(QUEUE_PATTERN, queue):
                raise ValueError(f"{queue!r:.60} is not a queue's name: up to 100 letters, digits and _ . : -")
        return queues

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        wrong = []
        if self.poll_every >= self.lease:
            polled, leased = format_duration(self.poll_every), format_duration(self.lease)
            wrong.append(
                f"{PREFIX}POLL_EVERY: {polled} is not shorter than {PREFIX}LEASE ({leased}): lower the one or raise "
                "the other"
            )
        if self.database_url == EMBEDDED and not is_loopback(self.host):
            wrong.append(
                f"{PREFIX}HOST: {self.host!r:.60} is not a loopback address, and the embedded database is for one "
                f"machine: set {PREFIX}HOST=127.0.0.1, or {PREFIX}DATABASE_URL to the URL of a server"
            )
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @property
    def only_accepts(self) -> bool:
        """Whether no job can run here."""
        return not (self.slots or self.threads or self.processes)


_FOLLOWS: Final = "default_factory_not_called"
"""Pydantic's error for a default that depends on another setting, when any setting is wrong."""


def load(**given: Any) -> Settings:
    """Read the settings of this process; what is `given`, under the class's names, wins over the environment.

    Raises SettingsError with one line for each wrong setting.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = (each for each in error.errors(include_url=False) if each["type"] != _FOLLOWS)
        raise SettingsError("\n".join(_explain(detail) for detail in wrong)) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise SettingsError(f".env in the current folder cannot be read: {reason}") from None


_OTHERS: Final = (PREFIX + "DEMO_", PREFIX + "TEST_")
"""The sample tasks of `jobtrail demo` read their own, and so does the test kit."""


def unknown_variables(environ: Mapping[str, str], env_file: Path = _ENV_FILE) -> list[str]:
    """A line for each variable, of the environment or the file, that begins like a setting and is none."""
    known = [name.upper() for name in Settings.model_fields]
    told = []
    for name in sorted({*environ, *(dotenv_values(env_file) if env_file.is_file() else ())}):
        short = name.upper().removeprefix(PREFIX)
        if short == name.upper() or short in known or name.upper().startswith(_OTHERS):
            continue
        near = [PREFIX + each for each in difflib.get_close_matches(short, known, n=2)]
        told.append(f"{name} is not a setting" + (f"; did you mean {' or '.join(near)}?" if near else ""))
    return told


def _explain(detail: ErrorDetails) -> str:
    """One line: the variable, the value unless it may hold a password, and what is asked of it."""
    if detail["type"] == "value_error":
        message = str(detail["ctx"]["error"])
    elif detail["type"].startswith("byte_size"):
        message = f"{detail['input']!r:.60} is not a size: write bytes or 512KiB, 1MiB"
    else:
        value = detail["input"]
        shown = format_duration(value) if isinstance(value, timedelta) else f"{value!r:.60}"
        subject = "the value" if "database_url" in detail["loc"] else shown
        message = detail["msg"].replace("Input", subject)
    if message.startswith(PREFIX) or not detail["loc"]:
        return message
    return f"{PREFIX}{str(detail['loc'][0]).upper()}: {message}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. Of names only `localhost` is known: ask about the bound address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
