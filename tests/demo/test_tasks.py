import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import HttpUrl

from jobtrail import Task, demo
from jobtrail.cli.demo import make_samples
from jobtrail.demo import fetch_all, flaky, index_document, nap, send_mail, sum_range, tasks
from jobtrail.demo.mail import Caught, catch
from jobtrail.demo.tasks import LARGEST
from jobtrail.errors import InvalidArgumentsError, SettingsError
from jobtrail.task.catalog import Catalog
from support.contexts import Untied, context_of

MAIL = {"to": "ada@example.org", "subject": "Grüße", "body": "Hello\n.\nFrom here"}


def test_the_catalog_of_the_demo() -> None:
    found = Catalog.from_modules([demo])
    assert {task.name: task.runs_in for task in found} == {
        "fetch_all": "loop",
        "flaky": "thread",
        "index_document": "thread",
        "nap": "loop",
        "send_mail": "thread",
        "sum_range": "process",
    }
    assert all(task.description for task in found)


@pytest.mark.parametrize("n", [0, 1, 2, 200_000, 450_000])
def test_sum_range_says_how_far_it_has_come(n: int) -> None:
    ties = Untied()
    assert sum_range(context_of(ties=ties), n) == n * (n - 1) // 2
    assert [said.done for said in ties.reported] == [*range(0, n, 200_000), n]


def test_flaky_fails_as_often_as_asked_and_has_three_attempts() -> None:
    for attempt in (1, 2):
        with pytest.raises(ConnectionError, match=f"attempt {attempt} fails on purpose"):
            flaky(context_of(attempt=attempt), fail_times=2)
    assert flaky(context_of(attempt=3), fail_times=2) == "attempt 3 went well"
    assert (flaky.max_attempts, flaky.retry and flaky.retry.base) == (3, 0.5)


async def test_a_nap_logs_what_it_does_and_begins_again_only_when_it_was_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        assert await nap(context_of(attempt=2), seconds=0.01) == "slept for 0.01 s in attempt 2"
    assert caplog.messages == ["asleep for 0.01 s", "awake again"]
    assert (nap.max_attempts, nap.retry) == (2, None)


@pytest.mark.parametrize(
    ("task", "args"),
    [
        (sum_range, {"n": -1}),
        (sum_range, {"n": 10**9 + 1}),
        (sum_range, {"n": "five"}),
        (flaky, {"fail_times": -1}),
        (nap, {"seconds": 3601}),
        (index_document, {"path": ""}),
        (fetch_all, {"urls": []}),
        (fetch_all, {"urls": ["http://127.0.0.1/"] * 101}),
        (fetch_all, {"urls": ["file:///etc/passwd"]}),
        (fetch_all, {"urls": ["http://127.0.0.1/"], "at_once": 0}),
        (fetch_all, {"urls": ["http://127.0.0.1/"], "at_once": 21}),
        (send_mail, {**MAIL, "subject": "x" * 201}),
        (send_mail, {**MAIL, "subject": "x\r\nBcc: eve@example.org"}),
        (send_mail, {**MAIL, "to": "ada@example.org\nBcc: eve@example.org"}),
        (send_mail, {**MAIL, "to": "ada"}),
        (send_mail, {**MAIL, "to": "ada@example.org, eve@example.org"}),
        (send_mail, {**MAIL, "to": "Ada <ada@example.org>"}),
    ],
)
def test_refused_at_the_door(task: Task[..., Any], args: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentsError):
        task.signature.check(args)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The samples; beside them lies what nobody may read."""
    (tmp_path / "secret.txt").write_text("secret")
    samples = tmp_path / "samples"
    samples.mkdir()
    make_samples(samples)
    monkeypatch.setenv("JOBTRAIL_DEMO_SAMPLES", str(samples))
    return samples


def test_the_samples_are_real_documents(folder: Path) -> None:
    readme, licence = index_document("README.md"), index_document("python-licence.txt")
    assert readme["sections"][0] == "Jobtrail"
    assert licence["words"] > 1_000
    assert "Python Software Foundation" in (folder / "python-licence.txt").read_text()


def test_words_and_sections_of_a_document(folder: Path) -> None:
    (folder / "sea.md").write_text("# The sea\n\nThe waves, the SEA; 12 waves_\n\n### Third\n#no-heading\n")
    (folder / "link.md").symlink_to("sea.md")
    found = index_document("link.md")
    assert found["sections"] == ["The sea", "Third"]
    assert found["most_frequent"][:3] == [("the", 3), ("sea", 2), ("waves", 2)]
    assert (found["lines"], found["words"], found["different_words"]) == (6, 10, 6)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/etc/passwd", "is not a document in the samples folder; there is: README.md, "),
        ("../secret.txt", "is not a document"),
        ("deeper/../../secret.txt", "is not a document"),
        ("way-out", "is not a document"),
        ("way-up/secret.txt", "is not a document"),
        ("dangling", "is not a document"),
        ("README.md/x", "is not a document"),
        (".", "is not a document"),
        ("pipe", "is not a document"),
        ("README.md\0.txt", "null byte"),
        ("large.txt", "is larger than 5 MiB"),
        ("latin.txt", "'utf-8' codec can't decode"),
    ],
)
def test_no_other_document_is_read(folder: Path, path: str, said: str) -> None:
    (folder / "way-out").symlink_to(folder.parent / "secret.txt")
    (folder / "way-up").symlink_to("..")
    (folder / "dangling").symlink_to("nothing")
    os.mkfifo(folder / "pipe")
    (folder / "large.txt").write_bytes(b" " * (LARGEST + 1))
    (folder / "latin.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match=said):
        index_document(path)


def test_without_its_settings_a_task_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAMPLES", "MAIL_PORT"):
        monkeypatch.delenv(f"JOBTRAIL_DEMO_{name}", raising=False)
    with pytest.raises(SettingsError, match=r"^JOBTRAIL_DEMO_SAMPLES is not set"):
        index_document("README.md")
    with pytest.raises(SettingsError, match=r"^JOBTRAIL_DEMO_MAIL_PORT is not set"):
        send_mail(context_of("send_mail"), **MAIL)


async def test_a_mail_is_caught_and_its_repeat_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = context_of("send_mail"), context_of("send_mail")
    caught: list[Caught] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        monkeypatch.setenv("JOBTRAIL_DEMO_MAIL_PORT", str(port))
        async with catch(listening, caught.append):
            receipts = [await asyncio.to_thread(send_mail, each, **MAIL) for each in (ours, ours, other)]
    ids = [f"<{each.idempotency_token}@jobtrail.invalid>" for each in (ours, ours, other)]
    assert receipts == [{"message_id": each, "accepted_by": f"127.0.0.1:{port}"} for each in ids]
    assert caught == [
        Caught("ada@example.org", "Grüße", ids[0], is_repeat=False),
        Caught("ada@example.org", "Grüße", ids[1], is_repeat=True),
        Caught("ada@example.org", "Grüße", ids[2], is_repeat=False),
    ]


@dataclass
class Site:
    """A web server on this machine; with a barrier it answers when so many requests are there at once."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    barrier: asyncio.Barrier | None = None

    def url(self, path: str, host: str = "127.0.0.1") -> HttpUrl:
        return HttpUrl(f"http://{host}:{self.port}{path}")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        self.asked.append(path)
        if self.barrier:
            await self.barrier.wait()
        self.at_once -= 1
        writer.write(ANSWERS.get(path, OK + b"Content-Length: 5\r\n\r\nhello"))
        writer.close()


OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "/missing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone",
    "/chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "/away": b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n",
    "/silent": b"",
    "/nonsense": b"MAIL FROM\r\n\r\n",
    "/long": OK + b"\r\n" + b"x" * 2_000,
}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    async with server:
        yield site


async def test_every_page_has_its_status_and_its_bytes_or_its_error(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No redirect is followed, and no proxy of the environment asked."""
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:3128")
    paths = ("/", "/missing", "/chunked", "/away", "/silent", "/nonsense")
    urls = [*(site.url(path) for path in paths), site.url("/", "localhost"), HttpUrl("http://127.0.0.1:1/")]
    found = await fetch_all(urls)
    assert [each["url"] for each in found] == [str(url) for url in urls]
    assert [(each.get("status"), each.get("bytes"), "error" in each) for each in found] == [
        (200, 5, False), (404, 4, False), (200, 5, False), (302, 0, False),
        (None, None, True), (None, None, True), (200, 5, False), (None, None, True),
    ]  # fmt: skip


@pytest.mark.parametrize("at_once", [1, 3])
async def test_no_more_pages_at_once_than_asked(site: Site, at_once: int) -> None:
    site.barrier = asyncio.Barrier(at_once)
    found = await fetch_all([site.url(f"/{number}") for number in range(6)], at_once=at_once)
    assert [each.get("status") for each in found] == [200] * 6
    assert site.most_at_once == at_once


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "0.0.0.0", "10.0.0.1", "[2001:db8::1]", "[::ffff:192.0.2.1]", "here.test"]  # noqa: S104
)  # fmt: skip
async def test_other_machines_are_refused_unless_a_setting_allows_them(
    site: Site, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = await fetch_all([site.url("/", host)])
    assert "is not on this machine; JOBTRAIL_DEMO_FETCH_ANYWHERE=1 would allow it" in found["error"]
    assert site.asked == []
    if host == "0.0.0.0":  # noqa: S104 - no loopback address, yet it leads here
        monkeypatch.setenv("JOBTRAIL_DEMO_FETCH_ANYWHERE", "1")
        assert (await fetch_all([site.url("/", host)]))[0]["status"] == 200


async def test_a_page_is_cut_off_at_its_limits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "LARGEST", 1_000)
    assert "more than" in (await fetch_all([site.url("/long")]))[0]["error"]
    monkeypatch.setattr(tasks, "PATIENCE", 0.05)
    site.barrier = asyncio.Barrier(2)
    assert (await fetch_all([site.url("/")]))[0]["error"] == "no answer within 0.05 s"
    await site.barrier.abort()
