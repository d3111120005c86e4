"""Every block of the README and of the pages that follow it is run as it is written.

Of the addresses only the ports and the database are changed.
"""

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from jobtrail.db.embedded import EmbeddedPostgres
from jobtrail.db.programs import installed_programs
from support import forks
from support.demo import Demo, answers, demo_folder, free_port
from support.embedded import used_before
from support.readme import Block, Shell, blocks, differences, last_json, table
from support.servers import environment
from support.until import until

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text()
PAGES = [README, *((TOP / "docs" / f"{name}.md").read_text() for name in ("guide", "embedding"))]
BLOCKS = [block for page in PAGES for block in blocks(page)]
THEIRS = "postgresql://me:secret@127.0.0.1:5432/mine"
ADDRESS = "127.0.0.1:8000"
OTHERS = {port: str(free_port()) for port in ("8001", "8002", "1025")}

WORK = """{command} >work.log 2>&1 & working=$!
until grep -q Ctrl-C work.log; do kill -0 $working; sleep 0.1; done
cat work.log; kill -TERM $working; wait $working; echo "stopped with $?"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """What a reader has: a checkout with its virtual environment, and the modules that the README writes."""
    with demo_folder() as folder:
        used_before(folder / "postgres")
        for name in ("alembic.ini", "migrations", "service"):
            (folder / name).symlink_to(TOP / name)
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name in ("jobtrail", "alembic", "uvicorn", "aiosmtpd", "pytest"):
            python = sys.executable if name == "pytest" else shlex.join(forks.quick())
            (programs / name).write_text(f'#!/bin/sh\nexec {python} -m {name} "$@"\n')
            (programs / name).chmod(0o755)
        (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (programs / "python").chmod(0o755)
        for block in BLOCKS:
            if block.language == "python":
                module = folder / block.text.splitlines()[0].removeprefix("# ")
                module.parent.mkdir(exist_ok=True)
                module.write_text(_at_free_ports(block.text))
        yield folder


async def test_every_block_is_true(folder: Path, empty_url: str) -> None:
    async with Demo.start(folder) as demo:
        await demo.says("until Ctrl-C")
        port = demo.url.rpartition(":")[2]
        own = {"PYTHONPATH": str(TOP / "service"), "JOBTRAIL_DATA_DIR": str(folder / "postgres"), "JOBTRAIL_PORT": port}
        variables = environment(**own)
        variables["PATH"] += f":{installed_programs().where}"  # a psql, where the system has none
        async with Shell.open(folder, variables) as shell:
            reader = Reader(shell, port, EmbeddedPostgres(folder / "postgres").url, empty_url)
            for block in BLOCKS:
                await reader.read(block)
            assert reader.compared == sum(block.language in {"json", "text"} for block in BLOCKS)
            assert reader.serving
            await shell.run(f"psql -X '{empty_url}' -c 'CREATE TABLE bookings (amount int)'")
            await shell.run(f"psql -X '{empty_url}' -c 'CREATE TABLE prices (id int PRIMARY KEY, price numeric)'")
            key = (await shell.run("echo $KEY")).strip()
            await check_the_tasks(f"http://127.0.0.1:{reader.port}/v1/jobs", key)
            assert "(2 rows)" in await shell.run(f"psql -X '{empty_url}' -c 'SELECT amount FROM bookings'")
            assert "stopped with 0" in await shell.run('kill -TERM "$serving"; wait "$serving"; echo "stopped with $?"')
        assert (await demo.stop())[0] == 0


class Reader:
    """Goes through the blocks in their order. `port` is where the service is that the README speaks of right now."""

    def __init__(self, shell: Shell, port: str, embedded: str, url: str) -> None:
        self._shell = shell
        self._embedded = embedded
        self._url = url
        self._said = ""
        self.port = port
        self.compared = 0
        self.serving = False

    async def read(self, block: Block) -> None:
        text = block.text.replace(ADDRESS, f"127.0.0.1:{self.port}").replace(THEIRS, f"'{self._url}'")
        text = _at_free_ports(text)
        match block.language:
            case "sh" if text.startswith("make "):
                for line in text.splitlines():
                    await asyncio.to_thread(
                        subprocess.run, [*line.split(), "-n"], cwd=TOP, check=True, capture_output=True
                    )
            case "sh" if "jobtrail serve" in text:
                await self._serve(text)
            case "sh" if "uvicorn " in text:
                await self._shell.run(text.replace(" & ", " >>app.log 2>&1 & "))
                [port] = re.findall(r"uvicorn .*--port (\d+)", text)
                await answers(f"http://127.0.0.1:{port}", within=120, at="/openapi.json")
            case "sh" if "jobtrail work" in text:
                said = await self._shell.run(WORK.format(command=text.strip()))
                assert "works on queues reports: 4 slots, 2 threads" in said
                assert said.rstrip().endswith("stopped with 0")
            case "sh":
                self._said = await self._shell.run(text)
            case "sql":
                self._said = await self._shell.run(f"psql -X '{self._embedded}' <<'SQL'\n{text}SQL")
            case "json":
                self.compared += 1
                assert differences(json.loads(block.text), last_json(self._said)) == []
            case "text":
                self.compared += 1
                assert table(self._said) == table(block.text)

    async def _serve(self, text: str) -> None:
        if self.serving:
            await self._shell.run('kill -TERM "$serving"; wait "$serving"')
        self.port, self.serving = str(free_port()), True
        await self._shell.run(f"JOBTRAIL_PORT={self.port} {text.strip()} >>serve.log 2>&1 & serving=$!")
        await answers(f"http://127.0.0.1:{self.port}", within=120)


def _at_free_ports(text: str) -> str:
    for written, port in OTHERS.items():
        text = text.replace(written, port)
    return text


async def check_the_tasks(jobs: str, key: str) -> None:
    """All that the guide's modules declare: they run, and give what they say."""
    args = {
        "greet": {"name": "Ada"},
        "fetch_rates": {"day": "2026-01-31", "currencies": ["EUR", "CHF"]},
        "build_report": {"customer": "01a20174-a48c-7621-83c5-f0941a121fca", "day": "2026-01-31"},
        "order": {"count": 2},
        "book": {"amounts": [3, 4]},
        "import_prices": {"rows": 10_000},
    }
    bearer = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(trust_env=False, headers=bearer) as client:
        ids = [(await client.post(jobs, json={"task": task, "args": args[task]})).json()["id"] for task in args]

        async def ended() -> list[dict[str, object]] | None:
            found = [(await client.get(f"{jobs}/{each}")).json() for each in ids]
            return found if all(job["finished_at"] for job in found) else None

        welcome, rates, report, order, book, imported = await until(ended)
        log = (await client.get(f"{jobs}/{book['id']}/log")).json()["items"]
    assert welcome["result"] == "greeted Ada in en"
    assert rates["result"] == {"EUR": 1.0, "CHF": 1.0}
    assert report["result"] == f"01a20174-a48c-7621-83c5-f0941a121fca 2026-01-31 {ids[2]}"
    assert (order["result"], order["attempt"]) == ("ordered 2 of 3", 2)
    assert (book["result"], book["progress"]) == (7, {"done": 1, "total": 2, "note": "checking 4"})
    assert (imported["result"], imported["progress"]["done"]) == (10_000, 10_000)
    assert [line["message"] for line in log] == ["amount 0 is 3", "amount 1 is 4"]
    assert [job["queue"] for job in (welcome, rates, report)] == ["default", "default", "reports"]


