"""The sample tasks: limits of their arguments, and what each does with real input."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from pydantic import HttpUrl

from jobtrail import Task, demo
from jobtrail.cli.demo import make_samples
from jobtrail.demo import fetch_all, flaky, index_document, nap, send_mail, sum_range, tasks
from jobtrail.demo.tasks import LARGEST
from jobtrail.demo.tour import Trail, catch
from jobtrail.errors import InvalidArgumentsError, SettingsError
from jobtrail.task.catalog import Catalog
from support.contexts import Untied, context_of
from support.world import Place, services_at

MAIL = {"to": "ada@example.org", "subject": "Grüße", "body": "Hello\n.\nFrom here"}
LOCAL = ["http://127.0.0.1/"]


def test_the_catalog_of_the_demo() -> None:
    found = Catalog.from_modules([demo])
    assert {task.name: task.runs_in for task in found} == {
        "fetch_all": "loop", "flaky": "thread", "index_document": "thread", "nap": "loop", "send_mail": "thread",
        "sum_range": "process",
    }  # fmt: skip
    assert all(task.description for task in found)


@pytest.mark.parametrize("n", [0, 1, 450_000])
def test_sum_range_says_how_far_it_has_come(n: int) -> None:
    ties = Untied()
    assert sum_range(context_of(ties=ties), n) == n * (n - 1) // 2
    assert [said.done for said in ties.reported] == [*range(0, n, 200_000), n]


async def test_what_may_begin_again() -> None:
    for attempt in (1, 2):
        with pytest.raises(ConnectionError, match=f"attempt {attempt} fails on purpose"):
            flaky(context_of(attempt=attempt), fail_times=2)
    assert flaky(context_of(attempt=3), fail_times=2) == "attempt 3 went well"
    assert (flaky.max_attempts, flaky.retry and flaky.retry.base) == (3, 0.5)
    assert await nap(context_of(attempt=2), seconds=0.01) == "slept for 0.01 s in attempt 2"
    assert (nap.max_attempts, nap.retry) == (2, None), "only when it was lost"


@pytest.mark.parametrize(
    ("task", "rest", "name", "values"),
    [
        (sum_range, {}, "n", [-1, 10**9 + 1, "five"]),
        (flaky, {}, "fail_times", [-1]),
        (nap, {}, "seconds", [3601]),
        (index_document, {}, "path", [""]),
        (fetch_all, {}, "urls", [[], LOCAL * 101, ["file:///etc/passwd"]]),
        (fetch_all, {"urls": LOCAL}, "at_once", [0, 21]),
        (send_mail, MAIL, "subject", ["x" * 201, "x\r\nBcc: eve@example.org"]),
        (send_mail, MAIL, "to", ["ada", "ada@a.org\nBcc: eve@a.org", "ada@a.org, eve@a.org", "Ada <ada@a.org>"]),
    ],
)
def test_refused_at_the_door(task: Task[..., Any], rest: dict[str, object], name: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(InvalidArgumentsError) as refused:
            task.signature.check({**rest, name: value})
        assert {flaw.pointer.split("/")[1] for flaw in refused.value.flaws} == {name}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The samples; beside them lies what nobody may read."""
    (tmp_path / "secret.txt").write_text("secret")
    samples = tmp_path / "samples"
    samples.mkdir()
    make_samples(samples)
    monkeypatch.setenv("JOBTRAIL_DEMO_SAMPLES", str(samples))
    return samples


def test_words_and_sections_of_a_document(folder: Path) -> None:
    assert index_document("README.md")["sections"][0] == "Jobtrail"
    assert index_document("python-licence.txt")["words"] > 1_000
    (folder / "sea.md").write_text("# The sea\n\nThe waves, the SEA; 12 waves_\n\n### Third\n#no-heading\n")
    (folder / "link.md").symlink_to("sea.md")
    found = index_document("link.md")
    assert found["sections"] == ["The sea", "Third"]
    assert found["most_frequent"][:3] == [("the", 3), ("sea", 2), ("waves", 2)]
    assert (found["lines"], found["words"], found["different_words"]) == (6, 10, 6)


