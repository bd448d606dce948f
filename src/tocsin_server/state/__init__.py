"""The operational state: SQLite beside the data by default, PostgreSQL when told so; one code path.

Each step of the flow is one :meth:`State.transaction`: everything written in it is durable when the block
ends, or never happened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from tocsin_server.errors import TocsinError
from tocsin_server.state import tables
from tocsin_server.state.migrate import upgrade

__all__ = ["State", "tables"]


class State:
    """Opens the state database, migrating it to this version's shape."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)
        self._readers = sessionmaker(engine.execution_options(reads=True), expire_on_commit=False)
        upgrade(engine)

    @classmethod
    def in_folder(cls, folder: Path) -> State:
        """SQLite (WAL, ``synchronous=FULL``, mode 0600) at ``state.db`` in a data folder."""
        path = folder / "state.db"
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        engine = create_engine(
            f"sqlite:///{path}",
            connect_args={"timeout": 30, "check_same_thread": False},
            hide_parameters=True,  # errors are logged: they must not quote evidence
        )
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_immediate)
        return cls(engine)

    @classmethod
    def at_url(cls, url: str) -> State:
        """A PostgreSQL database. Raises TocsinError when it cannot be reached."""
        try:
            parsed = make_url(url)
            if parsed.get_backend_name() != "postgresql":
                raise TocsinError("the state's address is not postgresql://…; correct it")
            engine = create_engine(
                parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, hide_parameters=True
            )
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except (ArgumentError, SQLAlchemyError) as error:
            reason = " ".join(str(getattr(error, "orig", error)).split())
            raise TocsinError(
                f"the state database cannot be reached: {reason}; start it or correct its URL"
            ) from None
        return cls(engine)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session whose changes are durable when the block ends; an exception undoes them all."""
        with self._sessions.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of things and changes nothing; it waits for no writer. What was read
        can still be looked at when the block has ended.
        """
        with self._readers() as session:
            yield session
            session.expunge_all()
            session.rollback()

    def close(self) -> None:
        """Closes all connections."""
        self.engine.dispose()


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's own BEGIN, below, not the driver's late one
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Any) -> None:
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
