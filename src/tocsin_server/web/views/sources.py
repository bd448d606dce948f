"""Sources: what arrives from where, how much of it was refused, and how each part of the process does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocsin_server.clock import iso
from tocsin_server.privacy import scrub_text
from tocsin_server.web.areas import example_line
from tocsin_server.web.filters import explore_url
from tocsin_server.web.params import HOUR_US, Params, TimeRange
from tocsin_server.web.services import Services
from tocsin_server.web.wording import lasting

_COUNTED = ("lines", "logs", "rejected", "duplicates")


def sources(services: Services, params: Params) -> dict[str, Any]:
    """The data of ``/sources``."""
    now_us = services.clock()
    return {
        "now": iso(now_us),
        "sources": [_source(row, now_us) for row in services.sources()],
        "status": _told(services.status()),
        "faults": [str(fault) for fault in services.faults()],
        "fill": example_line("api.request"),
    }


def _source(row: Mapping[str, Any], now_us: int) -> dict[str, Any]:
    """One row; errors may quote lines, so they are scrubbed."""
    books, newest_us = row.get("books") or {}, row.get("newest_ts")
    events = books.get("events") or {}
    span = None if newest_us is None else TimeRange(newest_us - HOUR_US, newest_us)
    return {
        "source": row["source"],
        "kind": row.get("kind", ""),
        "state": row.get("state", ""),
        "error": scrub_text(str(row.get("error") or "")),
        "newest": None if newest_us is None else iso(newest_us),
        "ago": None if newest_us is None else lasting(now_us - newest_us),
        "lag_bytes": row.get("lag_bytes"),
        **{name: books.get(name) for name in _COUNTED},
        "events": sum(events.values()) if books else None,
        "reasons": books.get("reasons") or {},
        "url": "" if span is None else explore_url(span, [f"source={row['source']}"]),
    }


def _told(value: Any, name: str = "") -> Any:
    """The status with times as text."""
    if isinstance(value, Mapping):
        return {key: _told(one, key) for key, one in value.items()}
    if isinstance(value, list):
        return [_told(one) for one in value]
    is_time = isinstance(value, int) and not isinstance(value, bool) and name.endswith("_at")
    return iso(value) if is_time else value
