"""Where the sample tasks find what they work with: said in the environment by `jobtrail demo`, or by whoever else
registers them.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobtrail.job.errors import SettingsError


class Place(BaseSettings):
    """Read when a task runs. `fetch_anywhere` lets `fetch_all` leave this machine, with all that this means."""

    model_config = SettingsConfigDict(
        env_prefix="JOBTRAIL_DEMO_", env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True
    )

    samples: Path | None = None
    mail_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    fetch_anywhere: bool = False

    def samples_folder(self) -> Path:
        if self.samples is None:
            raise SettingsError("JOBTRAIL_DEMO_SAMPLES is not set: name a folder, or use the one of `jobtrail demo`")
        return self.samples

    def mail_server(self) -> tuple[str, int]:
        """Host and port; always this machine, so that no sample ever sends a mail to somebody."""
        if self.mail_port is None:
            raise SettingsError("JOBTRAIL_DEMO_MAIL_PORT is not set: `jobtrail demo` catches mail on a port of its own")
        return "127.0.0.1", self.mail_port
