"""Brings a state database to the shape of this version.

An empty database gets the tables as they are declared; an older one goes through Alembic's migrations, which
a test holds equal to that. Alembic is imported only then: it would be a tenth of an idle server's memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, inspect, text

from tocsin_server.errors import TocsinError
from tocsin_server.state.tables import Base

#: The newest revision in ``migrations/versions``.
HEAD = "0001"


def upgrade(engine: Engine) -> None:
    """Gives the database what it lacks, in one transaction.

    Raises TocsinError when a newer Tocsin wrote it.
    """
    with engine.begin() as connection:
        revision = _revision(connection)
        if revision == HEAD:
            return
        if revision is None:
            _create(connection)
        else:
            _migrate(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _create(connection: Connection) -> None:
    Base.metadata.create_all(connection)
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.util import CommandError

    alembic = config()
    alembic.attributes["connection"] = connection
    try:
        command.upgrade(alembic, "head")
    except CommandError as error:
        raise TocsinError(f"the state database is of a newer Tocsin ({error}): install that one") from None


def config() -> Any:
    """Alembic's configuration: the migrations beside this file."""
    from alembic.config import Config

    alembic = Config()
    alembic.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return alembic
