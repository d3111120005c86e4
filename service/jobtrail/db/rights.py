"""Rights that the role of this process must have, and those that are missing. docs/security.md has the same as GRANTs.

Asked of the catalog, which answers everybody, in one statement: a look costs less than the look for a revision.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from jobtrail.db.tables import NAME, metadata

POLICY: Final = "a policy for row level security"
"""Missing where row level security shows the role no row."""


class Lack(NamedTuple):
    """Rights that are missing on one table, or on the schema; `where` as a GRANT names it."""

    where: str
    rights: str
    role: str

    @property
    def grant(self) -> str:
        if self.rights == POLICY:
            return f"CREATE POLICY jobtrail_role ON {self.where} TO {self.role} USING (true)"
        return f"GRANT {self.rights} ON {self.where} TO {self.role}"


# A table that is not there is a matter of the revision.
_LACKING: Final = text(f"""
SELECT CASE w.name WHEN '' THEN 'SCHEMA ' || quote_ident(n.nspname) ELSE quote_ident(n.nspname) || '.' || w.name END,
       string_agg(w.privilege, ', ' ORDER BY w.number), quote_ident(current_user), min(w.number) AS number
  FROM unnest(CAST(:names AS text[]), CAST(:privileges AS text[])) WITH ORDINALITY AS w(name, privilege, number)
  JOIN pg_namespace n ON n.nspname = {NAME}
  LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
 WHERE NOT CASE w.name WHEN '' THEN has_schema_privilege(n.oid, w.privilege)
                       ELSE coalesce(has_table_privilege(c.oid, w.privilege), true) END
 GROUP BY w.name, n.nspname
UNION ALL
SELECT quote_ident(n.nspname) || '.' || c.relname, '{POLICY}', quote_ident(current_user), NULL
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = {NAME} AND c.relname = ANY(CAST(:names AS text[])) AND row_security_active(c.oid)
   AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd = '*'
                      AND EXISTS (SELECT FROM unnest(p.polroles) AS r WHERE r = 0 OR pg_has_role(r, 'MEMBER')))
 ORDER BY number
""")


def to_run() -> Sequence[tuple[str, str]]:
    """Each table with each right that it takes to accept and run jobs; the schema is the one without a name."""
    wanted = {"": "USAGE", "alembic_version": "SELECT"}
    wanted |= {table.name: table.info["rights"] for table in metadata.tables.values()}
    return [(name, right) for name, rights in wanted.items() for right in rights.split(", ")]


async def lacking(session: AsyncSession) -> Sequence[Lack]:
    """Rights missing to accept and run jobs; none where there is no schema."""
    names, privileges = zip(*to_run(), strict=True)
    found = await session.execute(_LACKING, {"names": list(names), "privileges": list(privileges)})
    return [Lack(*row[:3]) for row in found]


def told(lacks: Sequence[Lack]) -> str:
    """The missing rights, and the GRANTs that mend it, in one line."""
    missing = "; ".join(f"{each.rights} on {each.where.removeprefix('SCHEMA ')}" for each in lacks)
    return f"the role {lacks[0].role} lacks {missing}: {'; '.join(each.grant for each in lacks)}"


_TO_MIGRATE: Final = text(f"""
SELECT quote_ident(current_user) AS role, quote_ident(current_database()) AS database,
       quote_ident({NAME}) AS schema, n.oid IS NOT NULL AS is_there,
       has_database_privilege(current_database(), 'CREATE') AS may_make,
       has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE') AS may_fill,
       (SELECT quote_ident(pg_get_userbyid(c.relowner)) FROM pg_class c
         WHERE c.relnamespace = n.oid AND c.relname = 'jobs' AND NOT pg_has_role(c.relowner, 'USAGE')) AS owner
  FROM (SELECT) one LEFT JOIN pg_namespace n ON n.nspname = {NAME}
""")


async def to_migrate(session: AsyncSession) -> str | None:
    """The reason why the role cannot migrate the schema, with the fix; None where it can, or need not."""
    found = (await session.execute(_TO_MIGRATE)).one()
    if not found.is_there and not found.may_make:
        return (
            f"the role {found.role} may not make the schema {found.schema}: let who may run "
            f"CREATE SCHEMA {found.schema} AUTHORIZATION {found.role}, or GRANT CREATE ON DATABASE {found.database} TO "
            f"{found.role}"
        )
    if found.owner is not None:
        return f"the tables belong to {found.owner}: run `jobtrail migrate` as {found.owner}, not as {found.role}"
    if found.is_there and not found.may_fill:
        grant = f"GRANT USAGE, CREATE ON SCHEMA {found.schema} TO {found.role}"
        return f"the role {found.role} may not make tables: {grant}"
    return None
