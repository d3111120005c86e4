"""Why a database cannot be reached, when it is not that nobody answers: what is wrong with its URL, and the fix."""

import ssl
from pathlib import Path

import asyncpg

from jobtrail.job.database_url import DatabaseUrl
from jobtrail.store.faults import causes, is_read_only, refusal_of

_PGBOUNCER = "unsupported startup parameter"
"""What it says to the settings of a connection."""

_NO_TLS = "rejected SSL upgrade"
"""What asyncpg says of a server that was asked for TLS and has none."""

_OF_FILES = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ssl.SSLError)

STANDBY = (
    "this server is a standby (read-only): give the primary's URL, or target_session_attrs=read-write with all hosts"
)
READ_ONLY = "it is read-only: look at default_transaction_read_only of the server, the database and the role"


def explain(url: DatabaseUrl, error: BaseException) -> str | None:
    """One line that begins with the place; None when nobody answers there."""
    at = url.shown
    if is_read_only(error):
        return f"{at}: {READ_ONLY}; if it is a standby, give the primary's URL"
    if (refusal := refusal_of(error)) is not None:
        hint = "; write sslmode=require" if "no encryption" in refusal else ""
        return f"PostgreSQL at {at} refuses: {refusal}{hint}"
    if any(isinstance(link, _OF_FILES) for link in causes(error)) and (unreadable := _unreadable(url)) is not None:
        return unreadable
    if any(_PGBOUNCER in str(link) for link in causes(error)):
        return f"PgBouncer answers at {at}: write ?pgbouncer=true at the end of the URL"
    return next((f"{at}: {said}" for link in causes(error) if (said := _of(link)) is not None), None)


def _unreadable(url: DatabaseUrl) -> str | None:
    for name, path in url.files:
        try:
            Path(path).open("rb").close()
        except OSError as error:
            return f"{name}={path}: {error.strerror}: name a file that this process can read, or leave {name} out"
    return None


def _of(link: BaseException) -> str | None:
    said = " ".join(str(link).split())
    if _NO_TLS in said:
        return "the server has no TLS, and sslmode asks for it: write sslmode=prefer or disable, or switch its ssl on"
    if isinstance(link, ssl.SSLCertVerificationError):
        return (
            f"the server's certificate is not trusted ({link.verify_message}): name the certificate of its authority "
            "in sslrootcert, and the host as the certificate names it; sslmode=verify-ca does not look at the host"
        )
    if isinstance(link, ssl.SSLError):
        return f"TLS failed ({link.reason or said}): look at sslrootcert, sslcert, sslkey and sslpassword"
    if isinstance(link, asyncpg.exceptions.ClientConfigurationError):
        return f"{said}: name the file in sslrootcert" if "certificate" in said else said
    return None
