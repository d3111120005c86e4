"""A fresh interpreter for a process for tasks, prepared as multiprocessing's `spawn` prepares one.

It is no Process of multiprocessing: that would run the node's main module before anybody could say what went wrong
there, and the node could not end before it.
"""

import logging
import os
import pickle
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import spawn
from typing import Final

from jobtrail.worker.processes.messages import Setup

_BOOT: Final = """
import os, pickle, socket, traceback
try:
    line = socket.socket(fileno={line})
    with line.makefile("rb") as said:
        from multiprocessing.spawn import prepare
        prepare(pickle.load(said))
        from jobtrail.worker.processes.child import serve
        setup = pickle.load(said)
    serve(line, setup)
except BaseException:
    os.write({cry}, traceback.format_exc().encode(errors="replace")[-{most}:])
finally:
    os._exit(1)
"""

_LAST_WORDS: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Interpreter:
    """`cries`: where its last words can be read; `greeting`: what it waits for on its line."""

    process: "subprocess.Popen[bytes]"
    cries: int
    greeting: bytes


def start(line: socket.socket, modules: Sequence[str]) -> Interpreter:
    """Raises OSError, RuntimeError when there can be no process."""
    preparation = spawn.get_preparation_data("jobtrail")
    preparation.pop("authkey", None)  # it refuses to be written down, and is for connections that there are none of
    main = {key: preparation.pop(key) for key in list(preparation) if key.startswith("init_main")}
    cries, cry = os.pipe()
    os.set_blocking(cries, False)
    try:
        greeting = pickle.dumps(preparation) + pickle.dumps(Setup(modules, main, _levels(), os.getpid(), cry))
        *command, _code, _program, _mark = spawn.get_command_line()
        boot = _BOOT.format(line=line.fileno(), cry=cry, most=_LAST_WORDS)
        process = subprocess.Popen(  # noqa: S603 - this interpreter, with its own flags
            [*command, "-P", "-c", boot, "jobtrail"],
            stdin=subprocess.DEVNULL,
            pass_fds=(line.fileno(), cry),
            process_group=0,
        )
    except BaseException:
        os.close(cries)
        raise
    finally:
        os.close(cry)
    return Interpreter(process, cries, greeting)


def _levels() -> dict[str, int]:
    """What the node's loggers let through, as far as somebody chose it."""
    root = logging.getLogger()
    chosen = {
        name: logger.level for name, logger in root.manager.loggerDict.items() if isinstance(logger, logging.Logger)
    }
    return {"": root.level, **{name: level for name, level in chosen.items() if level != logging.NOTSET}}
