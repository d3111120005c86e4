"""Access keys: made, listed, revoked. `key_ring` finds the caller of one."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from jobtrail.errors import AccessKeyNotFoundError, FieldError, InvalidInputError
from jobtrail.jobs.services import Services
from jobtrail.ops import key_rows
from jobtrail.ops.access import SCOPES, Scope
from jobtrail.ops.key_text import HOW_TO_END, KeyRecord, flaws_of, make, prefix_in, shown

log = logging.getLogger(__name__)


async def create_key(
    services: Services,
    name: str,
    scopes: Sequence[Scope],
    *,
    by: str,
    expires_at: datetime | None = None,
    lives_for: timedelta | None = None,
    no_longer: timedelta | None = None,
) -> tuple[KeyRecord, str]:
    """The key's row, and its text, which cannot be read again. Several keys may have one name: they are one
    caller, so that a key can be replaced while both work. `no_longer`: it ends by then, whatever else was said.

    Raises InvalidInputError with pointers to name, scopes, expires_at and expires_in, and UnavailableError.
    """
    if flaws := flaws_of(name, scopes, expires_at, lives_for):
        raise InvalidInputError(flaws)
    new = make()
    in_order = [scope for scope in SCOPES if scope in scopes]
    async with services.transaction() as session:
        record = await key_rows.put(
            session,
            new,
            name=name,
            scopes=in_order,
            actor=by,
            expires_at=expires_at,
            lives_for=lives_for,
            no_longer=no_longer,
        )
    if record is None:
        raise InvalidInputError([FieldError("/expires_at", HOW_TO_END)])
    services.has_keys.set()
    log.info("access key made", extra={"prefix": record.prefix, "key_name": name, "scopes": in_order, "by": by})
    return record, new.text


async def list_keys(services: Services) -> Sequence[KeyRecord]:
    """In the order in which they were made, revoked and expired ones too."""
    async with services.session() as session:
        return await key_rows.all_keys(session)


async def revoke_key(services: Services, written: UUID | str, *, by: str) -> KeyRecord:
    """The key as it is afterwards; one that is revoked already stays as it is, with who did it first.

    `written` is the key's id, its prefix, its beginning or all of it.
    Raises AccessKeyNotFoundError, in which no secret is, and UnavailableError.
    """
    key_id = written if isinstance(written, UUID) else _uuid(written)
    prefix = prefix_in(written) if isinstance(written, str) else None
    if key_id is None and prefix is None:
        raise AccessKeyNotFoundError(shown(str(written)))
    async with services.transaction() as session:
        record = await key_rows.revoke(session, key_id=key_id, prefix=prefix, actor=by)
    if record is None:
        raise AccessKeyNotFoundError(prefix or str(key_id))
    log.info("access key revoked", extra={"prefix": record.prefix, "key_name": record.name, "by": by})
    return record


async def any_keys(services: Services) -> bool:
    """True if there is any, revoked and expired ones too: to revoke the last one opens nothing.

    Raises UnavailableError.
    """
    async with services.session() as session:
        return await key_rows.any_keys(session)


def _uuid(written: str) -> UUID | None:
    try:
        return UUID(written)
    except ValueError:
        return None
