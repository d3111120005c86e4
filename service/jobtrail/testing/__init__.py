"""THE TEST KIT FOR A HOST APP: a test looks at the submitted jobs, and runs them to their end when it says so.

With pytest: `pytest_plugins = ["jobtrail.testing.fixtures"]` in the top conftest.py, which alone needs pytest; the
fixture `jobtrail` is a Workbench on an empty database. Without pytest: `scratch_database()` once, `workbench(database)`
in each test.

Read `workbench` (the whole of it for a test), `database` (one that the kit made, and may empty), `server` (a PostgreSQL
for it) and `fixtures`.
"""

from jobtrail.testing.database import ScratchDatabase, scratch_database
from jobtrail.testing.workbench import Workbench, workbench

__all__ = ["ScratchDatabase", "Workbench", "scratch_database", "workbench"]
