"""``docs/rails.md`` is true: lines are the events that it names, answers Tocsin's, the order unchanged."""

from __future__ import annotations

import hmac
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tocsin.events import EVENTS
from tocsin.redact import Redactor
from tocsin_server.cli import main
from tocsin_server.columns import Event
from tocsin_server.dialects import Context, Parsed, parse_line
from tocsin_server.privacy import Pseudonyms

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests/data"
PAGE = (ROOT / "docs/rails.md").read_text()
ORDER = (DATA / "order/rails.md").read_text()

_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = [(language, name, text) for language, name, text in _BLOCK.findall(PAGE)]
LINES = [(name, text.rstrip("\n")) for language, name, text in BLOCKS if language == "json"]
COMMANDS = [text.split("\n", 1) for language, _, text in BLOCKS if language == "console"]
RECORDED = {
    line for log in ("web.log", "worker.log") for line in (DATA / "rails" / log).read_bytes().split(b"\n")
}
ADDED = [(name, line) for name, line in LINES if line.encode() not in RECORDED]
IDS = [f"{name}-{position}" for position, (name, _) in enumerate(LINES)]

#: What every line has, or Tocsin adds.
COMMON = {"attrs", "log_tags", "event_id", "received_at", "source", "ts", "name"}
COMMON |= {"service", "environment", "level", "http_status", "tenant_id", "status"}
LACKING = [
    (event, set(re.findall(r"`(\w+)`", names)))
    for names, event in re.findall(r"^\| ((?:`\w+`(?:, )?)+) of `([\w.]+)`", PAGE, re.MULTILINE)
]
KEY = "sixteen characters or more"
_PSEUDONYMS = Pseudonyms(lambda _tenant: b"sixteen bytes or more")
CONTEXT = Context(
    received_at=1_795_443_900_000_000, pseudonym=_PSEUDONYMS, skew_limit_us=None, network=_PSEUDONYMS.network
)

Doctor = Callable[..., dict[str, Any]]


def understood(line: str | bytes) -> Event:
    result = parse_line(line.encode() if isinstance(line, str) else line, CONTEXT)
    assert isinstance(result, Parsed)
    return result.event


def fields(event: Event) -> set[str]:
    """Names of the fields that have a value."""
    columns = {name for name in event.__slots__ if getattr(event, name) is not None}
    return columns | set(event.attrs or {})


