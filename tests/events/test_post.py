"""One signed request: what a receiver can verify, which addresses are never called, and how long it may take."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpcore
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from jobtrail.events.post import Answer, RefusedReceiverError, Sender
from jobtrail.outbound import Outbound, host_of, new_secret
from support.receiver import SECRET, Receiver, always, receiving
from support.urls import URLS

HERE = Outbound.of(["127.0.0.1", "receiver.test"], [SECRET])
BODY = '{"type":"job.succeeded","data":{"ä":1}}'.encode()
NOW = 1_900_000_000


async def post(receiver: Receiver, sender: Sender, **said: object) -> int:
    return (await answered(receiver, sender, **said)).status


async def answered(receiver: Receiver, sender: Sender, **said: object) -> Answer:
    given = {"url": receiver.url, "body": BODY, "message_id": "m-1", "timestamp": int(time.time()), "secrets": [SECRET]}
    given |= said
    return await sender.post(given.pop("url"), given.pop("body"), **given)  # type: ignore[arg-type]


async def test_what_is_sent_is_verified_by_the_library_of_receivers() -> None:
    async with receiving() as receiver:
        assert await post(receiver, Sender(HERE)) == 204
    (got,) = receiver.got
    assert got.verified() == {"type": "job.succeeded", "data": {"ä": 1}}
    assert (got.headers["content-type"], got.headers["user-agent"][:9]) == ("application/json", "Jobtrail/")
    with pytest.raises(WebhookVerificationError):
        got.verified(new_secret())
    for name, value in (("webhook-id", "m-2"), ("webhook-signature", "v1,AAAA"), ("webhook-timestamp", "1900000001")):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(got.body, got.headers | {name: value})
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(got.body + b" ", got.headers)


async def test_what_is_sent_again_by_another_is_too_old() -> None:
    async with receiving() as receiver:
        await post(receiver, Sender(HERE), timestamp=NOW - 900_000_000)
    with pytest.raises(WebhookVerificationError, match="too old"):
        receiver.got[0].verified()


async def test_two_secrets_sign_while_receivers_change() -> None:
    old, new = new_secret(), new_secret()
    async with receiving() as receiver:
        await post(receiver, Sender(HERE), secrets=[new, old])
    assert receiver.got[0].verified(old) == receiver.got[0].verified(new)


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with receiving() as other, receiving(always("307 Temporary Redirect", f"Location: {other.url}")) as receiver:
        assert await post(receiver, Sender(HERE)) == 307
    assert (len(receiver.got), other.connections) == (1, 0)


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        ("120", 120, 120), ("0", 0, 0), ("9" * 5000, 1e99, float("inf")),
        ("{:%a, %d %b %Y %H:%M:%S GMT}", 3500, 3600),
        ("{:%A, %d-%b-%y %H:%M:%S GMT}", 3500, 3600), ("{:%a %b %d %H:%M:%S %Y}", 3500, 3600),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0, 0),
    ],
)  # fmt: skip
async def test_how_long_a_receiver_wants_to_be_left_alone(said: str, least: float, most: float) -> None:
    said = said.format(datetime.now(UTC) + timedelta(hours=1))
    async with receiving(always("503 Service Unavailable", f"Retry-After: {said}")) as receiver:
        answer = await answered(receiver, Sender(HERE))
    assert answer.retry_after is not None
    assert least <= answer.retry_after <= most


@pytest.mark.parametrize(
    "said", ["", "soon", "-1", "1.5", "²", "1e3", "Fri, 31 Dec 99999 23:59:59 GMT", "0x10", "1, 2"]
)
async def test_what_says_no_time(said: str) -> None:
    async with receiving(always("429 Too Many Requests", f"Retry-After: {said}")) as receiver:
        assert await answered(receiver, Sender(HERE)) == (429, None)


async def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver, receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert await post(receiver, Sender(HERE)) == 204
    assert proxy.connections == 0


async def never(_number: int, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def dripping(_number: int, writer: asyncio.StreamWriter) -> None:
    """A byte that is always in time for a limit of each read."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.01)


