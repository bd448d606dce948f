"""One site with an outage for all tests that only look at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from website import Site, morning, running


@pytest.fixture(scope="session")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A morning in which a deploy broke one controller."""
    channel = {"email": {"to": "oncall@example.org", "smtp": {"env": "SMTP_URL"}}}
    notify = {"channels": {"oncall": channel}, "routes": [{"to": ["oncall"]}]}
    with running(tmp_path_factory.mktemp("outage"), morning(), settings={"notify": notify}) as site:
        yield site
