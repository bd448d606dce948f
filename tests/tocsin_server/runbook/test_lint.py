"""The checklist of the runbook convention: each item that a program can hold, broken once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import pytest
from writing import FILE, GOOD, changed, line_of

from tocsin_server.config import Connection, Secret
from tocsin_server.runbook.lint import lint
from tocsin_server.runbook.parse import parse

TODAY = date(2026, 3, 1)
ALERTS = {"SyncFailures": ["sync-failure"], "SlowResponses": ["database-issues"]}


def faults(
    text: str,
    alerts: Mapping[str, list[str]] = ALERTS,
    connections: Mapping[str, Connection] | None = None,
    today: date = TODAY,
    file: str = FILE,
) -> dict[int, str]:
    """Line -> message and hint of each fault of a text that parses."""
    book, found = parse(text, file)
    assert found == []
    assert book is not None
    return {fault.line: f"{fault.message} | {fault.hint}" for fault in lint(book, alerts, connections, today)}


def only_fault(text: str, part: str, alerts: Mapping[str, list[str]] = ALERTS) -> str:
    """The message of the one faulty line, which must be the line of ``part``."""
    found = faults(text, alerts)
    assert list(found) == [line_of(text, part)], found
    return found[line_of(text, part)]


def test_a_sound_runbook_has_no_faults() -> None:
    assert faults(GOOD) == {}


# --- front matter ---------------------------------------------------------------------------------------


def test_a_review_grows_old() -> None:
    assert faults(GOOD, today=date(2026, 5, 17)) == {}
    late = faults(GOOD, today=date(2026, 5, 18))
    assert list(late) == [line_of(GOOD, "last_reviewed")]
    assert "the review was due on 2026-05-17 (every 90d)" in str(late)
    assert "in the future" in str(faults(GOOD, today=date(2026, 2, 15)))


def test_one_owner() -> None:
    assert "one owner" in only_fault(changed("platform-oncall", "platform and core"), "owner:")


def test_alerts_link_both_ways() -> None:
    assert "no alert `SyncFailures` | did you mean `SyncFailure`?" in only_fault(
        GOOD, "alerts:", {"SyncFailure": []}
    )
    assert "does not link here" in only_fault(GOOD, "alerts:", {"SyncFailures": ["other"]})
    assert "alert `JobMissing` links here" in only_fault(
        GOOD, "alerts:", {**ALERTS, "JobMissing": ["sync-failure"]}
    )


def test_connections_are_the_settings() -> None:
    http, database = Connection(http="https://core.example.org"), Connection(postgresql=Secret(env="URL"))
    assert faults(GOOD, connections={"core": http, "core_ro": database}) == {}
    line = line_of(GOOD, "connections:")
    assert "`core_ro` is not in the settings" in faults(GOOD, connections={"core": http})[line]
    assert (
        "`core_ro` is an http connection" in faults(GOOD, connections={"core": http, "core_ro": http})[line]
    )


def test_inputs_are_declared_and_used() -> None:
    assert "no block uses the input `spare`" in only_fault(
        changed("escalation:", "  spare: {type: str}\nescalation:"), "  spare:"
    )
    assert (
        "`:sinse` is no input | did you mean `since`?"
        in faults(changed(":as_of - :since", ":as_of - :sinse"))[line_of(GOOD, "```sql id=failed")]
    )
    assert (
        "`:id` is no input"
        in faults(changed("/:integration_id/", "/:id/"))[line_of(GOOD, "```http id=requeue")]
    )


# --- headings and links ---------------------------------------------------------------------------------


def test_sections_are_fixed_present_in_order_and_filled() -> None:
    assert "`References` is missing" in only_fault(
        changed("## References\nThe [sync design](#sync-failure).\n", ""), "# Sync failure"
    )
    assert "section `Impact` is empty" in only_fault(
        changed("Teachers see old class lists.\n", ""), "## Impact"
    )
    found = faults(changed("## Symptoms", "## Symptom"))
    assert "did you mean `Symptoms`?" in str(found)
    text = (
        GOOD.replace("## Symptoms", "## X").replace("## Impact", "## Symptoms").replace("## X", "## Impact")
    )
    assert "`Symptoms` stands after `Impact`" in only_fault(text, "## Symptoms")


def test_every_cause_has_a_resolution() -> None:
    text = changed("Wait, then [queue it again](#queue-it-again).", "Wait, see [here](#diagnosis).")
    assert "cause `Provider outage` has no resolution" in only_fault(text, "### Provider outage")


def test_a_finding_names_a_cause() -> None:
    text = changed("**likely** [Token revoked](#token-revoked)", "**likely** [Impact](#impact)")
    assert "`#impact` is no cause" in only_fault(text, "- If `failed.any")
    text = changed("**likely** [Token revoked](#token-revoked)", "**likely** [Token](#token-revokd)")
    assert "no heading `#token-revokd` | did you mean `#token-revoked`?" in only_fault(
        text, "- If `failed.any"
    )


def test_a_heading_stands_once() -> None:
    text = changed("## Resolution\n", "### Token revoked\nSee [again](#queue-it-again).\n\n## Resolution\n")
    line = text.count("\n", 0, text.rindex("### Token revoked")) + 1
    assert list(faults(text)) == [line]


def test_relative_links_lead_to_files(tmp_path: Path) -> None:
    text = changed(
        "The [sync design](#sync-failure).",
        "[design](../design%20notes.md#top), [web](https://example.org/x)",
    )
    folder = tmp_path / "runbooks"
    folder.mkdir()
    file = str(folder / "SYNC_FAILURE.md")
    assert "leads nowhere" in faults(text, file=file)[line_of(text, "[design]")]
    (tmp_path / "design notes.md").touch()
    assert faults(text, file=file) == {}
    assert "leads nowhere" in str(faults(text.replace("../design%20notes.md", str(tmp_path)), file=file))


# --- steps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SELECT error, count(*) AS n FROM events", "SELECT * FROM events", "does not name its columns"),
        ("SELECT error, count(*) AS n FROM events", "SELECT e.* FROM events e", "does not name its columns"),
        ("id=failed on=events rows=50", "id=failed on=events", "has no row limit"),
        (" AND ts > :as_of - :since AND ts <= :as_of", " AND :since > :as_of", "has no time range"),
        ("FROM events\n", "FROM users\n", "refused: there is no table `users`"),
        ("GROUP BY error\n", "GROUP BY error; DELETE FROM events\n", "holds more than one statement"),
        ("SELECT error, count(*) AS n", "UPDATE error SET n", "does not read"),
        ("id=failed on=events", "id=failed on=core_rw", "connection `core_rw` is not one of the runbook's"),
        ("id=failed on=events", "id=failed needs=status on=events", "needs=`status` is no block above it"),
    ],
)
def test_a_statement_is_named_bounded_and_allowed(old: str, new: str, message: str) -> None:
    text = changed(old, new)
    book, _ = parse(text, FILE)
    assert book is not None
    found = [fault for fault in lint(book, ALERTS, None, TODAY) if message in fault.message]
    assert [fault.line for fault in found] == [line_of(text, "```sql id=failed")]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT error, n FROM runs LIMIT 5",
        "SELECT max(age) AS oldest FROM runs -- SELECT * is not here; nor here",
        "SELECT n * 2 AS twice, '*; :x' AS star FROM runs LIMIT :since",
        "SHOW max_connections",
        "VALUES (1)",
        'SELECT count(*) AS n, "a*" FROM runs WHERE at > now() - :since::interval',
        "EXPLAIN SELECT id FROM runs",
    ],
)
def test_sound_statements_of_a_database(statement: str) -> None:
    assert faults(changed("SELECT count(*) AS n FROM sync_runs WHERE status = 'completed'", statement)) == {}


@pytest.mark.parametrize(
    "statement",
    [
        "EXPLAIN ANALYZE SELECT id FROM runs",
        "EXPLAIN (VERBOSE, ANALYZE) SELECT id FROM runs",
        "VACUUM runs",
        "SELECT id FROM runs",
    ],
)
def test_unsound_statements_of_a_database(statement: str) -> None:
    text = changed("SELECT count(*) AS n FROM sync_runs WHERE status = 'completed'", statement)
    only_fault(text, "```sql id=recovered")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("`failed.rows = 0`", "`faild.rows = 0`", "there is no step `faild` | did you mean `failed`?"),
        ("`failed.rows = 0`", "`failed.status = 0`", "`failed` is a sql step and has no `status`"),
        ("`failed.rows = 0`", "`failed.first.message = null`", "`failed` keeps no column `message`"),
        ("`failed.rows = 0`", "`failed.any(m = 1)`", "`failed` keeps no column `m`"),
    ],
)
def test_conditions_look_at_what_exists(old: str, new: str, message: str) -> None:
    text = changed(old, new)
    assert message in only_fault(text, new)


def test_an_expectation_looks_at_what_exists() -> None:
    text = changed("recovered.first.n > 0", "recoverd.first.n > 0")
    assert "there is no step `recoverd`" in only_fault(text, "```sql id=recovered")


def test_otherwise_is_the_last_of_several() -> None:
    text = changed("- Otherwise: read the errors above.\n", "").replace(
        "- If `failed.any", "- Otherwise: read the errors above.\n- If `failed.any"
    )
    assert "`Otherwise` is not the last" in only_fault(text, "- Otherwise")
    text = changed(
        "**Findings**\n\n- If `status.json.state !=",
        "**Findings**\n\n- Otherwise: x\n\n**Findings**\n\n- If `status.json.state !=",
    )
    assert "`Otherwise` is not the last" in only_fault(text, "- Otherwise: x")


# --- what must not stand in a document ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("Ask maria.lopez@lincoln-school.edu for help.", "an e-mail address"),
        ("Send `Bearer abcdefghij0123456789`.", "a secret"),
        ("The key is sk-proj-abcdefghijklmnop1234.", "a secret"),
        ("Call 555-123-4567 at night.", "a number of a person"),
    ],
)
def test_no_personal_data_and_no_secrets(words: str, what: str) -> None:
    assert what in only_fault(changed("Rosters are out of date.", words), words)


@pytest.mark.parametrize(
    "words",
    [
        "Ask oncall@example.org or oncall@mail.example.com.",
        "Send `Authorization: Bearer TOKEN`, after basic checks of everything.",
        "More than 1000000 rows since 2026-02-16T07:55:12Z, deploy 4f1c2d3e4f5a6b7c.",
        "See https://status.example.org/incidents/555-123-4567.",
    ],
)
def test_harmless_words_stay(words: str) -> None:
    assert faults(changed("Rosters are out of date.", words)) == {}


def test_the_example_of_the_documentation_is_sound() -> None:
    page = Path(__file__).parents[3] / "docs" / "runbooks.md"
    example = page.read_text().split("`````markdown\n")[1].partition("`````")[0]
    assert faults(example, {"JobQueueDepth": ["queue-backlog"]}) == {}
