from collections.abc import Iterator
from pathlib import Path

import pytest

from support.servers import reachable_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder
