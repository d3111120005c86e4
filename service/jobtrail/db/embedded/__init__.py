"""A PostgreSQL of our own in a folder, for machines that have none: shared by all its users, stopped by the last.

Read `server`, then `programs` and `locks`.
"""

from jobtrail.db.embedded.server import EmbeddedPostgres, default_folder

__all__ = ["EmbeddedPostgres", "default_folder"]
