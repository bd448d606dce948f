"""The state database: one code path over SQLite and a real PostgreSQL, all or nothing, migrated."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, make_url, select, text

from tocsin_server.errors import TocsinError
from tocsin_server.state import State, migrate
from tocsin_server.state.tables import AlertState, AuditEntry, Base, EvaluatorProgress, labels_key


@pytest.fixture(params=["sqlite", "postgresql"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[State]:
    one = (
        State.in_folder(tmp_path)
        if request.param == "sqlite"
        else State.at_url(request.getfixturevalue("postgresql_url"))
    )
    yield one
    one.close()


def entry(action: str) -> AuditEntry:
    return AuditEntry(at=1, who="ada", action=action, subject="s", detail={"n": 1})


def actions(state: State) -> list[str]:
    with state.reading() as session:
        return [row.action for row in session.scalars(select(AuditEntry).order_by(AuditEntry.id))]


def test_what_is_written_is_read_and_can_be_looked_at_later(state: State) -> None:
    with state.transaction() as session:
        session.add(EvaluatorProgress(id=1, last_at=1_795_420_800_000_000))
    with state.reading() as session:
        row = session.get(EvaluatorProgress, 1)
    assert row is not None
    assert row.last_at == 1_795_420_800_000_000


def test_D1_a_transaction_that_fails_never_happened(state: State) -> None:
    def interrupted() -> None:
        with state.transaction() as session:
            session.add(entry("never"))
            session.flush()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert actions(state) == []


def test_numbers_and_texts_come_back_as_they_were(state: State) -> None:
    labels = {"service": "k12-core", "path": 'a"b\\ü\u202e'}
    with state.transaction() as session:
        session.add(
            AlertState(
                alert="A",
                labels_key=labels_key(labels),
                labels=labels,
                pending_at=2**62,
                active_at=-1,
                fired_at=None,
                value=0.1 + 0.2,
            )
        )
    with state.reading() as session:
        row = session.get(AlertState, ("A", labels_key(dict(reversed(labels.items())))))
    assert row is not None
    assert (row.labels, row.pending_at, row.active_at, row.value) == (labels, 2**62, -1, 0.1 + 0.2)


def test_a_reader_waits_for_no_writer(state: State) -> None:
    with state.transaction() as session:
        session.add(entry("unfinished"))
        session.flush()
        assert actions(state) == []
    assert actions(state) == ["unfinished"]


def test_writers_wait_for_each_other(state: State) -> None:
    def write(number: int) -> None:
        for n in range(10):
            with state.transaction() as session:
                session.add(entry(f"{number}-{n}"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(actions(state))) == 40


def test_the_migrations_give_the_tables_that_the_code_declares(tmp_path: Path, postgresql_url: str) -> None:
    sqlite = create_engine(f"sqlite:///{tmp_path}/state.db")
    server = create_engine(make_url(postgresql_url).set(drivername="postgresql+psycopg"))
    for engine in (sqlite, server):
        with engine.begin() as connection:
            alembic = migrate.config()
            alembic.attributes["connection"] = connection
            command.upgrade(alembic, "head")
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert context.get_current_revision() == migrate.HEAD
            assert compare_metadata(context, Base.metadata) == []
        engine.dispose()


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    State.in_folder(tmp_path).close()
    before = (tmp_path / "state.db").stat()
    assert stat.S_IMODE(before.st_mode) == 0o600
    State.in_folder(tmp_path).close()


def test_D16_a_database_of_a_newer_tocsin_is_refused(tmp_path: Path) -> None:
    State.in_folder(tmp_path).close()
    engine = create_engine(f"sqlite:///{tmp_path}/state.db")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'from the future'"))
    engine.dispose()
    with pytest.raises(TocsinError, match="of a newer Tocsin"):
        State.in_folder(tmp_path)


@pytest.mark.parametrize(
    "url", ["mysql://x/y", "not a url", "postgresql://127.0.0.1:1/none?connect_timeout=1"]
)
def test_an_address_that_does_not_answer_is_a_clear_error(url: str) -> None:
    with pytest.raises(TocsinError, match="correct"):
        State.at_url(url)
