"""A PostgreSQL of our own in a folder, for machines that have none: shared by all who use it, stopped by the last.

Read `shared`, then `cluster`, `programs`, `account` and `locks`.
"""

from jobtrail.db.embedded.shared import EmbeddedPostgres, default_folder

__all__ = ["EmbeddedPostgres", "default_folder"]
