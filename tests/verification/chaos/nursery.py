"""`python -m chaos.nursery` imports Jobtrail once, and forks a process of it whenever it is told to.

A process that starts by itself takes two seconds to import what it needs, which a small size has not. Told is a line of
JSON, an `Order`; said are the pid, and later the exit code, with the order's number.

`dies` is for a service that ends by its own hand with the first job that it takes, when that is committed and not
launched yet: `commit` before the answer, `answer` after the answer has left, with a node that has not heard of the job.
"""

import asyncio
import json
import os
import selectors
import signal
import sys
from typing import Any, NamedTuple, NoReturn

from chaos import clocked, leash, tasks
from jobtrail import app, cli
from jobtrail.api import jobs
from jobtrail.worker.node import Node

IMPORTED = (app, tasks)


class Order(NamedTuple):
    """`words` of the command line; what the process says goes to `out` and `log`; `environ` is all that it has."""

    number: int
    words: list[str]
    folder: str
    out: str
    log: str
    environ: dict[str, str]
    dies: str | None = None


def main() -> None:
    """Until there is nobody to give orders."""
    children = selectors.DefaultSelector()
    children.register(0, selectors.EVENT_READ)
    waiting = b""
    while True:
        for key, _ in children.select():
            if key.fd:
                children.unregister(key.fd)
                _bury(key.fd, *key.data)
            elif read := os.read(0, 65536):
                *lines, waiting = (waiting + read).split(b"\n")
                for line in lines:
                    _bear(Order(**json.loads(line)), children)
            else:
                return


def _bear(order: Order, children: selectors.BaseSelector) -> None:
    parent = os.getpid()
    if (child := os.fork()) == 0:
        leash.hold(parent)
        _become(order)
    children.register(os.pidfd_open(child), selectors.EVENT_READ, (order.number, child))
    _say(order.number, pid=child)


def _bury(ended: int, number: int, child: int) -> None:
    os.close(ended)
    _say(number, ended=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def _say(number: int, **said: int) -> None:
    print(json.dumps({"number": number, **said}), flush=True)


def _become(order: Order) -> NoReturn:
    os.setsid()
    os.chdir(order.folder)
    for target, (path, flags) in enumerate(((os.devnull, os.O_RDONLY), (order.out, _WRITE), (order.log, _WRITE))):
        os.dup2(os.open(path, flags, 0o644), target)
    os.environ.clear()
    os.environ.update(order.environ)
    if order.dies == "answer":
        Node.launch = _die_soon  # type: ignore[assignment,method-assign]
    elif order.dies == "commit":
        jobs.submit = _committed(jobs.submit)  # type: ignore[attr-defined]
    sys.argv = ["jobtrail", *order.words]
    (clocked if clocked.WRONG_BY in order.environ else cli).main()
    sys.exit(0)


_WRITE = os.O_WRONLY | os.O_CREAT | os.O_APPEND


def _die_soon(*_: object) -> None:
    asyncio.get_running_loop().call_later(0.1, _die)  # the answer is written in this turn of the loop


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _committed(submit: Any) -> Any:
    async def die_after(*args: Any, **more: Any) -> NoReturn:
        await submit(*args, **more)
        _die()

    return die_after


if __name__ == "__main__":
    main()
