"""A decorator that takes whatever its function takes, as most of them do."""

import functools
from collections.abc import Callable
from typing import Any


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper
