"""A message as e-mail: one address, plain text with a simple HTML twin, threaded by incident.

The server is an SMTP URL: ``smtp://user:password@host:587?starttls``, ``smtps://host`` or ``smtp://host``;
user and password percent-encoded, ``?from=tocsin@example.org`` names the sender.
"""

from __future__ import annotations

import html
import smtplib
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tocsin_server.clock import SECOND_US
from tocsin_server.config import Channel
from tocsin_server.errors import TocsinError
from tocsin_server.notify.message import Delivery
from tocsin_server.notify.retry import Answer
from tocsin_server.notify.wording import cut, shown
from tocsin_server.visible import visible

TIMEOUT_S = 10.0
MAX_SUBJECT_CHARACTERS = 120
_HINT = "write smtp://user:password@host:587?starttls"


@dataclass(frozen=True, slots=True)
class Server:
    """The parts of an SMTP URL; without a user nobody logs in."""

    host: str
    port: int
    tls: bool
    starttls: bool
    user: str
    password: str
    sender: str


def send(channel: Channel, delivery: Delivery, private_hosts: frozenset[str]) -> Answer:
    """Hands the mail to the server; raises TocsinError when the SMTP URL is not there or is none."""
    email = channel.email
    assert email is not None
    server = read_url(email.smtp.read())
    mail = compose_mail(delivery, email.to, server.sender)
    try:
        with _connected(server) as smtp:
            smtp.send_message(mail, server.sender, [email.to])
    except (smtplib.SMTPException, OSError, ValueError) as error:
        return failed(error)
    return Answer("accepted", f"accepted by {server.host} for delivery")


def read_url(url: str) -> Server:
    """The parts of an SMTP URL. Raises TocsinError, which never shows the URL: it holds a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise TocsinError(f"the SMTP URL cannot be read; {_HINT}") from None
    query = parse_qs(parts.query, keep_blank_values=True)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or query.keys() - {"starttls", "from"}:
        raise TocsinError(f"the SMTP URL is not of the form smtp://host or smtps://host; {_HINT}")
    tls, starttls = parts.scheme == "smtps", "starttls" in query
    user = unquote(parts.username or "")
    sender = query.get("from", [user if "@" in user else f"tocsin@{socket.gethostname()}"])[0]
    return Server(
        host=parts.hostname,
        port=port or (465 if tls else 587 if starttls else 25),
        tls=tls,
        starttls=starttls,
        user=user,
        password=unquote(parts.password or ""),
        sender=_address(sender),
    )


def _address(text: str) -> str:
    try:
        return Address(addr_spec=text).addr_spec
    except (ValueError, IndexError):
        raise TocsinError("the SMTP URL names no sender; add ?from=tocsin@example.org") from None


@contextmanager
def _connected(server: Server) -> Iterator[smtplib.SMTP]:
    context = ssl.create_default_context()
    smtp = (
        smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_S, context=context)
        if server.tls
        else smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_S)
    )
    try:
        if server.starttls:
            smtp.starttls(context=context)
        if server.user:
            smtp.login(server.user, server.password)
        yield smtp
        with suppress(smtplib.SMTPException):
            smtp.quit()  # the mail is accepted already, whatever the server says now
    finally:
        smtp.close()


def failed(error: Exception) -> Answer:
    """4xx of SMTP and a lost connection may pass; 5xx, and what the server cannot do, is refused for good."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return _answered(*next(iter(error.recipients.values())))
    if isinstance(error, smtplib.SMTPResponseException):
        return _answered(error.smtp_code, error.smtp_error)
    for_good = isinstance(error, smtplib.SMTPNotSupportedError | ValueError)
    return Answer("refused" if for_good else "retry", shown(f"{type(error).__name__}: {error}"))


def _answered(code: int, said: bytes | str) -> Answer:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return Answer("refused" if 500 <= code < 600 else "retry", f"SMTP {code}: {shown(text)}")


# --- the mail -------------------------------------------------------------------------------------------


def compose_mail(delivery: Delivery, to: str, sender: str) -> EmailMessage:
    """The mail. Its Message-ID is the key, so that a repeat is seen as one; incidents are threads."""
    body, domain = delivery.body, sender.rpartition("@")[2]
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address("Tocsin", addr_spec=sender)
    mail["To"] = to
    mail["Subject"] = cut(visible(body["title"]), MAX_SUBJECT_CHARACTERS)
    mail["Date"] = format_datetime(datetime.fromtimestamp(delivery.at // SECOND_US, UTC))
    mail["Message-ID"] = f"<{delivery.key}@{domain}>"
    if incident := body["incident"]:
        opened = "".join(c for c in incident["opened_at"] if c.isdigit())
        thread = f"<incident-{incident['id']}-{opened}@{domain}>"
        mail["In-Reply-To"] = thread
        mail["References"] = thread
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Tocsin-Attempt"] = str(delivery.attempt)
    mail.set_content(as_text(body, delivery.base_url))
    mail.add_alternative(as_html(body, delivery.base_url), subtype="html")
    return mail


def sections(body: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The parts of the mail below its first sentence: a heading, and lines with the address each links to."""
    incident = body["incident"]
    if incident:
        yield "Incident", [(incident["title"], incident["url"])]
    causes = [(f"{c['title']} ({c['strength']}): {'; '.join(c['because'])}", "") for c in body["causes"]]
    if causes:
        yield "Causes that the evidence supports", causes
    if body["runbooks"]:
        yield "Runbooks", [(runbook["id"], runbook["url"]) for runbook in body["runbooks"]]
    actions = dict.fromkeys(member["action"] for member in body["members"] if member["action"])
    if actions and body["status"] == "firing":
        yield "What to do", [(action, "") for action in actions]
    if body["members"]:
        more = [(f"and {body['more']:,} more", "")] if body["more"] else []
        yield "Alerts", [(_instance(member), "") for member in body["members"]] + more


def _instance(member: Mapping[str, Any]) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in member["labels"].items() if value)
    times = f"since {member['fired_at']}"
    times += f", resolved at {member['resolved_at']}" if member["resolved_at"] else ""
    parts = (f"{member['status']}: {member['title']}", labels, member["measured"], times)
    return ", ".join(part for part in parts if part)


def as_text(body: Mapping[str, Any], url: str) -> str:
    """The mail as plain text: the sentence first."""
    lines = [body["title"]]
    for heading, entries in sections(body):
        lines += ["", heading]
        lines += [f"- {text}" + (f": {link}" if link else "") for text, link in entries]
    return "\n".join([*lines, "", f"Sent by Tocsin, {url}", ""])


def as_html(body: Mapping[str, Any], url: str) -> str:
    """The same as HTML, without images, styles or scripts."""
    parts = [f"<p><strong>{html.escape(body['title'])}</strong></p>"]
    for heading, entries in sections(body):
        items = "".join(f"<li>{_linked(text, link)}</li>\n" for text, link in entries)
        parts.append(f"<h3>{html.escape(heading)}</h3>\n<ul>\n{items}</ul>")
    parts.append(f"<p>Sent by Tocsin, {_linked(url, url)}</p>")
    return "\n".join(["<!doctype html>", "<html><body>", *parts, "</body></html>", ""])


def _linked(text: str, link: str) -> str:
    return f'<a href="{html.escape(link)}">{html.escape(text)}</a>' if link else html.escape(text)
