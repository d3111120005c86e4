import sys

import pytest

from jobtrail.cli.demo import demo
from jobtrail.job.errors import SettingsError


@pytest.mark.parametrize("missing", ["aiosmtpd", "httpx"])
def test_without_its_extra_the_demo_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SettingsError, match=r'pip install "jobtrail\[embedded,demo\]"'):
        demo()
