from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from writing import FILE, GOOD, changed, line_of, runbook

from tocsin_server.clock import SECOND_US
from tocsin_server.runbook.blocks import attributes
from tocsin_server.runbook.markdown import anchors
from tocsin_server.runbook.model import Input, Step
from tocsin_server.runbook.parse import parse


def steps(text: str = GOOD) -> dict[str, Step]:
    return {step.id: step for step in runbook(text).steps}


def messages(text: str) -> dict[int, list[str]]:
    """Line -> messages of the faults."""
    found: dict[int, list[str]] = {}
    for fault in parse(text, FILE)[1]:
        found.setdefault(fault.line, []).append(f"{fault.message} | {fault.hint}")
    return found


def only_fault(text: str, part: str) -> str:
    """The one fault of a text, which must be in the line of ``part``."""
    found = messages(text)
    assert list(found) == [line_of(text, part)], found
    (message,) = found[line_of(text, part)]
    return message


def test_the_front_matter() -> None:
    book = runbook()
    assert (book.id, book.title, book.service, book.owner) == (
        "sync-failure",
        "Sync failures",
        "k12-core",
        "platform-oncall",
    )
    assert book.alerts == ("SyncFailures",)
    assert book.last_reviewed == "2026-02-16"
    assert book.review_every_us == 90 * 86_400 * SECOND_US
    assert book.connections == ("core", "core_ro")
    assert book.inputs == (
        Input("since", "duration", "1h"),
        Input("integration_id", "int", None, "labels.integration_id"),
    )
    assert book.budget_s == 30
    assert book.source == GOOD
    assert book.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()


def test_steps_stand_where_the_document_has_them() -> None:
    book = runbook()
    assert [step.id for step in book.investigation] == ["failed", "status"]
    assert [step.id for step in book.verification] == ["recovered"]
    assert [[step.id for step in action.steps] for action in book.actions] == [["requeue"]]
    failed, status, requeue, recovered = book.steps
    assert (failed.kind, failed.connection, failed.max_rows, failed.columns) == (
        "sql",
        "events",
        50,
        ("error", "n"),
    )
    assert (failed.section, failed.title) == ("Investigation", "1. Which runs failed")
    assert failed.line == line_of(GOOD, "```sql id=failed")
    assert failed.body.startswith("SELECT error")
    assert (status.timeout_s, status.max_bytes) == (2.0, 4096)
    assert (requeue.section, requeue.risk) == ("Resolution", "low")
    assert (recovered.title, recovered.expect) == ("Verification", "recovered.first.n > 0")


def test_a_blocks_hash_is_over_its_info_string_and_its_body() -> None:
    block = "sql id=failed on=events rows=50 columns=error,n"
    step = steps()["failed"]
    assert step.sha256 == hashlib.sha256(f"{block}\n{step.body}".encode()).hexdigest()
    assert steps(changed("rows=50", "rows=49"))["failed"].sha256 != step.sha256
    assert steps(changed("Ask them.", "Ask."))["failed"].sha256 == step.sha256


