"""Types and signatures for the tests of what a task may take. The signatures are texts, which use the names here."""
# ruff: noqa: F401 - see above

import collections
import io
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NamedTuple, TextIO
from uuid import UUID, uuid4

from fastapi import BackgroundTasks, Depends, Query, Request, UploadFile
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    HttpUrl,
    Json,
    PlainSerializer,
    Secret,
    SecretBytes,
    SecretStr,
    SerializeAsAny,
    computed_field,
    field_validator,
)
from pydantic_core import CoreSchema, core_schema
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from jobtrail import JobContext
from jobtrail.task.arguments import Signature

ID = UUID("01939f5e-0000-7000-8000-000000000000")
NOW = datetime(2030, 1, 31, 12, 30, 0, 5, tzinfo=UTC)


class Animal(BaseModel):
    name: str
    born: date | None = None


class Tagged(BaseModel):
    tags: set[str]


class Private(BaseModel):
    n: int
    made: UUID = Field(default_factory=uuid4, exclude=True)


class ReadBySku(BaseModel):
    """Its alias is for reading alone, so what is written by name is not read."""

    sku: str = Field(validation_alias="SKU")
    id: UUID = Field(default_factory=uuid4)


class Cat(Animal):
    lives: int = 9


class Bird(BaseModel):
    kind: Literal["bird"]
    wings: int


class Fish(BaseModel):
    kind: Literal["fish"]
    fins: int


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    on: date
    n: int


class Aliased(BaseModel):
    user_id: int = Field(alias="userId")


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    side: int

    @computed_field
    @property
    def area(self) -> int:
        return self.side**2


class Hiding(BaseModel):
    n: int = Field(exclude=True, default=1)


class Tree(BaseModel):
    children: list["Tree"] = []


class Login(BaseModel):
    password: SecretStr


class Vault(BaseModel):
    default: SecretStr


class Deep(BaseModel):
    logins: dict[str, list[Login | None]]


class Upload(BaseModel):
    file: UploadFile


class Unfinished(BaseModel):
    other: "Nowhere"  # type: ignore[name-defined]  # noqa: F821 - that it is nowhere is the point


class Plain:
    pass


class Holder(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    plain: Plain | int = 1


class Odd(BaseModel):
    x: Any = Plain()


class Broken(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def _raise(cls, _value: int) -> int:
        raise LookupError("out of reach")


class Incomparable:
    def __eq__(self, _other: object) -> bool:
        raise TypeError("no comparison")

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return read_from_number(cls)


class Nameless:
    """It has no __eq__."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return read_from_number(cls)


def read_from_number(cls: Callable[[], object]) -> CoreSchema:
    written = core_schema.plain_serializer_function_ser_schema(lambda _: 1)
    return core_schema.no_info_after_validator_function(
        lambda _: cls(), core_schema.int_schema(), serialization=written
    )


class Row(MappedAsDataclass, DeclarativeBase):
    pass


class Customer(Row):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)


class Colour(Enum):
    RED = "red"


class Tuples(Enum):
    A = (1, 2)


def of_name(said: object) -> object:
    return Tuples.__members__.get(str(said), said)


BySaid = Annotated[Tuples, BeforeValidator(of_name), PlainSerializer(lambda each: each.name)]


class Named(Enum):
    """Its values are no JSON, and it says itself what is."""

    A = (1, 2)

    @classmethod
    def _missing_(cls, value: object) -> "Named | None":
        return cls.__members__.get(str(value))


ByName = Annotated[Named, PlainSerializer(lambda each: each.name)]


class Word(StrEnum):
    A = "a"


class Menu(BaseModel):
    prices: OrderedDict[str, int]


class Painted(BaseModel):
    colour: Literal[Colour.RED]


class Default(BaseModel):
    """Field names that pydantic's schema has too."""

    default: Colour
    type: Literal["t"] = "t"
    metadata: int = 1


class Place(NamedTuple):
    x: int
    on: date


@dataclass
class Stay:
    at: datetime
    nights: int = 1


def function(source: str) -> Callable[..., object]:
    """A function of that signature, as if it stood in this module."""
    made: dict[str, Any] = {}
    exec(f"def f({source}): ...", globals(), made)  # noqa: S102 - a table of signatures reads best as signatures
    return made["f"]  # type: ignore[no-any-return]


def signature(source: str) -> Signature:
    return Signature(function(source))
