"""E-mail over a real SMTP server: what people read, threads, headers that cannot be broken out of."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from notifying import LABELS, MINUTE_US, START_US, Bench, FakeClock, bench, change

from tocsin_server.config import Settings
from tocsin_server.errors import TocsinError
from tocsin_server.notify import send_test
from tocsin_server.notify.channels.email import MAX_SUBJECT_CHARACTERS, compose_mail, failed, read_url
from tocsin_server.notify.message import Delivery, notice
from tocsin_server.notify.outbox import deliveries
from tocsin_server.notify.receivers import MailReceiver
from tocsin_server.state.tables import Incident, RunbookRun


def mailing() -> Settings:
    channel = {"email": {"to": "oncall@example.org", "smtp": {"env": "TOCSIN_TEST_SMTP_URL"}}}
    return Settings.model_validate(
        {"notify": {"channels": {"oncall": channel}, "routes": [{"to": ["oncall"]}]}}
    )


@pytest.fixture(autouse=True)
def _smtp(monkeypatch: pytest.MonkeyPatch, mailbox: MailReceiver) -> None:
    monkeypatch.setenv("TOCSIN_TEST_SMTP_URL", mailbox.url)


def incident(at: Bench) -> int:
    cause = {"cause": "c", "title": "Bad deploy", "strength": "likely", "because": ["since v2.31"]}
    with at.state.transaction() as session:
        row = Incident(
            title="High Error Rate: k12-core (production)",
            severity="critical",
            environment="production",
            status="open",
            opened_at=START_US,
        )
        session.add(row)
        session.flush()
        run = RunbookRun(
            incident_id=row.id,
            runbook="deployment-rollback",
            phase="fire",
            status="done",
            created_at=START_US,
            as_of=START_US,
            labels=LABELS,
            inputs={},
            causes=[cause],
        )
        session.add(run)
        return row.id


def plain(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def test_a_mail_says_what_is_wrong_first(tmp_path: Path, mailbox: MailReceiver) -> None:
    with bench(tmp_path, mailing()) as at:
        at.observe(change(incident_id=incident(at)))
        at.step()
    (mail,) = mailbox.mails
    assert mailbox.envelopes == [("tocsin@example.org", ["oncall@example.org"])]
    title = (
        "FIRING critical: High Error Rate, k12-core production: 12.4% (> 5% 5xx responses in 5 min), "
        "since 07:55 UTC; likely cause: Bad deploy"
    )
    assert mail["Subject"] == title[: MAX_SUBJECT_CHARACTERS - 1] + "…"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"] == "Mon, 23 Nov 2026 07:55:00 +0000"
    assert plain(mail).replace("\r\n", "\n") == (
        f"{title}\n"
        "\n"
        "Incident\n"
        "- High Error Rate: k12-core (production): http://127.0.0.1:8642/incidents/1\n"
        "\n"
        "Causes that the evidence supports\n"
        "- Bad deploy (likely): since v2.31\n"
        "\n"
        "Runbooks\n"
        "- deployment-rollback: http://127.0.0.1:8642/runbooks/deployment-rollback\n"
        "- database-issues: http://127.0.0.1:8642/runbooks/database-issues\n"
        "\n"
        "What to do\n"
        "- Check runbooks, consider rollback\n"
        "\n"
        "Alerts\n"
        "- firing: High Error Rate, service=k12-core, environment=production, "
        "12.4% (> 5% 5xx responses in 5 min), since 2026-11-23T07:55:00Z\n"
        "\n"
        "Sent by Tocsin, http://127.0.0.1:8642\n"
    )


def test_one_incident_is_one_thread_and_a_repeat_is_seen_as_one(
    tmp_path: Path, mailbox: MailReceiver
) -> None:
    mailbox.script.append("451 try later")
    with bench(tmp_path, mailing()) as at:
        number = incident(at)
        at.observe(change(incident_id=number))
        at.run_for(MINUTE_US)
        at.observe(change(incident_id=number, resolved_at=at.clock.now))
        at.run_for(MINUTE_US)
        with at.state.reading() as session:
            last, first = deliveries(session, 10, incident_id=number)
    assert [line["answer"] for line in first["attempts"]] == [
        "SMTP 451: try later",
        "accepted by 127.0.0.1 for delivery",
    ]
    fire, end = mailbox.mails
    assert fire["X-Tocsin-Attempt"] == "2"
    assert fire["Message-ID"] == f"<{first['key']}@example.org>"
    assert end["Message-ID"] == f"<{last['key']}@example.org>"
    assert fire["References"] == end["References"] == end["In-Reply-To"]
    assert end["Subject"].startswith("RESOLVED critical: High Error Rate, k12-core production: after 1 min")


def test_a_refusal_is_for_good(mailbox: MailReceiver) -> None:
    mailbox.script.append("550 no such mailbox of bob@school.example")
    (attempt,) = send_test(mailing(), "oncall", FakeClock())["attempts"]
    assert (attempt["outcome"], attempt["answer"]) == ("refused", "SMTP 550: no such mailbox of <email>")


def test_a_server_that_is_not_there_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_TEST_SMTP_URL", "smtp://127.0.0.1:9?from=tocsin@example.org")
    (attempt,) = send_test(mailing(), "oncall", FakeClock())["attempts"]
    assert (attempt["outcome"], attempt["answer"][:22]) == ("retry", "ConnectionRefusedError")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (smtplib.SMTPServerDisconnected("gone"), "retry"),
        (smtplib.SMTPRecipientsRefused({"a@b": (452, b"full")}), "retry"),
        (smtplib.SMTPRecipientsRefused({"a@b": (550, b"unknown")}), "refused"),
        (smtplib.SMTPAuthenticationError(535, b"wrong"), "refused"),
        (smtplib.SMTPConnectError(421, "busy"), "retry"),
        (smtplib.SMTPNotSupportedError("no STARTTLS"), "refused"),
        (TimeoutError("timed out"), "retry"),
        (ValueError("bad"), "refused"),
    ],
)
def test_what_may_pass(error: Exception, outcome: str) -> None:
    assert failed(error).outcome == outcome


# --- the URL --------------------------------------------------------------------------------------------


def test_the_parts_of_an_smtp_url() -> None:
    server = read_url("smtp://me%40example.org:p%3Ass@mail.example.org?starttls")
    assert (server.host, server.port, server.tls, server.starttls) == ("mail.example.org", 587, False, True)
    assert (server.user, server.password, server.sender) == ("me@example.org", "p:ss", "me@example.org")
    assert read_url("smtps://h?from=a@b.org").port == 465
    assert read_url("smtp://h:2525?from=a@b.org").port == 2525


@pytest.mark.parametrize(
    "url",
    [
        "mail.example.org",
        "http://h",
        "smtp://",
        "smtp://h:port",
        "smtp://h?tls",
        "smtp://h?from=nobody",
        "smtp://h?from=a%0d%0aBcc:x@b.org",
    ],
)
def test_a_wrong_url_is_told_without_showing_it(url: str) -> None:
    with pytest.raises(TocsinError) as told:
        read_url(url)
    assert url.removeprefix("smtp://") not in str(told.value) or url == "smtp://"


# --- hostile content ------------------------------------------------------------------------------------


@given(st.text(max_size=300), st.text(max_size=300))
@examples(max_examples=150, deadline=None)
def test_O8_no_text_breaks_out_of_a_header(title: str, label: str) -> None:
    body = notice(title, "first", "critical")
    body["incident"] = {"id": 1, "title": label, "opened_at": "2026-11-23T07:55:00Z", "url": "http://h/1"}
    mail = compose_mail(Delivery("k", 1, "c", "g", body, START_US, "http://h"), "a@b.org", "t@b.org")
    head, _, _ = mail.as_bytes().partition(b"\r\n\r\n")
    names = [line.split(b":")[0] for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t"))]
    assert sorted(names) == sorted(
        name.encode()
        for name in (
            *("From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References"),
            *("Auto-Submitted", "X-Tocsin-Attempt", "MIME-Version", "Content-Type"),
        )
    )
    assert len(str(mail["Subject"])) <= MAX_SUBJECT_CHARACTERS


def test_I12_html_holds_no_element_of_the_data(tmp_path: Path, mailbox: MailReceiver) -> None:
    payload = "<img src=x onerror=alert(1)>"
    with bench(tmp_path, mailing()) as at:
        at.observe(change(labels={**LABELS, "volume": payload}))
        at.step()
    (mail,) = mailbox.mails
    part = mail.get_body(("html",))
    assert part is not None
    assert "<img" not in part.get_content()
    assert "&lt;img" in part.get_content()
    assert "\n\n\n" not in plain(mail)