def test_what_runs_by_itself_is_computed() -> None:
    found = steps()
    assert {name: (step.run, step.writes) for name, step in found.items()} == {
        "failed": ("auto", False),
        "status": ("auto", False),
        "requeue": ("ask", True),
        "recovered": ("auto", False),
    }
    assert steps(changed("id=status on=core", "id=status on=core run=ask"))["status"].run == "ask"
    assert steps(changed("id=failed on=events", "id=failed on=events run=never"))["failed"].run == "never"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_writing_request_asks_everywhere(method: str) -> None:
    text = changed("GET /status.json\nAccept", f"{method} /status.json\nAccept")
    step = steps(text)["status"]
    assert (step.run, step.writes) == ("ask", True)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        (
            "on=core risk=low",
            "on=core risk=low run=auto",
            "```http id=requeue",
            "block `requeue`: a http block that may write never runs by itself | write run=ask or run=never",
        ),
        (
            "## Escalation\n",
            "## Escalation\n\n```sql id=late on=core_ro\nSELECT 1 AS n\n```\n",
            "```sql id=late",
            "block `late` stands where nothing runs | move it under Investigation",
        ),
        (
            "## Resolution\n",
            "## Resolution\n\n```sh id=restart\nrestart\n```\n",
            "```sh id=restart",
            "block `restart` belongs to no action | write a heading",
        ),
        (
            "id=status on=core",
            "id=failed on=core",
            "```http id=failed",
            "duplicate block `failed` | the first is in",
        ),
        ("id=status on=core", "id=status", "```http id=status", "a http block needs a connection"),
        ("```http id=status", "```bash id=status", "```bash id=status", "`bash` cannot be executed"),
        ("timeout=2s", "timeout=2h", "```http id=status", "`timeout=2h` is not a time limit"),
        ("bytes=4k", "bytes=4G", "```http id=status", "`bytes=4G` is not a size"),
        ("rows=50", "rows=0", "```sql id=failed", "`rows=0` is not a number of rows"),
        ("rows=50", "row=50", "```sql id=failed", "unknown attribute `row` | did you mean `rows`?"),
        ("rows=50", "rows=50 rows=60", "```sql id=failed", "`rows` stands twice"),
        ("rows=50", "fast", "```sql id=failed", "`fast` has no value"),
        ("risk=low", "risk=none", "```http id=requeue", "`risk=none` is not one of low, high"),
        ("first.n > 0'", "first.n >'", "```sql id=recovered", "is not a condition: character 20"),
        ("id=recovered", "id=not", "```sql id=not", "a word of the condition language"),
        (
            "GET /status.json",
            "GET https://elsewhere/",
            "```http id=status",
            "does not begin with a request line",
        ),
        ("GET /status.json", "GET //elsewhere/x", "```http id=status", "another host"),
        (
            "Accept: application/json",
            "Authorization: Bearer x",
            "```http id=status",
            "not the runbook's to send",
        ),
        ("Accept: application/json", "Accept: a\n\n{}", "```http id=status", "a GET has no body"),
        ("**likely** [Token revoked]", "**certain** [Token revoked]", "- If `failed.any", "has no strength"),
        (
            "**likely** [Token revoked](#token-revoked)",
            "**likely** look",
            "- If `failed.any",
            "names no cause",
        ),
        (
            "`failed.sum(n) > 100`",
            "`failed.sum(n) >`",
            "- If `failed.sum",
            "the condition cannot be read: character 16",
        ),
        ("- Otherwise: read", "- Else read", "- Else", "`Else read the errors above.` is not a finding"),
        ("Safe to repeat.", "Safe. <!-- secret -->", "Safe. <!--", "an HTML comment hides text"),
    ],
)
def test_faults_of_the_text(old: str, new: str, line: str, message: str) -> None:
    assert message in only_fault(changed(old, new), line)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("runbook: 1", "runbook: 2", "runbook:", "`runbook`"),
        ("id: sync-failure", "id: Sync Failure", "id:", "is not an id"),
        ("owner: platform-oncall\n", "", "runbook:", "`owner` is missing"),
        ("alerts: [SyncFailures]", "alerts: []", "alerts:", "`alerts`"),
        ("2026-02-16", "16.2.2026", "last_reviewed:", "is not a date"),
        ("2026-02-16", "2026-02-30", "last_reviewed:", "is not a date"),
        ("90d", "quarterly", "review_every:", "is not a duration"),
        ("default: 1h", "default: soon", "  since:", "the default `soon` is not a duration"),
        ("labels.integration_id", "env.SECRET", "  integration_id:", "is no source of values"),
        ("  since:", "  as_of:", "  as_of:", "`as_of` is given by Tocsin"),
        ("escalation:", "budget: {total: 1h}\nescalation:", "budget:", "`total` is not from 1s to 5m"),
        ("escalation:", "colour: red\nescalation:", "colour:", "unknown key `colour`"),
    ],
)
def test_faults_of_the_front_matter(old: str, new: str, line: str, message: str) -> None:
    text = changed(old, new)
    found = messages(text)
    assert message in "".join(found.get(line_of(text, line), [])), found
    assert len(found) == 1


def test_all_faults_at_once_with_their_lines() -> None:
    text = changed("90d", "often").replace("rows=50", "rows=x").replace("Otherwise:", "Else:")
    assert list(messages(text)) == [
        line_of(text, part) for part in ("review_every", "```sql id=failed", "- Else")
    ]
    assert parse(text, FILE)[0] is None


def test_without_front_matter_there_is_no_runbook() -> None:
    book, faults = parse("# Hello\n", FILE)
    assert book is None
    assert [str(fault).partition(" (")[0] for fault in faults] == [f"{FILE}:1: there is no front matter"]


def test_the_budget_bounds_steps_that_name_no_bounds() -> None:
    text = changed("escalation:", "budget: {total: 20s, step: 3s, rows: 7, bytes: 8k}\nescalation:")
    found = steps(text)
    assert runbook(text).budget_s == 20
    assert (found["recovered"].timeout_s, found["recovered"].max_rows, found["recovered"].max_bytes) == (
        3.0,
        7,
        8192,
    )
    assert (found["failed"].max_rows, found["status"].timeout_s) == (50, 2.0)


