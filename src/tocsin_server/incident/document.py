"""One incident as one Markdown document, for a reader who was not there and knows nothing of Tocsin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tocsin_server.incident.markdown import fence, table, text
from tocsin_server.notify.wording import counted, lasting, people, shown_labels
from tocsin_server.privacy import scrub_text

MAX_PARAGRAPH = 2000
#: Alerts that are described one by one before the rest is counted.
MAX_FIRED = 20
_WRITTEN = "Written by Tocsin, which watches the platform's log lines and raises alerts by itself."
_ASKED = (
    "When the alert fired, and again at the end, the read-only steps of the linked runbooks ran by "
    "themselves. Below is what was asked and what came back. Personal data was removed before it was stored."
)
_UNKNOWN = "Not known: the events behind this alert name no tenant and no user."


def export_markdown(shown: Mapping[str, Any]) -> str:
    """The document of what :func:`tocsin_server.incident.show` returned; safe to share.

    It says what happened, when, for whom, what was found, the likely cause and what was done, then gives the
    timeline and the evidence. Text from telemetry is escaped and scrubbed, users are counted and not named.
    """
    parts = (_top, _happened, _whom, _causes, _done, _timeline, _evidence)
    return "\n".join(line for part in parts for line in (*part(shown), "")).rstrip() + "\n"


# --- the story ------------------------------------------------------------------------------------------


def _top(shown: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Incident {shown['id']}: {text(shown['title'])}"
    yield ""
    if shown["drill"]:
        yield "**This was a drill:** synthetic events, nobody was affected."
        yield ""
    yield f"**{shown['severity'].capitalize()}, {shown['status']}.** {_lasted(shown)}"
    yield ""
    yield f"{_WRITTEN} All times are UTC."


def _lasted(shown: Mapping[str, Any]) -> str:
    began, ended = shown["opened_at"], shown["resolved_at"]
    if ended is None:
        return f"Began {_at(began)} and was not over when this was written."
    after = datetime.fromisoformat(ended) - datetime.fromisoformat(began)
    return f"Began {_at(began)}, ended {_at(ended)}, after {lasting(after // timedelta(microseconds=1))}."


def _happened(shown: Mapping[str, Any]) -> Iterator[str]:
    yield "## What happened"
    yield ""
    fired = [entry for entry in shown["timeline"] if entry["kind"] in ("opened", "joined", "reopened")]
    yield from (f"- {_at(entry['at'])}: {_said(entry['text'])}" for entry in fired[:MAX_FIRED])
    if len(fired) > MAX_FIRED:
        yield f"- … and {len(fired) - MAX_FIRED} more; the timeline has them all"
    yield ""
    rows = [
        (
            alert["alert"],
            alert["severity"],
            ", ".join(f"{name} {value}" for name, value in shown_labels(alert["labels"]).items() if value),
            _at(alert["fired_at"]),
            "still firing" if alert["resolved_at"] is None else _at(alert["resolved_at"]),
        )
        for alert in shown["alerts"]
    ]
    yield from table(("alert", "severity", "where", "fired", "resolved"), rows)


def _whom(shown: Mapping[str, Any]) -> Iterator[str]:
    yield "## For whom"
    yield ""
    tenants, users = (shown[who] or {"ids": [], "count": 0} for who in ("tenants", "users"))
    if not tenants["count"] and not users["count"]:
        yield _UNKNOWN
        return
    ids = ", ".join(text(one) for one in sorted(tenants["ids"], key=lambda one: (len(one), one)))
    more = " and more" if tenants["count"] > len(tenants["ids"]) else ""
    tenants_told = (
        counted(tenants["count"], "tenant") if tenants["count"] else "tenants: not named in these events"
    )
    yield f"- {tenants_told}" + (f": {ids}{more}" if ids else "")
    yield f"- {people(users['count'])}" if users["count"] else "- users: not named in these events"
    why = tenants.get("approximate") or users.get("approximate")
    if why:
        yield f"- {text(why)}"


def _causes(shown: Mapping[str, Any]) -> Iterator[str]:
    yield "## Likely cause"
    yield ""
    if not shown["causes"]:
        finished = any(run["status"] == "done" and run["phase"] == "fire" for run in shown["runs"])
        yield "No cause stands out in the evidence." if finished else "No runbook has looked for one."
    for cause in shown["causes"]:
        yield f"- **{text(cause['title'])}** ({cause['strength']}, runbook {text(cause['runbook'])})"
        yield from (f"  - {_said(reason)}" for reason in cause["because"])


def _done(shown: Mapping[str, Any]) -> Iterator[str]:
    yield "## What was done"
    yield ""
    by_people = [entry for entry in shown["timeline"] if entry["who"]]
    told = [f"- {_delivery(delivery)}" for delivery in reversed(shown["deliveries"])]
    lines = [f"- {_at(entry['at'])}: {_by(entry)}" for entry in by_people]
    yield from [*told, *lines] or ["Nobody was notified, and nobody wrote anything down."]


def _delivery(delivery: Mapping[str, Any]) -> str:
    attempts = len(delivery["attempts"])
    how = f"{delivery['status']} after {counted(attempts, 'attempt')}"
    told = f"{_at(delivery['created_at'])}: told {text(delivery['channel'])} ({how})"
    return f"{told}: {_said(delivery['title'])}"


def _by(entry: Mapping[str, Any]) -> str:
    return (
        f"{text(entry['who'])} noted: {_said(entry['text'])}"
        if entry["kind"] == "note"
        else _said(entry["text"])
    )


def _timeline(shown: Mapping[str, Any]) -> Iterator[str]:
    yield "## Timeline"
    yield ""
    for entry in sorted(shown["timeline"], key=lambda entry: entry["at"]):
        yield f"- {_at(entry['at'])}, {entry['kind'].replace('_', ' ')}: {_said(entry['text'])}"


# --- evidence -------------------------------------------------------------------------------------------


def _evidence(shown: Mapping[str, Any]) -> Iterator[str]:
    yield "## Evidence"
    yield ""
    if not shown["evidence"]:
        yield "There is none: no runbook has run."
        return
    yield _ASKED
    runbook = None
    for pair in shown["evidence"]:
        if pair["runbook"] != runbook:
            runbook = pair["runbook"]
            yield from ("", f"### Runbook {text(runbook)}")
        yield from ("", f"#### {text(pair['title'])}")
        for phase, when in (("fire", "When it fired"), ("resolve", "At the end")):
            yield ""
            yield from _answer(when, pair[phase])


def _answer(when: str, answer: Mapping[str, Any] | None) -> Iterator[str]:
    if answer is None:
        yield f"**{when}:** not asked."
        return
    reason = f": {_said(answer['reason'])}" if answer["reason"] else ""
    at = f" ({_at(answer['started_at'])})" if answer["started_at"] else ""
    yield f"**{when}**{at}: {answer['status'].replace('_', ' ')}{reason}."
    yield ""
    holding = [finding for finding in answer["findings"] if finding["verdict"]]
    yield from (f"- {_means(finding)}" for finding in holding)
    yield from [""] if holding else []
    yield from fence(_question(answer))
    yield ""
    yield from _rows(answer)


def _means(finding: Mapping[str, Any]) -> str:
    """What a finding that holds says; a cause is named by its anchor."""
    cause = finding["cause"].replace("-", " ")
    named = f"**{finding['strength']}**" + (f" {text(cause)}" if cause else "")
    return f"{named}: {_said(finding['text'])}" if finding["text"] else named


def _question(answer: Mapping[str, Any]) -> str:
    parameters = [f"{name} = {value}" for name, value in answer["parameters"].items()]
    return "\n".join([answer["rendered"] or answer["step"], *parameters])


def _rows(answer: Mapping[str, Any]) -> Sequence[str]:
    if answer["http"] is not None:
        return [f"HTTP status {text(answer['http']['status'])}", "", *fence(answer["http"]["body"])]
    if answer["status"] != "ok":
        return []
    if not answer["rows"]:
        return ["No rows."]
    more = ["", "There were more rows; these are the first."] if answer["truncated"] else []
    return [*table(answer["columns"], answer["rows"]), *more]


# --- words ----------------------------------------------------------------------------------------------


def _at(iso: str) -> str:
    """``2026-11-23 07:55:30``."""
    return iso[:19].replace("T", " ")


def _said(words: str) -> str:
    return text(scrub_text(words), MAX_PARAGRAPH)
