import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from pydantic import HttpUrl

from jobtrail.demo import web
from jobtrail.demo.tasks import fetch_all
from jobtrail.demo.web import Fetched, fetch, open_client

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
ANSWERS = {
    "/missing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone",
    "/chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "/round": b"HTTP/1.1 302 Found\r\nLocation: /round\r\n" + EMPTY,
    "/silent": b"",
    "/nonsense": b"MAIL FROM\r\n\r\n",
    "/long": OK + b"\r\n" + b"x" * 2_000,
}


@dataclass
class Site:
    """A web server on this machine that counts how many requests it has at once."""

    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    everyone_is_here: asyncio.Barrier | None = None

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        path = lines[0].split(" ")[1]
        self.asked.append((path, next(line for line in lines if line.lower().startswith("host:")).split(" ")[1]))
        if self.everyone_is_here:
            await self.everyone_is_here.wait()
        self.at_once -= 1
        writer.write(self.answer(path))
        writer.close()

    def answer(self, path: str) -> bytes:
        if path.startswith("/to/"):
            return b"HTTP/1.1 302 Found\r\nLocation: " + path.removeprefix("/to/").encode() + b"\r\n" + EMPTY
        return ANSWERS.get(path, OK + b"Content-Length: 5\r\n\r\nhello")


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    async with server:
        yield site


@asynccontextmanager
async def a_port_where_nobody_listens() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    yield port


async def fetched(url: str, addresses: Sequence[str] | None = None, *, anywhere: bool = False) -> Fetched:
    """With `addresses` what a DNS server would say is said here."""

    async def answer(_host: str, _port: int) -> Sequence[str]:
        return addresses or ()

    async with open_client() as client:
        return await fetch(client, url, anywhere=anywhere, resolve=answer if addresses else web.resolve)


async def test_every_page_has_its_status_and_its_bytes_or_its_error(site: Site) -> None:
    async with a_port_where_nobody_listens() as closed:
        urls = [site.url(path) for path in ("/", "/missing", "/chunked", "/silent", "/nonsense")]
        found = await fetch_all([HttpUrl(each) for each in [*urls, f"http://127.0.0.1:{closed}/"]])
    assert [each["url"] for each in found[:5]] == urls
    assert [(each.get("status"), each.get("bytes")) for each in found] == [
        (200, 5), (404, 4), (200, 5), (None, None), (None, None), (None, None)
    ]  # fmt: skip
    assert ["error" in each for each in found] == [False, False, False, True, True, True]
    assert all(0 <= each["seconds"] < 10 for each in found)


@pytest.mark.parametrize("at_once", [1, 3])
async def test_no_more_pages_at_once_than_asked(site: Site, at_once: int) -> None:
    site.everyone_is_here = asyncio.Barrier(at_once)
    found = await fetch_all([HttpUrl(site.url(f"/{number}")) for number in range(6)], at_once=at_once)
    assert [each.get("status") for each in found] == [200] * 6
    assert site.most_at_once == at_once


async def test_a_name_of_this_machine_is_fetched_under_its_name(site: Site) -> None:
    assert (await fetched(site.url("/", "localhost")))["status"] == 200
    assert site.asked == [("/", f"localhost:{site.port}")]


async def test_the_next_address_is_tried_when_nobody_listens_at_the_first(site: Site) -> None:
    assert (await fetched(site.url("/", "here.test"), ["127.0.0.2", "127.0.0.1"]))["status"] == 200


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("192.0.2.1", None),
        ("0.0.0.0", None),  # noqa: S104 - it is refused
        ("[2001:db8::1]", None),
        ("[::ffff:192.0.2.1]", None),
        ("far.test", ["192.0.2.1"]),
        ("both.test", ["127.0.0.1", "192.0.2.1"]),
        ("private.test", ["10.0.0.1"]),
        ("metadata.test", ["169.254.169.254"]),
        ("mapped.test", ["::ffff:10.0.0.1"]),
        ("scoped.test", ["fe80::1%eth0"]),
    ],
)
async def test_other_machines_are_refused(site: Site, host: str, addresses: Sequence[str] | None) -> None:
    found = await fetched(site.url("/", host), addresses)
    assert "is not on this machine; JOBTRAIL_DEMO_FETCH_ANYWHERE=1 would allow it" in found["error"]
    assert site.asked == []


async def test_a_redirect_is_followed_on_the_same_host(site: Site) -> None:
    found = await fetched(site.url("/to//to//missing"))
    assert (found["status"], found["bytes"]) == (404, 4)
    assert [path for path, _ in site.asked] == ["/to//to//missing", "/to//missing", "/missing"]


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("/to/http://192.0.2.1/", "redirects to another host, 192.0.2.1"),
        ("/to///far.test/", "redirects to another host, far.test"),
        ("/to/http://localhost/", "redirects to another host, localhost"),
        ("/to/file:///etc/passwd", "redirects to another host"),
        ("/to/ftp://127.0.0.1/", "unsupported protocol"),
        ("/round", "more than 5 redirects"),
    ],
)
async def test_redirects_that_are_refused(site: Site, way: str, said: str) -> None:
    assert said in (await fetched(site.url(way)))["error"]
    assert len(site.asked) == (6 if way == "/round" else 1)


async def test_a_setting_opens_the_door(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.0.0.0 is no loopback address, yet leads here."""
    url = HttpUrl(site.url("/", "0.0.0.0"))  # noqa: S104 - nobody listens on it here
    assert "error" in (await fetch_all([url]))[0]
    monkeypatch.setenv("JOBTRAIL_DEMO_FETCH_ANYWHERE", "1")
    assert (await fetch_all([url]))[0]["status"] == 200


async def test_proxies_of_the_environment_are_not_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:3128")
    monkeypatch.setenv("ALL_PROXY", "http://192.0.2.1:3128")
    assert (await fetched(site.url("/")))["status"] == 200


async def test_a_page_is_cut_off_at_its_limits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "LARGEST", 1_000)
    assert "more than" in (await fetched(site.url("/long")))["error"]
    monkeypatch.setattr(web, "PATIENCE", 0.05)
    site.everyone_is_here = asyncio.Barrier(2)
    assert (await fetched(site.url("/")))["error"] == "no answer within 0.05 s"
    await site.everyone_is_here.abort()


async def test_a_name_that_cannot_be_one_is_an_error_of_its_page() -> None:
    assert (await fetched(f"http://{'x' * 64}.test/"))["error"]
    assert (await fetched("http://[::1/"))["error"]


@pytest.mark.parametrize(
    ("address", "is_here"),
    [("127.8.9.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("::ffff:10.0.0.1", False), ("10.0.0.1", False)],
)
def test_which_addresses_are_of_this_machine(address: str, is_here: bool) -> None:
    assert web._is_loopback(address) is is_here
