"""The demo's morning, judged by the doctor and the backtest: what it shows is what the rules say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin_server.backtest import Episode, backtest
from tocsin_server.clock import SECOND_US, frozen_clock
from tocsin_server.demo.morning import MINUTE_US, Morning, healthy, per_minute
from tocsin_server.demo.outages import BEGAN_BEFORE_US, OUTAGES
from tocsin_server.demo.recording import units
from tocsin_server.load import Books, Options
from tocsin_server.resources import alert_rules
from tocsin_server.rules import load_rules
from tocsin_server.sources import load_file
from tocsin_server.store import Store

NOW_US = 1_795_423_987 * SECOND_US + 654_321
HALF_HOUR_US = 30 * MINUTE_US
#: Outage -> seconds from its beginning until its alert fires, at least and at most.
FIRES = {"deploy": (30, 150), "sync": (225, 300), "auth": (100, 150)}


def morning(outage: str | None) -> Morning:
    return Morning(7, None if outage is None else OUTAGES[outage], NOW_US - BEGAN_BEFORE_US)


@dataclass(frozen=True)
class Loaded:
    store: Store
    books: Books
    written: bytes


Mornings = dict[str | None, Loaded]


@pytest.fixture(scope="module")
def mornings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mornings]:
    """Half an hour before now, and one minute after, with each outage and without."""
    loaded = {outage: _loaded(tmp_path_factory.mktemp("demo"), outage) for outage in (None, *OUTAGES)}
    yield loaded
    for one in loaded.values():
        one.store.close()


def _loaded(folder: Path, outage: str | None) -> Loaded:
    lines = morning(outage).lines(NOW_US - HALF_HOUR_US, NOW_US + MINUTE_US)
    log = folder / "k12-core.log"
    log.write_bytes(b"".join(line + b"\n" for _, line in lines))
    store = Store.create(folder / "data")
    with store.writing():
        books = load_file(store, log, frozen_clock(NOW_US + MINUTE_US), Options())
    return Loaded(store, books, log.read_bytes())


def episodes(store: Store, from_us: int | None = None) -> list[Episode]:
    report = backtest(store.connect(), load_rules([alert_rules()]), from_us, NOW_US + MINUTE_US)
    assert not report.errors
    return report.episodes


@pytest.mark.parametrize("outage", [None, *OUTAGES])
def test_every_line_is_understood_and_the_books_balance(mornings: Mornings, outage: str | None) -> None:
    store, books = mornings[outage].store, mornings[outage].books
    assert books.rejected == books.duplicates == books.blank == 0
    assert books.lines == books.events.total() + books.logs == mornings[outage].written.count(b"\n")
    counted = store.connect().execute("SELECT name, count(*) FROM events GROUP BY 1").fetchall()
    assert {name: n for name, n in counted if name != "log"} == dict(books.events)


def test_a_good_morning_fires_nothing(mornings: Mornings) -> None:
    store = mornings[None].store
    assert episodes(store) == []
    row = (
        store.connect()
        .execute("SELECT avg(CAST(http_status >= 500 AS INT)) FROM events WHERE name = 'api.request'")
        .fetchone()
    )
    assert row is not None
    assert 0.001 < row[0] < 0.012


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_fires_its_alert_alone_and_in_time(mornings: Mornings, outage: str) -> None:
    store = mornings[outage].store
    (episode,) = episodes(store)
    assert episode.alert == OUTAGES[outage].alert
    assert episode.resolved_at is None
    earliest, latest = FIRES[outage]
    elapsed = (episode.fired_at - (NOW_US - BEGAN_BEFORE_US)) / SECOND_US
    assert earliest <= elapsed <= latest


EVIDENCE = {
    "deploy": ("SELECT DISTINCT service FROM events WHERE name = 'deploy'", [("k12-core",)]),
    "sync": (
        "SELECT DISTINCT error, tenant_id, attrs->>'integration_id' FROM events "
        "WHERE name = 'sync.run' AND status = 'error'",
        [("Signet::AuthorizationError", "3", "33")],
    ),
    "auth": (
        "SELECT provider, attrs->>'reason', tenant_id FROM events "
        "WHERE name = 'auth.login' AND status = 'failure' AND attrs->>'reason' IS NOT NULL GROUP BY ALL",
        [("saml", "invalid_ticket", "4")],
    ),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_the_events_hold_the_cause(mornings: Mornings, outage: str) -> None:
    statement, expected = EVIDENCE[outage]
    store = mornings[outage].store
    assert store.connect().execute(statement).fetchall() == expected


def test_every_sync_is_a_run_of_its_own(mornings: Mornings) -> None:
    store = mornings["sync"].store
    row = (
        store.connect()
        .execute(
            "SELECT count(*), count(DISTINCT attrs->>'run_id'), count(DISTINCT request_id) FROM events "
            "WHERE name = 'sync.run' AND status = 'error'"
        )
        .fetchone()
    )
    assert row is not None
    assert row[0] == row[1] > 5


def test_tenants_differ_in_size(mornings: Mornings) -> None:
    store = mornings[None].store
    rows = (
        store.connect()
        .execute(
            "SELECT tenant_id, count(*), count(DISTINCT user_id) FROM events WHERE name = 'http.request' "
            "AND tenant_id IS NOT NULL GROUP BY 1 ORDER BY 2 DESC"
        )
        .fetchall()
    )
    assert len(rows) == 9
    assert rows[0][0] == "1"
    assert rows[0][1] > 5 * rows[-1][1]
    assert rows[0][2] > rows[-1][2]


# --- the recording --------------------------------------------------------------------------------------


def test_units_are_whole() -> None:
    assert len(units()) > 300
    for unit in units():
        assert b"Started " in unit.lines[0][1]
        assert unit.text.count(b'\\"metric\\":\\"api.request\\"') == 1
        assert [at for at, _ in unit.lines] == sorted(at for at, _ in unit.lines)


def test_jobs_of_the_worker_belong_to_the_request_that_enqueued_them() -> None:
    enqueuing = [unit for unit in units() if b"jid=" in unit.text]
    assert enqueuing
    for unit in enqueuing:
        assert b"Enqueued " in unit.text
        assert b"INFO: start" in unit.text


def test_a_replay_has_other_ids_and_other_times() -> None:
    ours, again = (
        list(Morning(1).lines(start, start + MINUTE_US)) for start in (NOW_US, NOW_US + HALF_HOUR_US)
    )
    ids = [{json.loads(json.loads(line)["message"][at:])["request_id"]
            for _, line in lines
            if line.startswith(b"{") and (at := json.loads(line)["message"].find('{"request_id"')) >= 0}
           for lines in (ours, again)]  # fmt: skip
    assert ids[0]
    assert ids[0] & ids[1] <= {"req_"}
    for at_us, line in ours:
        if line.startswith(b'{"timestamp":"'):
            assert line[14:37] == _iso(at_us)[:23] or abs(_skew(at_us, line)) < SECOND_US


def _iso(at_us: int) -> bytes:
    return datetime.fromtimestamp(at_us / SECOND_US, UTC).isoformat(timespec="milliseconds").encode()


def _skew(at_us: int, line: bytes) -> int:
    return at_us - round(datetime.fromisoformat(line[14:43].decode()).timestamp() * SECOND_US)


# --- purity ---------------------------------------------------------------------------------------------


@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from([None, *OUTAGES]))
@settings(max_examples=15)
def test_two_spans_are_one(first: int, second: int, outage: str | None) -> None:
    start = NOW_US - BEGAN_BEFORE_US - 60 * SECOND_US
    middle, end = start + first * SECOND_US, start + (first + second) * SECOND_US
    whole = list(morning(outage).lines(start, end))
    assert [*morning(outage).lines(start, middle), *morning(outage).lines(middle, end)] == whole
    assert [at for at, _ in whole] == sorted(at for at, _ in whole)
    assert all(start < at <= end for at, _ in whole)


def test_another_seed_is_another_morning() -> None:
    span = NOW_US, NOW_US + MINUTE_US
    assert list(Morning(1).lines(*span)) != list(Morning(2).lines(*span))


def test_the_beginning_of_a_lesson_is_the_busiest() -> None:
    assert per_minute(8) == max(map(per_minute, range(45)))
    assert min(map(per_minute, range(45))) >= 20 / 5


def test_a_good_morning_has_no_failures_of_ours() -> None:
    assert {unit.status for unit in healthy()} <= {200, 201, 202, 401, 404, 422}
