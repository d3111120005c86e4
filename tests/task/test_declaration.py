import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from jobtrail.errors import DeclarationError
from jobtrail.task.arguments import Signature
from support.decorated import decorated
from support.shapes import signature

LOST = "does not survive JSON"
ONCE = r"read only once cannot be stored: write list\[…\]"
UNFIT = {
    "SecretStr is masked .* read the secret inside the task": ["x: SecretStr", "x: Login", "x: list[Deep]", "x: Vault"],
    "Secret(Bytes)? is masked": ["x: SecretBytes | None = None", "x: Secret[int]"],
    "Customer is a row of a database session: pass its key": ["x: Customer", "x: dict[str, Customer]"],
    "Request ends with its request: pass what the task needs": ["x: Request"],
    "UploadFile ends with its request": ["x: UploadFile", "x: Upload"],
    "BackgroundTasks ends with its request": ["x: BackgroundTasks | None = None"],
    "a function is not JSON: pass the name": ["x: Callable[[int], int]", "x: int | Callable"],
    ONCE: ["x: Iterator[int]", "x: Iterable[int]", "x: AsyncIterator[int]"],
    "is an open file, .* pass the path": ["x: IO[str]", "x: TextIO", "x: io.BytesIO"],
    "a class is not JSON: pass its name": ["x: type[int]"],
    r"the order of keys is not kept: take dict\[…\], or list\[tuple\[KEY, VALUE\]\]": [
        *("x: OrderedDict[str, int]", "x: list[collections.OrderedDict]", "x: Menu"),
    ],
    r"<Tuples.A: \(1, 2\)> is one of its values, and no JSON is read as it: use texts": [
        *("x: Tuples", "x: dict[str, list[Tuples | None]]"),
    ],
    r"<Colour.RED: 'red'> is one .* or Literal\['red'\]": ["x: Literal[Colour.RED]", "x: Painted"],
    "b'x' is one of its values": ["x: Literal['a', b'x'] = 'a'"],
    r"the keys .* (a tuple|1) is read from none: take list\[tuple": [
        *("x: dict[tuple[int, int], str]", "x: dict[Literal[1], str]"),
    ],
    "BaseModel itself has no fields": ["x: BaseModel", "x: SerializeAsAny[BaseModel]"],
    LOST: ["x: Plain", "x: Holder", "x: Unfinished"],
    "cannot be resolved .* import it at the top level of the module": ["x: 'Missing'", "x: 'not a type'"],
    r"\(…\) is no value .* write Annotated": ["x: int = Field(5)", "x: int = Query(5)", "x = Depends(len)"],
    r"\(…\) needs a request, .* use pydantic's Field": [
        "x: Annotated[int, Depends(len)]",
        "x: Annotated[int, Query()]",
    ],
    "remove the alias": ["x: Annotated[int, Field(alias='y')]"],
    "write it with =": ["x: Annotated[int, Field(default=1)]"],
    "no default_factory: give the value when you submit": ["x: Annotated[int, Field(default_factory=int)]"],
    r"the default .* does not fit the annotation: .* \(… \| (str|None|dict)\)": [
        *("x: int = '5'", "x: str = None", "x: HttpUrl = 'http://a/'", "x: Broken = {'n': 1}"),
    ],
    r"\*x: arguments are stored by name: take one list": ["*x", "*x: int"],
    r"\*\*x: the signature must name every argument: take one dict": ["**x"],
    "remove the / from the signature": ["x: int, /"],
    "make it the first parameter, annotated JobContext alone": [
        *("n: int, x: JobContext", "x: JobContext | None", "c: JobContext, x: JobContext"),
    ],
    "remove its default": ["x: JobContext = None"],
    r"move it before the \*": ["*, x: JobContext"],
}
"""Signatures by their fix."""


@pytest.mark.parametrize(("source", "fix"), [(source, fix) for fix, sources in UNFIT.items() for source in sources])
def test_a_parameter_that_cannot_be_stored_is_refused_with_its_fix(source: str, fix: str) -> None:
    with pytest.raises(DeclarationError, match=rf"^task support\.shapes\.f, parameter 'x': .*{fix}"):
        signature(source)


class Methods:
    def method(self) -> None: ...

    @staticmethod
    def static() -> None: ...

    def __call__(self) -> None: ...


def outer() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@decorated
async def hidden() -> None: ...


TOP = "move it to the top level of its module"


@pytest.mark.parametrize(
    ("unfit", "fix"),
    [
        (lambda: None, "has no name; write it with def"),
        (outer(), f"is defined inside another function; {TOP}"),
        (Methods.method, f"is defined inside a class; {TOP}"),
        (Methods.static, f"is defined inside a class; {TOP}"),
        (Methods().method, f"is a method; {TOP}"),
        (staticmethod(outer), f"is a method; {TOP}"),
        (Methods, "is a class; write a function"),
        (Methods(), "is not a function; write a function that uses it"),
        (functools.partial(outer), "is a partial; write a function and give"),
        (len, "is built in; write a function that calls it"),
        (generator, "yields; collect the values and return a list"),
        (async_generator, "yields; collect the values and return a list"),
        (hidden, "is async behind a decorator that is not; make the decorator's function async def"),
        (5, "is not a function"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_what_is_no_plain_function_is_refused_with_its_fix(unfit: Any, fix: str) -> None:
    with pytest.raises(DeclarationError, match=f"cannot be a task: it {fix}"):
        Signature(unfit)


def returns_something_unknown(n: int) -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821 - nobody looks there
    return n


def test_a_return_annotation_is_not_our_business() -> None:
    assert list(Signature(returns_something_unknown).parameters) == ["n"]