def said(message: str) -> str:
    """A message in the order's log line."""
    return json.dumps(
        {"timestamp": "2026-11-23T07:55:12.345Z", "level": "INFO", "message": message, "service": "k12-core"}
    )


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Runs a command line where the recorded logs are; its answer, without blanks at the ends of lines."""
    for log in ("web.log", "worker.log"):
        shutil.copy(DATA / "rails" / log, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOCSIN_DATA", raising=False)
    monkeypatch.delenv("TOCSIN_URL", raising=False)

    def run(line: str) -> str:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        assert main() == 0
        return re.sub(r" +$", "", capsys.readouterr().out, flags=re.MULTILINE).strip()

    return run


@pytest.fixture
def doctor(command: Callable[[str], str], tmp_path: Path) -> Doctor:
    """What ``tocsin doctor --json`` says about these lines."""

    def ask(*lines: str) -> dict[str, Any]:
        (tmp_path / "asked.log").write_text("".join(line + "\n" for line in lines))
        answer: dict[str, Any] = json.loads(command("tocsin doctor --json asked.log"))
        return answer

    return ask


def not_ready(diagnosis: dict[str, Any]) -> set[str]:
    return {alert for alert, readiness in diagnosis["alerts"].items() if not readiness["ready"]}


@pytest.mark.parametrize("snippet", re.findall(r"^```ruby\n.*?^```$", ORDER, re.DOTALL | re.MULTILINE))
def test_the_snippets_of_the_order_are_unchanged(snippet: str) -> None:
    assert snippet in PAGE


def test_the_page_ends_in_verify_and_troubleshooting() -> None:
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE)[-2:] == ["Verify", "Troubleshooting"]


def test_links_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^##+ (.+)$", PAGE, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        page, _, anchor = target.partition("#")
        assert (ROOT / "docs" / page).is_file() if page else anchor in anchors, target


@pytest.mark.parametrize(("name", "line"), LINES, ids=IDS)
def test_each_line_is_the_event_beside_it(name: str, line: str) -> None:
    event = understood(line)
    assert event.name == name
    assert event.ts is not None
    assert event.environment == "production"
    known = EVENTS["api.request" if name == "http.request" else name]
    assert fields(event) - COMMON <= {field.name for field in known.fields}


def test_no_added_line_has_a_value_that_its_column_refuses() -> None:
    for _, line in ADDED:
        assert not set(understood(line).attrs or {}) & set(Event.__slots__)


@pytest.mark.parametrize(("name", "names"), LACKING, ids=[name for name, _ in LACKING])
def test_what_the_table_says_is_missing_is_missing_and_is_added(name: str, names: set[str]) -> None:
    mark = name.encode()
    recorded = (understood(line) for line in RECORDED if mark in line and b"tags" in line)
    assert not names & set().union(*(fields(event) for event in recorded if event.name == name))
    assert names <= set().union(*(fields(understood(line)) for added, line in ADDED if added == name))


def test_the_table_speaks_of_each_event_of_the_order() -> None:
    assert {name for name, _ in LACKING} == {
        "api.request",
        "job.completed",
        "sync.run",
        "auth.login",
        "ai.invocation",
    }


def test_the_recorded_answers_are_what_tocsin_says(command: Callable[[str], str]) -> None:
    for line, answer in COMMANDS:
        expected, found = answer.strip(), command(line.removeprefix("$ "))
        if " ingest " in line:  # its speed is another each time
            expected, found = expected.split(" (")[0], found.split(" (")[0]
        assert found == expected


def test_what_the_recorded_lines_lack_is_in_the_table(command: Callable[[str], str]) -> None:
    diagnosis = json.loads(command("tocsin doctor --json web.log worker.log"))
    table = PAGE.split("## What they cannot say")[1].split("## What to add")[0]
    for alert in not_ready(diagnosis):
        missing = diagnosis["alerts"][alert]["missing"][0].split()[1]
        row = next(row for row in table.splitlines() if row.startswith(f"| `{missing}` |"))
        assert alert in row


def test_with_the_additions_only_the_probe_and_the_gateway_are_missing(doctor: Doctor) -> None:
    diagnosis = doctor(*(line for _, line in LINES))
    assert not_ready(diagnosis) == {"AIGatewayDown", "AIProviderErrors"}
    assert (diagnosis["rejected"], diagnosis["logs"]) == (0, 0)


@pytest.mark.parametrize(
    ("event", "alerts"),
    [("job.queue", {"JobQueueDepth"}), ("db.disk", {"DiskUsage", "DiskAlmostFull"})],
)
def test_each_sample_is_what_its_alerts_waited_for(doctor: Doctor, event: str, alerts: set[str]) -> None:
    without = not_ready(doctor(*(line for name, line in LINES if name != event)))
    assert without == alerts | {"AIGatewayDown", "AIProviderErrors"}


def test_the_pseudonym_is_the_one_of_the_python_emitter() -> None:
    request = json.loads(
        json.loads(next(line for name, line in ADDED if name == "api.request"))["message"].split("] ")[1]
    )
    digest = hmac.digest(KEY.encode(), b"42", "sha256").hex()
    assert request["tags"]["user_id"] == "u_" + digest[:16]

    assert Redactor(KEY).pseudonym(42, "2026-11-23") == "u_" + digest[:16]


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ('  Parameters: {"student"=>{"name"=>"Maya Lindqvist"}}', "  Parameters: <dropped>"),
        (
            '[ActiveJob] Performing PdfExportJob from Sidekiq(exports) with arguments: 7, "Maya Lindqvist"',
            "[ActiveJob] Performing PdfExportJob from Sidekiq(exports) with arguments: <dropped>",
        ),
        (
            'Started GET "/api/v1/courses/7" for 203.0.113.9 at 2026-11-23 07:55:12 +0000',
            'Started GET "/api/v1/courses/:id" for <ip> at 2026-11-23 07:55:12 +0000',
        ),
    ],
)
def test_what_rails_says_about_people_is_cleaned(message: str, kept: str) -> None:
    assert understood(said(message)).message == kept


def test_an_exception_s_message_is_scrubbed() -> None:
    found = understood(
        said('ActiveRecord::RecordInvalid (Name "Maya Lindqvist" of maya@school.example, 987654321)')
    )
    for planted in ("Maya", "school.example", "987654321"):
        assert planted not in (found.message or "")


def test_ids_paths_and_networks_are_cleaned() -> None:
    request = understood(next(line for name, line in ADDED if name == "http.request"))
    assert request.path == "/api/v1/courses/:id"
    assert re.fullmatch("u_[0-9a-f]{16}", request.user_id or "")
    raw = understood(
        said('{"request_id":"a","method":"GET","path":"/x?q=1","status":200,"user_id":42,"tenant_id":7}')
    )
    assert (raw.path, raw.user_id) == ("/x", _PSEUDONYMS("7", "42"))
    login = understood(next(line for name, line in ADDED if name == "auth.login"))
    assert re.fullmatch("n_[0-9a-f]{16}", (login.attrs or {})["client_network"])
