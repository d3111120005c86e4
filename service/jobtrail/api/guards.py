"""What the guards of a host read of a query: names that are none of ours, and no typing errors."""

from collections.abc import Collection, Iterator
from inspect import isclass
from typing import Any

from fastapi.security.api_key import APIKeyQuery
from pydantic import BaseModel
from starlette.requests import Request


def guards_query(request: Request) -> Collection[str]:
    """The names of all query parameters that the dependencies of this call declare.

    Those of an include_router are not in the route itself but, since FastAPI 0.165, in the context of the call.
    """
    route = request.scope.get("fastapi", {}).get("effective_route_context") or request.scope["route"]
    return frozenset(_names(route.dependant.dependencies))


def _names(dependencies: Collection[Any]) -> Iterator[str]:
    for each in dependencies:
        if isinstance(each.call, APIKeyQuery):
            yield each.call.model.name
        for field in each.query_params:
            yield from _names_of(field)
        yield from _names(each.dependencies)


def _names_of(field: Any) -> Iterator[str]:
    """A parameter has one name, a model of parameters one for each of its fields."""
    kind = field.field_info.annotation
    if isclass(kind) and issubclass(kind, BaseModel):
        yield from (inner.alias or name for name, inner in kind.model_fields.items())
    else:
        yield field.alias