async def endless(_number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"." * 65536)
        await writer.drain()


@pytest.mark.parametrize("answer", [never, dripping])
async def test_a_receiver_that_answers_slowly_or_never_has_its_time(answer: object) -> None:
    async with receiving(answer) as receiver:  # type: ignore[arg-type]
        with pytest.raises(TimeoutError):
            await post(receiver, Sender(HERE, seconds=0.3))
    assert len(receiver.got) == 1


async def test_of_a_long_answer_little_is_read() -> None:
    async with receiving(endless) as receiver:
        assert await post(receiver, Sender(HERE)) == 200


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["10.0.0.1"], ["::1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["fd00::1"], ["fe80::1%lo"],
        ["169.254.169.254"], ["93.184.215.14", "127.0.0.1"], ["127.0.0.1", "93.184.215.14"],
    ],
)  # fmt: skip
async def test_a_name_that_leads_to_this_network_is_not_connected_to(addresses: Sequence[str]) -> None:
    """The DNS is asked once, and what it says is what is judged: a second answer would find nobody who looks."""
    asked = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return addresses

    async with receiving() as receiver:
        with pytest.raises(RefusedReceiverError, match=r"hooks\.test leads to \S+, which is not public"):
            await post(receiver, Sender(Outbound(), resolve=resolve), url="https://hooks.test/")
    assert (asked, receiver.connections) == ([("hooks.test", 443)], 0)


async def test_a_name_that_changes_is_refused_from_then_on() -> None:
    """Its first address is public, and so its URL was taken; then it leads to this machine."""
    answers = iter([["127.0.0.1"], ["127.0.0.1"]])

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return next(answers)

    async with receiving() as receiver:
        url = f"http://receiver.test:{receiver.port}/"
        assert await post(receiver, Sender(HERE, resolve=resolve), url=url) == 204
        closed = Outbound(frozenset(), ())
        assert closed.flaw_of("https://receiver.test/") is None
        with pytest.raises(RefusedReceiverError):
            await post(receiver, Sender(closed, resolve=resolve), url="https://receiver.test/")
    assert receiver.connections == 1


async def test_the_next_address_is_tried() -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with receiving() as receiver:
        url = f"http://receiver.test:{receiver.port}/"
        assert await post(receiver, Sender(HERE, resolve=resolve), url=url) == 204


@pytest.mark.parametrize("url", [url for url, why in URLS.items() if why is None])
async def test_a_url_that_is_taken_can_be_asked_for(url: str) -> None:
    """The host is one that a resolver takes, and where it knows none the error says so."""
    asked = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host.encode("idna").decode(), port))
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    sender = Sender(Outbound(), resolve=resolve)
    with pytest.raises(httpcore.ConnectError, match=r"no address of \S+ is known: Name or service not known"):
        await sender.post(url, BODY, message_id="m-1", timestamp=NOW, secrets=[SECRET])
    assert asked == [(host_of(url), 443)]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("it makes the certificate")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=receiver.test"]
    files = ["-keyout", "both.pem", "-out", "cert.pem", "-addext", "subjectAltName=DNS:receiver.test"]
    subprocess.run([*made, *files], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "cert.pem"


async def test_https_verifies_the_name(certificate: Path) -> None:
    """A receiver whose certificate is not of its name, or of nobody who is trusted, gets nothing."""
    own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    own.load_cert_chain(certificate, certificate.with_name("both.pem"))

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    sender = Sender(HERE, resolve=resolve, trusted=lambda: ssl.create_default_context(cafile=certificate))
    async with receiving(tls=own) as receiver:
        url = f"https://{{}}:{receiver.port}/"
        assert await post(receiver, sender, url=url.format("receiver.test")) == 204
        for untrusting, host in ((sender, "127.0.0.1"), (Sender(HERE, resolve=resolve), "receiver.test")):
            with pytest.raises(httpcore.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await post(receiver, untrusting, url=url.format(host))
    assert len(receiver.got) == 1