def test_no_other_document_is_read(folder: Path) -> None:
    (folder / "way-out").symlink_to(folder.parent / "secret.txt")
    (folder / "way-up").symlink_to("..")
    (folder / "dangling").symlink_to("nothing")
    os.mkfifo(folder / "pipe")
    (folder / "large.txt").write_bytes(b" " * (LARGEST + 1))
    (folder / "latin.txt").write_bytes("é".encode("latin-1"))
    outside = ["/etc/passwd", "../secret.txt", "deeper/../../secret.txt", "way-out", "way-up/secret.txt"]
    for path in [*outside, "dangling", "README.md/x", ".", "pipe"]:
        with pytest.raises(ValueError, match=r"is not a document in the samples folder; there is: README\.md, "):
            index_document(path)
    for path, said in {"a\0b": "null byte", "large.txt": "larger than 5 MiB", "latin.txt": "codec can't"}.items():
        with pytest.raises(ValueError, match=said):
            index_document(path)


def test_without_its_settings_a_task_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAMPLES", "MAIL_PORT"):
        monkeypatch.delenv(f"JOBTRAIL_DEMO_{name}", raising=False)
    with pytest.raises(SettingsError, match=r"^JOBTRAIL_DEMO_SAMPLES is not set"):
        index_document("README.md")
    with pytest.raises(SettingsError, match=r"^JOBTRAIL_DEMO_MAIL_PORT is not set"):
        send_mail(context_of("send_mail"), **MAIL)


async def test_a_mail_is_caught_and_its_repeat_is_told(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    ours, other = context_of("send_mail"), context_of("send_mail")
    caught: list[EmailMessage] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        monkeypatch.setenv("JOBTRAIL_DEMO_MAIL_PORT", str(port))
        async with catch(listening, caught.append):
            receipts = [await asyncio.to_thread(send_mail, each, **MAIL) for each in (ours, ours, other)]
    ids = [f"<{each.idempotency_token}@jobtrail.invalid>" for each in (ours, ours, other)]
    assert receipts == [{"message_id": each, "accepted_by": f"127.0.0.1:{port}"} for each in ids]
    assert [(mail["To"], mail["Subject"]) for mail in caught] == [("ada@example.org", "Grüße")] * 3
    said: list[str] = []
    trail = Trail(services_at(place), said.append, await place.value("SELECT clock_timestamp()"))
    for mail in caught:
        trail.note(mail)
    await trail.look()
    assert ["came again" in line for line in said] == [False, True, False]
    assert [line.endswith(f"Message-ID '{each}'") for line, each in zip(said, ids, strict=True)] == [True] * 3


OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "/": OK + b"Content-Length: 5\r\n\r\nhello",
    "/missing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone",
    "/chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "/away": b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n",
    "/silent": b"",
    "/nonsense": b"MAIL FROM\r\n\r\n",
    "/long": OK + b"\r\n" + b"x" * 2_000,
}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A web server on this machine; /never takes its time."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        if path == "/never":
            await reader.read()  # until the caller goes away
        writer.write(ANSWERS.get(path, b""))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_every_page_has_its_status_and_its_bytes_or_its_error(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No redirect is followed, and no proxy of the environment asked."""
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:3128")
    monkeypatch.setattr(tasks, "LARGEST", 1_000)
    here = f"http://127.0.0.1:{port}"
    urls = [HttpUrl(f"{here}{path}") for path in ANSWERS] + [HttpUrl(f"http://localhost:{port}/")]
    found = await fetch_all([*urls, HttpUrl("http://127.0.0.1:1/")], at_once=2)
    assert [each["url"] for each in found[:-1]] == [str(url) for url in urls]
    assert [(each.get("status"), each.get("bytes"), "error" in each) for each in found] == [
        (200, 5, False), (404, 4, False), (200, 5, False), (302, 0, False), (None, None, True), (None, None, True),
        (None, None, True), (200, 5, False), (None, None, True),
    ]  # fmt: skip
    assert "more than" in found[6]["error"]
    monkeypatch.setattr(tasks, "PATIENCE", 0.05)
    assert (await fetch_all([HttpUrl(f"{here}/never")]))[0]["error"] == "no answer within 0.05 s"


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "[2001:db8::1]", "[::ffff:192.0.2.1]", "here.test"])  # noqa: S104
async def test_other_machines_are_refused_unless_a_setting_allows_them(
    port: int, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = HttpUrl(f"http://{host}:{port}/")
    (found,) = await fetch_all([url])
    assert "is not on this machine; JOBTRAIL_DEMO_FETCH_ANYWHERE=1 would allow it" in found["error"]
    if host == "0.0.0.0":  # noqa: S104 - no loopback address, yet it leads here
        monkeypatch.setenv("JOBTRAIL_DEMO_FETCH_ANYWHERE", "1")
        assert (await fetch_all([url]))[0]["status"] == 200
