"""Files that come with Tocsin: inside the wheel, or in the repository when it is installed for
development.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGED = Path(__file__).parent / "_data"
_REPOSITORY = Path(__file__).parent.parent.parent


def alert_rules() -> Path:
    """The folder of the shipped alert rules."""
    return _first("ops/alerts")


def runbooks() -> Path:
    """The folder of the shipped runbooks."""
    return _first("runbooks", "docs/runbooks")


def demo_lines() -> list[Path]:
    """The lines that the demo reads: recorded from a real Rails server and its Sidekiq worker."""
    folder = _first("demo", "tests/data/rails")
    return [folder / "web.log", folder / "worker.log"]


def _first(packaged: str, repository: str | None = None) -> Path:
    path = _PACKAGED / packaged
    return path if path.exists() else _REPOSITORY / (repository or packaged)
