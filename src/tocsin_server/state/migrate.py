"""Brings a state database to the shape of this version (Alembic)."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine

from tocsin_server.errors import TocsinError


def config() -> Config:
    """Alembic's configuration: the migrations beside this file."""
    alembic = Config()
    alembic.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return alembic


def upgrade(engine: Engine) -> None:
    """Runs the migrations that the database lacks, in one transaction.

    Raises TocsinError when a newer Tocsin wrote it.
    """
    alembic = config()
    head = ScriptDirectory.from_config(alembic).get_current_head()
    with engine.begin() as connection:
        if MigrationContext.configure(connection).get_current_revision() == head:
            return
        alembic.attributes["connection"] = connection
        try:
            command.upgrade(alembic, "head")
        except CommandError as error:
            raise TocsinError(
                f"the state database is of a newer Tocsin ({error}): install that one"
            ) from None
