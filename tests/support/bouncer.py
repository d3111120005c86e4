"""PgBouncer in transaction mode before a PostgreSQL."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from jobtrail.db.embedded import EmbeddedPostgres
from support.embedded import wait_until
from support.servers import environment, reachable_folder

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")

_CONFIGURATION = """
[databases]
* = host={host} port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 40
max_client_conn = 1000
logfile = {folder}/pgbouncer.log
"""


@contextmanager
def pgbouncer(server: EmbeddedPostgres) -> Iterator[str]:
    """`host:port` of one that leads to any database of the server."""
    assert PROGRAM, "PgBouncer is not installed"
    place = parse_qs(urlsplit(server.url).query)
    with reachable_folder() as folder:
        folder.chmod(0o777)
        listen = _free_port()
        owner = Path(place["host"][0], f".s.PGSQL.{place['port'][0]}").owner()  # root is refused, others cannot get in
        said = _CONFIGURATION.format(host=place["host"][0], port=place["port"][0], listen=listen, folder=folder)
        (folder / "pgbouncer.ini").write_text(said + (f"user = {owner}\n" if os.geteuid() == 0 else ""))
        process = subprocess.Popen(
            [PROGRAM, str(folder / "pgbouncer.ini")], env=environment(), stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: _answers(listen))
            yield f"127.0.0.1:{listen}"
        finally:
            process.terminate()
            process.wait(10)


def through(bouncer: str, url: str) -> str:
    """The same database by another way."""
    parts = urlsplit(url)
    return f"{parts.scheme}://postgres@{bouncer}{parts.path}?pgbouncer=true"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
