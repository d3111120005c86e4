"""THE TEST KIT FOR A HOST APP: what was submitted is looked at, and run to its end, where the test says so.

With pytest: `pytest_plugins = ["jobtrail.testing.fixtures"]` in the top conftest.py, which alone needs pytest; the
fixture `jobtrail` is a Workbench on an empty database. Without pytest: `scratch_database()` once, `workbench(database)`
in each test.

Read `bench` (what a test gets), `running` (a node for as long as there is work), `expected` (which job was meant),
`database` (one that the kit made, and may empty) and `server` (a PostgreSQL for it).
"""

from jobtrail.testing.bench import Workbench, workbench
from jobtrail.testing.database import ScratchDatabase, scratch_database

__all__ = ["ScratchDatabase", "Workbench", "scratch_database", "workbench"]
