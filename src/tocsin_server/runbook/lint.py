"""Lint of a whole runbook: the checklist of the runbook convention that a program can hold.

Parsing found what cannot be read; this finds what is stale, leads nowhere, is unbounded or must not be there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from tocsin_server.config import Connection
from tocsin_server.durations import format_duration
from tocsin_server.errors import Fault
from tocsin_server.privacy import scrub_text
from tocsin_server.privacy.tokens import scrub_numbers, scrub_secrets
from tocsin_server.runbook import front, lint_steps
from tocsin_server.runbook.blocks import attributes
from tocsin_server.runbook.markdown import Outline, outline, slug
from tocsin_server.runbook.model import Runbook
from tocsin_server.yamlfile import Document, did_you_mean

#: The second-level headings of every runbook, in this order.
SECTIONS = (
    "Symptoms",
    "Impact",
    "Investigation",
    "Diagnosis",
    "Resolution",
    "Verification",
    "Escalation",
    "References",
)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
_ADDRESS = re.compile(r"[^\s\"'<>()\[\]`,;|]+@[^\s\"'<>()\[\]`,;|]+")
_EXAMPLE = re.compile(r"@(?:[\w-]+\.)*example\.(?:org|com)[.:!?]*$", re.IGNORECASE)
_BEARER = re.compile(r"(?i)\b(?:bearer|basic)\s+(?=\S*\d)[\w.~+/=-]{16,}")
_NOT_PERSONAL = re.compile(r"\S+://\S+|(?<![\d-])\d{6,}(?![\d-])")
_NAME = re.compile(r"[\w.~+/=-]{16,}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Page:
    """A runbook with its lines: those of its front matter and those of its Markdown."""

    runbook: Runbook
    matter: Document
    markdown: Outline

    def at(self, *key: str | int) -> int:
        """The line of a key of the front matter."""
        return self.matter.line_of(key)

    def fault(self, line: int, message: str, hint: str) -> Fault:
        return Fault(self.runbook.file, line, message, hint)


def lint(
    runbook: Runbook,
    alerts: Mapping[str, list[str]],
    connections: Mapping[str, Connection] | None,
    today: date,
) -> list[Fault]:
    """Every fault of a parsed runbook, by line.

    ``alerts``: alert -> ids of the runbooks that it links to. ``connections``: those of the settings; None
    when they are not known. Relative links are looked up beside ``runbook.file``.
    """
    yaml, markdown = front.split(runbook.source)
    page = _Page(runbook, front.read(yaml, runbook.file)[1], outline(markdown))
    faults = {
        *_review(page, today),
        *_owner(page),
        *_alerts(page, alerts),
        *_connections(page, connections or {}, connections is not None),
        *_inputs(page),
        *_sections(page),
        *_causes(page),
        *_links(page),
        *_private(page),
        *lint_steps.steps(runbook, _rows_named(page)),
        *lint_steps.findings(runbook),
    }
    return sorted(faults)


# --- front matter ---------------------------------------------------------------------------------------


def _review(page: _Page, today: date) -> Iterator[Fault]:
    reviewed = date.fromisoformat(page.runbook.last_reviewed)
    due = reviewed + timedelta(microseconds=page.runbook.review_every_us)
    if reviewed > today:
        yield page.fault(page.at("last_reviewed"), "the last review is in the future", f"today is {today}")
    elif due < today:
        every = format_duration(page.runbook.review_every_us)
        hint = f"read it, correct it, and write last_reviewed: {today}"
        yield page.fault(page.at("last_reviewed"), f"the review was due on {due} (every {every})", hint)


def _owner(page: _Page) -> Iterator[Fault]:
    if re.search(r",|;|&|/|\band\b", page.runbook.owner):
        yield page.fault(page.at("owner"), "a runbook has one owner", "name the team that answers for it")


def _alerts(page: _Page, alerts: Mapping[str, list[str]]) -> Iterator[Fault]:
    runbook = page.runbook
    for index, name in enumerate(runbook.alerts):
        if name not in alerts:
            yield page.fault(page.at("alerts", index), f"no alert `{name}`", did_you_mean(name, alerts))
        elif runbook.id not in alerts[name]:
            hint = f"add {runbook.id} to the `runbooks` of its rule"
            yield page.fault(page.at("alerts", index), f"alert `{name}` does not link here", hint)
    for name in sorted(alerts):
        if runbook.id in alerts[name] and name not in runbook.alerts:
            yield page.fault(page.at("alerts"), f"alert `{name}` links here", "add it to `alerts`")


def _connections(page: _Page, known: Mapping[str, Connection], checked: bool) -> Iterator[Fault]:
    for name, message, hint in lint_steps.connections(page.runbook, known) if checked else ():
        place = page.runbook.connections.index(name)
        yield page.fault(page.at("connections", place), message, hint)


def _inputs(page: _Page) -> Iterator[Fault]:
    used = {name for step in page.runbook.steps for name in lint_steps.parameters(step)}
    for one in page.runbook.inputs:
        if one.name not in used:
            hint = f"write :{one.name} in a block, or remove it"
            yield page.fault(page.at("inputs", one.name), f"no block uses the input `{one.name}`", hint)


def _rows_named(page: _Page) -> set[str]:
    """Ids of the blocks whose answer has a number of rows that somebody chose."""
    if page.at("budget", "rows") != page.at("budget"):
        return {step.id for step in page.runbook.steps}
    named = [attributes(fence.info)[1] for passage in page.markdown.passages for fence in passage.fences]
    return {words["id"] for words in named if "id" in words and "rows" in words}


# --- headings and links ---------------------------------------------------------------------------------


def _sections(page: _Page) -> Iterator[Fault]:
    found = [p.heading for p in page.markdown.passages if p.heading.level == 2]
    start = next((p.heading.line for p in page.markdown.passages if p.heading.level == 1), 1)
    yield from _missing(page, {heading.text: heading.line for heading in reversed(found)}, start)
    for heading in found:
        if heading.text not in SECTIONS:
            hint = did_you_mean(heading.text, SECTIONS)
            yield page.fault(heading.line, f"unknown section `{heading.text}`", hint)
    for before, heading in pairwise(heading for heading in found if heading.text in SECTIONS):
        if SECTIONS.index(heading.text) < SECTIONS.index(before.text):
            hint = f"the order is {', '.join(SECTIONS)}"
            yield page.fault(heading.line, f"`{heading.text}` stands after `{before.text}`", hint)


def _missing(page: _Page, lines: Mapping[str, int], start: int) -> Iterator[Fault]:
    for title in SECTIONS:
        if title not in lines:
            yield page.fault(start, f"section `{title}` is missing", f"write `## {title}`")
        elif not page.runbook.sections[title].strip():
            yield page.fault(lines[title], f"section `{title}` is empty", "fill it")
    if not page.runbook.investigation:
        yield page.fault(start, "no block under Investigation has an id", "give a query `id=…`")


def _causes(page: _Page) -> Iterator[Fault]:
    anchors = {cause.anchor for cause in page.runbook.causes}
    for cause in page.runbook.causes:
        if not cause.actions:
            hint = "link a heading under Resolution: [what to do](#what-to-do)"
            yield page.fault(cause.line, f"cause `{cause.title}` has no resolution", hint)
    headings = {heading.anchor for heading in page.markdown.headings}
    for finding in page.runbook.findings:
        if finding.strength != "note" and finding.cause in headings - anchors:
            hint = "link a heading of level 3 under Diagnosis"
            yield page.fault(finding.line, f"`#{finding.cause}` is no cause", hint)
    for heading in (passage.heading for passage in page.markdown.passages):
        if heading.level and heading.anchor != slug(heading.text):
            hint = "its links would lead to the first one; choose another"
            yield page.fault(heading.line, f"the heading `{heading.text}` stands twice", hint)


def _links(page: _Page) -> Iterator[Fault]:
    anchors = {heading.anchor for heading in page.markdown.headings}
    for link in (link for passage in page.markdown.passages for link in passage.links):
        if link.target.startswith("#"):
            name = unquote(link.target[1:])
            if name not in anchors:
                yield page.fault(link.line, f"there is no heading `#{name[:80]}`", _nearest(name, anchors))
        elif not _SCHEME.match(link.target) and not _exists(Path(page.runbook.file).parent, link.target):
            hint = "write the path from this file to one that exists"
            yield page.fault(link.line, f"the link `{link.target[:80]}` leads nowhere", hint)


def _nearest(name: str, anchors: set[str]) -> str:
    near = get_close_matches(name, sorted(anchors), n=1)
    return f"did you mean `#{near[0]}`?" if near else "write the heading, or correct the link"


def _exists(folder: Path, target: str) -> bool:
    path = unquote(target.partition("#")[0].partition("?")[0])
    return not path.startswith("/") and os.path.exists(os.path.join(folder, path))


# --- what must not stand in a document ------------------------------------------------------------------


def _private(page: _Page) -> Iterator[Fault]:
    for line, text in enumerate(page.runbook.source.split("\n"), 1):
        for what in _found(text):
            hint = "remove it; write a role, a placeholder or an address at example.org"
            yield page.fault(line, f"holds {what}", hint)


def _found(text: str) -> Iterator[str]:
    """What of the privacy table a line holds, seen with the scrubbers that clean telemetry."""
    addresses = [a for a in _ADDRESS.findall(text) if not _EXAMPLE.search(a)]
    if any("<email>" in scrub_text(address) for address in addresses):
        yield "an e-mail address"
    if _BEARER.search(text) or any("<secret>" in scrub_secrets(name) for name in _NAME.findall(text)):
        yield "a secret"
    if "<number>" in scrub_numbers(_NOT_PERSONAL.sub(" ", text)):
        yield "a number of a person or a card"
