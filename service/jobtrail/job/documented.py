"""What our models are called in the documentation of the calls, which may be a host's."""

from typing import Any

from pydantic import BaseModel


class Documented(BaseModel):
    """Its schema has our name in front. Of two models with the same name pydantic renames both, so a host's own `Job`
    would be another one in its documentation as soon as ours were there.
    """

    def __init_subclass__(cls, **said: Any) -> None:
        super().__init_subclass__(**said)
        # pydantic takes the schema's name from here, and its title from `__name__`
        cls.__qualname__ = f"Jobtrail{cls.__name__.removeprefix('Jobtrail')}"
