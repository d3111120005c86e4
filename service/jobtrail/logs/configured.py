"""Where the lines of a process go."""

import logging
import sys
from collections.abc import Sequence
from typing import Literal

from jobtrail.job.redaction import WORDS, Redaction
from jobtrail.logs.bound import BoundFields
from jobtrail.logs.lines import OneLine, as_json, as_text


def configure(
    format: Literal["text", "json"],  # noqa: A002 — the setting's own word
    level: str,
    redact: Sequence[str] = WORDS,
) -> None:
    """Every record of the process to standard error, in one form, without extra fields that have one of the words
    `redact` in their names. For composition roots; start uvicorn with `log_config=None` afterwards, or it puts its own
    handlers back.
    """
    handler = _StandardError()
    handler.setFormatter(OneLine(as_text if format == "text" else as_json, Redaction(redact)))
    handler.addFilter(BoundFields())
    root = logging.getLogger()
    for former in [each for each in root.handlers if type(each) in {logging.StreamHandler, _StandardError}]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    logging.captureWarnings(capture=True)


class _StandardError(logging.Handler):
    """Standard error as it is now, not as it was when logging was configured: a test or a daemon may replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 — a reader that went away must not end the service
            self.handleError(record)
