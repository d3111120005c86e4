import sys
from pathlib import Path

import pytest

from jobtrail.cli.demo import choose, demo
from jobtrail.errors import SettingsError


@pytest.mark.parametrize("missing", ["aiosmtpd", "httpx"])
def test_without_its_extra_the_demo_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SettingsError, match=r'pip install "jobtrail\[embedded,demo\]"'):
        demo()


@pytest.mark.parametrize(
    ("given", "lease", "grace"),
    [
        ({}, 5, 5),
        ({"JOBTRAIL_LEASE": "1m"}, 60, 5),
        ({"JOBTRAIL_GRACE": "20s"}, 5, 20),
        ({"JOBTRAIL_POLL_EVERY": "5s"}, 30, 5),
    ],
)
def test_its_times_are_short_unless_they_are_said(
    given: dict[str, str], lease: int, grace: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    chosen = choose()
    assert (chosen.lease.total_seconds(), chosen.grace.total_seconds()) == (lease, grace)
