"""Connections that say nothing, which a server would keep open for ever: uvicorn waits for headers without an end."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

_NONE: Final = object()


class Silent:
    """Closes what for `patience` was neither asked for anything nor closed by its client."""

    def __init__(self, patience: timedelta) -> None:
        self._patience: Final = patience.total_seconds()
        self._since: dict[Any, tuple[object, float]] = {}

    def close(self, connections: Iterable[Any], now: float) -> None:
        """`connections` are uvicorn's protocols: each has the `cycle` of its last request. `now` is in seconds."""
        silent = {each: _last_request(each) for each in connections if _is_silent(each)}
        self._since = {each: self._seen(each, request, now) for each, request in silent.items()}
        for each, (_, since) in self._since.items():
            if now - since >= self._patience:
                each.transport.close()

    def _seen(self, connection: Any, request: object, now: float) -> tuple[object, float]:
        """Since when it has waited after the same request: another one may have come and gone unseen."""
        seen = self._since.get(connection)
        return seen if seen is not None and seen[0] is request else (request, now)


def _is_silent(connection: Any) -> bool:
    request = _last_request(connection)
    if request is _NONE or connection.transport.get_write_buffer_size():
        return False
    return request is None or request.response_complete


def _last_request(connection: Any) -> Any:
    """None: there was none yet."""
    return getattr(connection, "cycle", _NONE)
