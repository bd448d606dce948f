"""Lines that are no JSON."""

from __future__ import annotations

import re

from tocsin_server.dialects.line import Fields
from tocsin_server.dialects.programs import sidekiq_context
from tocsin_server.dialects.times import leading_timestamp

_SIDEKIQ = re.compile(
    r"(?P<timestamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) pid=(?P<pid>\d+) tid=(?P<tid>\w+)"
    r"(?P<context>(?: [a-z]+=\S+)*) (?P<level>[A-Z]+): (?P<message>.*)",
    re.S,
)


def sidekiq_text(line: str) -> Fields | None:
    """``2026-11-23T14:25:14.315Z pid=1 tid=kyv class=RosterJob jid=58e8 elapsed=0.019 INFO: done``; None if
    it is not.
    """
    if " pid=" not in line[:40]:
        return None
    match = _SIDEKIQ.fullmatch(line)
    if match is None:
        return None
    fields: Fields = match.groupdict()
    pairs = fields.pop("context").split()
    fields |= dict(pair.split("=", 1) for pair in pairs)
    return sidekiq_context(fields)


def plain_text(line: str) -> Fields:
    """``[2026-11-23 07:55:12] booted``: the line is the message; its time is the one that it begins with,
    if any.
    """
    return {"timestamp": leading_timestamp(line), "message": line}