def test_every_block_says_its_language() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "json", "python", "sql", "text", "diff"}
    assert sum(page.count("```") for page in PAGES) == 2 * len(BLOCKS)
    assert all(re.match(r"# [\w/]+\.py\n", block.text) for block in BLOCKS if block.language == "python")


def test_the_settings_are_those_of_the_example() -> None:
    example = dict(re.findall(r"^(?:# )?(JOBTRAIL_\w+)=(.*)$", (TOP / ".env.example").read_text(), re.MULTILINE))
    rows = [line.split("|")[1:3] for line in README.splitlines() if line.startswith("| `JOBTRAIL_")]
    told = {
        name: default
        for names, defaults in rows
        for name, default in zip(
            re.findall(r"JOBTRAIL_\w+", names), re.findall(r"`(.*?)`", defaults) or [""], strict=True
        )
    }
    assert len(told) > 10
    assert told | {"JOBTRAIL_DATABASE_URL": ""} == {name: example[name] for name in told} | {
        "JOBTRAIL_DATABASE_URL": ""
    }
    assert set(re.findall(r"JOBTRAIL_\w+", README)) <= example.keys()


@pytest.mark.parametrize(
    ("written", "found", "wrong"),
    [
        ({"id": "01a20174-a48c-7621-83c5-f0941a121fca"}, {"id": "11a20174-a48c-7621-83c5-f0941a121fca"}, 0),
        ({"at": "2026-11-22T04:12:31.245948Z"}, {"at": None}, 1),
        ({"status": "failed"}, {"status": "succeeded"}, 1),
        ({"status": "failed"}, {"status": "failed", "more": 1}, 1),
        ({"status": "failed", "…": "…"}, {"status": "failed", "more": 1}, 0),
        ({"gone": 1, "…": "…"}, {"status": "failed"}, 1),
        ([{"n": 1}], [{"n": 2}], 1),
        ([1], [1, 2], 1),
        (1, True, 1),
        ("eyJ…", "abc", 0),
    ],
)
def test_a_lie_is_found(written: object, found: object, wrong: int) -> None:
    assert len(differences(written, found)) == wrong
