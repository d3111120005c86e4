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


@pytest.mark.parametrize(
    ("source", "fix"),
    [
        ("x: SecretStr", "SecretStr is masked .* read the secret inside the task"),
        ("x: SecretBytes | None = None", "SecretBytes is masked"),
        ("x: Secret[int]", "Secret is masked"),
        ("x: Login", "SecretStr is masked"),
        ("x: list[Deep]", "SecretStr is masked"),
        ("x: Vault", "SecretStr is masked"),
        ("x: Customer", "Customer is a row of a database session: pass its key"),
        ("x: dict[str, Customer]", "Customer is a row"),
        ("x: Request", "Request ends with its request: pass what the task needs"),
        ("x: UploadFile", "UploadFile ends with its request"),
        ("x: Upload", "UploadFile ends with its request"),
        ("x: BackgroundTasks | None = None", "BackgroundTasks ends with its request"),
        ("x: Callable[[int], int]", "a function is not JSON: pass the name"),
        ("x: int | Callable", "a function is not JSON"),
        ("x: Iterator[int]", ONCE),
        ("x: Iterable[int]", ONCE),
        ("x: AsyncIterator[int]", ONCE),
        ("x: IO[str]", "IO is an open file, .* pass the path"),
        ("x: TextIO", "TextIO is an open file"),
        ("x: io.BytesIO", "BytesIO is an open file"),
        ("x: type[int]", "a class is not JSON: pass its name"),
        ("x: OrderedDict[str, int]", "the order of keys is not kept"),
        ("x: list[collections.OrderedDict]", r"take dict\[…\], or list\[tuple\[KEY, VALUE\]\]"),
        ("x: Menu", "the order of keys is not kept"),
        ("x: Tuples", r"<Tuples.A: \(1, 2\)> is one of its values, and no JSON is read as it: use texts"),
        ("x: dict[str, list[Tuples | None]]", "no JSON is read as it"),
        ("x: Literal[Colour.RED]", r"<Colour.RED: 'red'> is one .* or Literal\['red'\]"),
        ("x: Painted", "<Colour.RED: 'red'> is one of its values"),
        ("x: Literal['a', b'x'] = 'a'", "b'x' is one of its values"),
        ("x: dict[tuple[int, int], str]", r"the keys .* a tuple is read from none: take list\[tuple"),
        ("x: dict[Literal[1], str]", "the keys .* 1 is read from none"),
        ("x: BaseModel", "BaseModel itself has no fields"),
        ("x: SerializeAsAny[BaseModel]", "BaseModel itself has no fields"),
        ("x: Plain", LOST),
        ("x: Holder", LOST),
        ("x: Unfinished", LOST),
        ("x: 'Missing'", "cannot be resolved .* import it at the top level of the module"),
        ("x: 'not a type'", "cannot be resolved"),
        ("x: int = Field(5)", r"Field\(…\) is no value .* write Annotated"),
        ("x: int = Query(5)", r"Query\(…\) is no value"),
        ("x = Depends(len)", r"Depends\(…\) is no value"),
        ("x: Annotated[int, Depends(len)]", r"Depends\(…\) needs a request"),
        ("x: Annotated[int, Query(gt=1)]", r"Query\(…\) needs a request, .* use pydantic's Field"),
        ("x: Annotated[int, Field(alias='y')]", "remove the alias"),
        ("x: Annotated[int, Field(default=1)]", "write it with ="),
        ("x: Annotated[int, Field(default_factory=int)]", "no default_factory: give the value when you submit"),
        ("x: int = '5'", r"the default '5' does not fit .* \(… \| str\)"),
        ("x: str = None", r"the default None does not fit .* \(… \| None\)"),
        ("x: HttpUrl = 'http://a/'", "does not fit the annotation"),
        ("x: Broken = {'n': 1}", "does not fit the annotation"),
        ("*x", r"\*x: arguments are stored by name: take one list"),
        ("*x: int", r"\*x: arguments are stored by name"),
        ("**x", r"\*\*x: the signature must name every argument: take one dict"),
        ("x: int, /", "remove the / from the signature"),
        ("n: int, x: JobContext", "make it the first parameter, annotated JobContext alone"),
        ("x: JobContext | None", "annotated JobContext alone"),
        ("c: JobContext, x: JobContext", "annotated JobContext alone"),
        ("x: JobContext = None", "remove its default"),
        ("*, x: JobContext", r"move it before the \*"),
    ],
)
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
        (lambda: None, "<lambda> cannot be a task: it has no name; write it with def"),
        (outer(), f"defined inside another function; {TOP}"),
        (Methods.method, f"defined inside a class; {TOP}"),
        (Methods.static, f"defined inside a class; {TOP}"),
        (Methods().method, f"is a method; {TOP}"),
        (staticmethod(outer), f"is a method; {TOP}"),
        (Methods, "is a class; write a function"),
        (Methods(), "is not a function; write a function that uses it"),
        (functools.partial(outer), "is a partial; write a function and give"),
        (len, "len cannot be a task: it is built in; write a function that calls it"),
        (generator, "yields; collect the values and return a list"),
        (async_generator, "yields; collect the values and return a list"),
        (hidden, "async behind a decorator that is not; make the decorator's function async def"),
        (5, "is not a function"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_what_is_no_plain_function_is_refused_with_its_fix(unfit: Any, fix: str) -> None:
    with pytest.raises(DeclarationError, match=f"cannot be a task.*{fix}" if "cannot" not in fix else fix):
        Signature(unfit)


def returns_something_unknown(n: int) -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821 - nobody looks there
    return n


def test_a_return_annotation_is_not_our_business() -> None:
    assert list(Signature(returns_something_unknown).parameters) == ["n"]
