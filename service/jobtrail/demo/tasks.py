"""Sample tasks: what each takes is its schema, and how it may be repeated stands in its decorator."""

import asyncio
import re
import smtplib
import time
from collections import Counter
from email import policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
from pydantic import Field, HttpUrl
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobtrail import JobContext, Retry, task
from jobtrail.errors import SettingsError

LARGEST: Final = 5 * 1024 * 1024
"""Bytes of a document or a page."""

PATIENCE: Final = 10.0
"""Seconds for a page or a mail."""

_CHUNK: Final = 200_000

Address = Annotated[str, Field(max_length=254, pattern=r"^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$")]
Line = Annotated[str, Field(max_length=200, pattern=r"^[^\r\n]*$")]


class DemoSettings(BaseSettings):
    """Where the tasks find what they work with: set by `jobtrail demo`, read when a task runs.

    `fetch_anywhere` lets `fetch_all` leave this machine, with all that this means.
    """

    model_config = SettingsConfigDict(
        env_prefix="JOBTRAIL_DEMO_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    samples: Path | None = None
    mail_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    fetch_anywhere: bool = False


@task(runs_in="process")
def sum_range(context: JobContext, n: Annotated[int, Field(ge=0, le=1_000_000_000)]) -> int:
    """Add up 0, 1, 2 … n - 1, one by one: work for the CPU, so it has a process. It says how far it has come."""
    total = 0
    for start in range(0, n, _CHUNK):
        context.progress(start, n, "adding up")
        for each in range(start, min(start + _CHUNK, n)):
            total += each
    context.progress(n, n, "done")
    return total


@task
def index_document(path: Annotated[str, Field(min_length=1, max_length=200)]) -> dict[str, Any]:
    """Count the words of a document in the samples folder, and list its sections."""
    folder = DemoSettings().samples
    if folder is None:
        raise SettingsError("JOBTRAIL_DEMO_SAMPLES is not set: name a folder, or use the one of `jobtrail demo`")
    root = folder.resolve(strict=True)
    found = (root / path).resolve()  # where links lead, too
    if not (found.is_relative_to(root) and found.is_file()):
        there = ", ".join(sorted(each.name for each in root.iterdir()))
        raise ValueError(f"{path!r} is not a document in the samples folder; there is: {there}")
    with found.open("rb") as opened:
        raw = opened.read(LARGEST + 1)
    if len(raw) > LARGEST:
        raise ValueError(f"{path!r} is larger than {LARGEST // 1024**2} MiB")
    text = raw.decode("utf-8")
    words = Counter(re.findall(r"[^\W\d_]+", text.lower()))
    return {
        "lines": len(text.splitlines()),
        "words": words.total(),
        "different_words": len(words),
        "most_frequent": words.most_common(10),
        "sections": re.findall(r"^#{1,6} +(.+)$", text, re.MULTILINE),
    }


@task(timeout=120)
async def fetch_all(
    urls: Annotated[list[HttpUrl], Field(min_length=1, max_length=100)],
    at_once: Annotated[int, Field(ge=1, le=20)] = 5,
) -> list[dict[str, Any]]:
    """Fetch pages, at most `at_once` at a time; a page's error is in the result, and does not fail the job."""
    anywhere = DemoSettings().fetch_anywhere
    gate = asyncio.Semaphore(at_once)

    async def fetch(url: HttpUrl) -> dict[str, Any]:
        """Status and bytes, or what went wrong."""
        if not anywhere and not _is_loopback(url.host or ""):
            return {"error": f"{url.host} is not on this machine; JOBTRAIL_DEMO_FETCH_ANYWHERE=1 would allow it"}
        try:
            async with asyncio.timeout(PATIENCE), client.stream("GET", str(url), timeout=None) as response:
                size = 0
                async for chunk in response.aiter_raw():
                    size += len(chunk)
                    if size > LARGEST:
                        return {"error": f"more than {LARGEST // 1024**2} MiB"}
                return {"status": response.status_code, "bytes": size}
        except TimeoutError:
            return {"error": f"no answer within {PATIENCE:g} s"}
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return {"error": str(error) or type(error).__name__}

    async def timed(url: HttpUrl) -> dict[str, Any]:
        async with gate:
            began = time.monotonic()
            found = await fetch(url)
            return {"url": str(url), "seconds": round(time.monotonic() - began, 3), **found}

    # a proxy of the environment, or a redirect, would lead to where the URL does not
    async with httpx.AsyncClient(trust_env=False, follow_redirects=anywhere, max_redirects=5) as client:
        return await asyncio.gather(*map(timed, urls))


def _is_loopback(host: str) -> bool:
    """By the address that is written: another name could lead to another machine by the time it is called."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@task(max_attempts=3, retry=Retry(base=0.5, on=(OSError,)))
def send_mail(
    context: JobContext, to: Address, subject: Line, body: Annotated[str, Field(max_length=100_000)]
) -> dict[str, str]:
    """Send a mail to the demo's own catcher. Its Message-ID is the same in every attempt: a repeat can be told."""
    port = DemoSettings().mail_port
    if port is None:
        raise SettingsError("JOBTRAIL_DEMO_MAIL_PORT is not set: `jobtrail demo` catches mail on a port of its own")
    message = EmailMessage(policy=policy.SMTP)  # it refuses a line break in a header, as the signature does
    message["From"] = "Jobtrail <demo@jobtrail.invalid>"
    message["To"] = to
    message["Subject"] = subject
    message["Message-ID"] = f"<{context.idempotency_token}@jobtrail.invalid>"
    message.set_content(body)
    context.log.info("the mail has the Message-ID %s in every attempt", message["Message-ID"])
    with smtplib.SMTP("127.0.0.1", port, local_hostname="localhost", timeout=PATIENCE) as connection:
        connection.send_message(message)
    return {"message_id": message["Message-ID"], "accepted_by": f"127.0.0.1:{port}"}


@task(max_attempts=3, retry=Retry(base=0.5))
def flaky(context: JobContext, fail_times: Annotated[int, Field(ge=0, le=1000)] = 2) -> str:
    """Fail on purpose in the first attempts."""
    if context.attempt <= fail_times:
        raise ConnectionError(f"attempt {context.attempt} fails on purpose")
    return f"attempt {context.attempt} went well"


@task(max_attempts=2, retry=None)
async def nap(context: JobContext, seconds: Annotated[float, Field(ge=0, le=3600)]) -> str:
    """Sleep: time to cancel the job, or to kill its process. Then it runs once more, from the beginning."""
    context.log.info("asleep for %g s", seconds)
    await asyncio.sleep(seconds)
    context.log.info("awake again")
    return f"slept for {seconds:g} s in attempt {context.attempt}"
