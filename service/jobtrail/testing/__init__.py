"""THE TEST KIT FOR A HOST APP: what was submitted is looked at, and run to its end, where the test says so.

With pytest: `pytest_plugins = ["jobtrail.testing.fixtures"]` in the top conftest.py, which alone needs pytest; the
fixture `jobtrail` is a Workbench on an empty database. Without pytest: `scratch_database()` once, `workbench(database)`
in each test.

Read `workbench` (the whole of it for a test), `running` (a node for as long as there is work), `database` (one that the
kit made, and may empty) and `server` (a PostgreSQL for it).
"""

from jobtrail.testing.database import ScratchDatabase, scratch_database
from jobtrail.testing.workbench import Workbench, workbench

__all__ = ["ScratchDatabase", "Workbench", "scratch_database", "workbench"]
