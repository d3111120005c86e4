"""The client for programs that await."""

from types import TracebackType
from typing import Self

import httpx

from jobtrail.client.connection import Connection
from jobtrail.client.http import LIMITS, AsyncHttp
from jobtrail.client.nouns import AllCalls


class AsyncClient(AllCalls):
    """The service at an address, such as `http://127.0.0.1:8000/v1`, or a host's app with the prefix of its router.

    `key`: an access key. `timeout`: seconds for one answer. `retry_for`: seconds from its first failure that a call is
    sent again for, while the service is away or busy. `http`: a client of the caller's, with a transport,
    authentication or limits of its own, which stays open; each wait and each stream holds one of its connections.

    It belongs to the event loop that it was first used in. Raises ValueError for what is no address, or can be no key.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 10,
        retry_for: float = 30,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._lent = http
        self._client = http or httpx.AsyncClient(limits=LIMITS)
        super().__init__(Connection(AsyncHttp(self._client), url.rstrip("/"), key, timeout, retry_for))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        if self._lent is None:
            await self._client.aclose()