def test_findings_read_as_written() -> None:
    findings = runbook().findings
    assert [(f.step, f.strength, f.cause) for f in findings] == [
        ("failed", "likely", "token-revoked"),
        ("failed", "possible", "provider-outage"),
        ("failed", "note", ""),
        ("failed", "note", ""),
        ("status", "likely", "provider-outage"),
        ("status", "rules out", "provider-outage"),
    ]
    first, _, note, otherwise, *_ = findings
    assert first.condition is not None
    assert first.condition.text == 'failed.any(error ~ "invalid_grant|revoked")'
    assert (first.text, note.text) == ("Ask them.", "nothing failed in this hour.")
    assert otherwise.condition is None
    assert otherwise.text == "read the errors above."
    assert first.line == line_of(GOOD, "- If `failed.any")


def test_a_finding_outside_of_findings_is_a_fault() -> None:
    text = GOOD.replace("**Findings**\n\n- If `failed", "- If `failed")
    assert all("outside **Findings**" in m for found in messages(text).values() for m in found)
    assert len(messages(text)) == 3


def test_a_list_under_a_cause_holds_no_findings() -> None:
    text = changed("Wait, then", "- If `it` is long, wait\n\nThen")
    assert len(runbook(text).findings) == len(runbook().findings)


def test_findings_need_a_list_and_a_block() -> None:
    assert "no list stands" in only_fault(
        changed("## Diagnosis", "**Findings**\n\nNone.\n\n## Diagnosis"), "**Findings**\n\nNone"
    )
    text = changed("```http id=status on=core timeout=2s bytes=4k", "```http")
    assert "no block with an id stands above" in str(messages(text))


def test_causes_link_actions() -> None:
    book = runbook()
    assert [(c.anchor, c.title, c.actions) for c in book.causes] == [
        ("token-revoked", "Token revoked", ("queue-it-again",)),
        ("provider-outage", "Provider outage", ("queue-it-again",)),
    ]
    assert book.causes[0].text.startswith("Somebody changed a password.")
    assert book.causes[0].line == line_of(GOOD, "### Token revoked")


def test_sections_hold_their_markdown() -> None:
    sections = runbook().sections
    assert sections["Symptoms"] == "Rosters are out of date."
    assert sections["Diagnosis"].startswith("### Token revoked\nSomebody")
    assert "```http id=requeue" in sections["Resolution"]


def test_an_unreadable_info_string_is_no_documentation() -> None:
    text = changed("id=status on=core", "on='core id=status")
    (message,) = messages(text)[line_of(text, "```http on=")]
    assert "cannot be read | write key=value" in message


def test_a_block_without_an_id_is_documentation() -> None:
    text = changed("Safe to repeat.\n", "Safe to repeat.\n\n```sql on=core run=auto\nDELETE FROM runs\n```\n")
    assert [step.id for step in runbook(text).steps] == ["failed", "status", "requeue", "recovered"]


def test_windows_newlines_and_a_byte_order_mark_change_nothing() -> None:
    assert runbook("\ufeff" + GOOD.replace("\n", "\r\n")) == runbook()


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ("sql id=a on=b", {"id": "a", "on": "b"}),
        ("sql\tid=a   on=b ", {"id": "a", "on": "b"}),
        ("sql id=a expect='a.any(x = \"y z\")'", {"id": "a", "expect": 'a.any(x = "y z")'}),
        ('sql id=a expect="a.rows = 0"', {"id": "a", "expect": "a.rows = 0"}),
        ("sql", {}),
        ("", {}),
    ],
)
def test_info_strings(info: str, words: dict[str, str]) -> None:
    assert attributes(info)[1:] == (words, [])


def test_anchors_are_githubs() -> None:
    texts = [
        "1. Which runs failed",
        "Re-queue: the `sync`, now!",
        "Élèves & co",
        "Same",
        "Same",
        "Same-1",
        "Same",
        "a_b",
    ]
    assert list(anchors(texts)) == [
        "1-which-runs-failed",
        "re-queue-the-sync-now",
        "élèves--co",
        "same",
        "same-1",
        "same-1-1",
        "same-2",
        "a_b",
    ]


pieces = st.sampled_from(
    [
        *GOOD.splitlines(keepends=True),
        "```",
        "~~~",
        "---\n",
        "\n",
        "> ",
        "- ",
        "    ",
        "<!--",
        "\ud800",
        "\0",
        "[](#",
        "`",
    ]
)


@given(st.one_of(st.text(max_size=200), st.lists(pieces, max_size=40).map("".join)))
def test_any_text_parses_or_has_faults(text: str) -> None:
    book, faults = parse(text, FILE)
    assert book is not None or faults


@given(st.integers(0, len(GOOD)), st.integers(0, 40), st.text(max_size=10))
def test_any_damage_to_a_runbook_is_survived(start: int, length: int, text: str) -> None:
    damaged = GOOD[:start] + text + GOOD[start + length :]
    book, faults = parse(damaged, FILE)
    assert book is not None or faults
    assert all(1 <= fault.line <= damaged.count("\n") + damaged.count("\r") + 1 for fault in faults)
