"""The steps between ``emit`` and the line: plain functions from a record to a record, in the order of a list.

A record is a dict on its way to become one line::

    {"metric": "api.request", "fields": {…}}                     a metric event
    {"level": "INFO", "message": "sync started", "fields": {…}}  a log line

``stamp`` adds ``timestamp``, ``service`` and ``environment``; the other steps work on ``fields`` and
``message``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from tocsin.config import Settings
from tocsin.context import snapshot
from tocsin.redact import Redactor
from tocsin.scrub import scrub
from tocsin.values import plain_fields, text

Record = dict[str, Any]
Processor = Callable[[Record], Record]

#: Nanoseconds since the epoch, UTC.
Clock = Callable[[], int]


def pipeline(settings: Settings, clock: Clock) -> list[Processor]:
    """What every record goes through, first to last."""
    redactor = Redactor(settings.pseudonym_key)
    return [
        stamp(settings, clock),
        merge_context,
        digest_content(redactor),
        limit,
        redact(redactor),
    ]


def stamp(settings: Settings, clock: Clock) -> Processor:
    """Adds the time (ISO 8601, UTC, milliseconds) and who speaks."""
    speaker = {"service": settings.service, "environment": settings.environment}

    def stamp(record: Record) -> Record:
        return {**record, "timestamp": timestamp(clock()), **speaker}

    return stamp


def merge_context(record: Record) -> Record:
    """Adds what ``bind`` has bound; a field given to ``emit`` wins."""
    return {**record, "fields": {**snapshot(), **record["fields"]}}


def digest_content(redactor: Redactor) -> Processor:
    """Puts length and hash in place of prompts, bodies and the like."""

    def digest_content(record: Record) -> Record:
        record["fields"] = redactor.digests(record["fields"])
        return record

    return digest_content


def limit(record: Record) -> Record:
    """Turns every value into plain JSON of bounded size."""
    record["fields"] = plain_fields(record["fields"])
    if "message" in record:
        record["message"] = text(record["message"])
    return record


def redact(redactor: Redactor) -> Processor:
    """Applies the privacy table; the day of the record's timestamp is the day of its network hashes."""

    def redact(record: Record) -> Record:
        record["fields"] = redactor.fields(record["fields"], record["timestamp"][:10])
        if "message" in record:
            record["message"] = text(scrub(record["message"]))
        return record

    return redact


def timestamp(ns: int) -> str:
    """``ns`` since the epoch as ``2026-11-23T07:55:12.345Z``; milliseconds are cut, never rounded up."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1_000_000:03d}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    """Cached, because the lines of one second share it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
