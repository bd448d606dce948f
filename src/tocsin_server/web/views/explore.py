"""Explore: the events themselves, filtered; the lines around a line; everything behind every number."""

from __future__ import annotations

from typing import Any

from tocsin_server.clock import SECOND_US, iso
from tocsin_server.columns import COLUMNS
from tocsin_server.sql import Result
from tocsin_server.web.filters import OPERATORS, Filters, explore_url
from tocsin_server.web.lines import PAGE_ROWS, around, histogram, matching, place, shown
from tocsin_server.web.params import HOUR_US, Params, TimeRange, time_range
from tocsin_server.web.services import Services

#: An export holds at most so many rows (reliability section 3.2).
EXPORT_ROWS = 100_000
_QUICK = {
    "15 min": HOUR_US // 4,
    "1 h": HOUR_US,
    "6 h": 6 * HOUR_US,
    "24 h": 24 * HOUR_US,
    "7 d": 168 * HOUR_US,
}


def explore(services: Services, params: Params) -> dict[str, Any]:
    """The data of ``/explore``; its parameters are the page's whole state. Raises BadRequest, NotFound."""
    now_us, filters = services.clock(), Filters.of(params)
    span = time_range(params, now_us)
    common = _common(span, filters, now_us)
    if line := params.one("around"):
        with services.connect(span.from_us) as connection:
            return common | _MATCHES | around(connection, span, line) | {"around": line}
    condition = filters.sql()
    with services.connect(span.from_us) as connection:
        bars = histogram(connection, span, condition, lambda bar: _url(bar, filters))
        found = matching(connection, span, condition, PAGE_ROWS, params.one("older"))
    matches = sum(bar["count"] or 0 for bar in bars["bars"])
    older = place(found)
    return common | {
        "around": "",
        "source": None,
        "matches": matches,
        "histogram": bars,
        "rows": shown(found),
        "older_url": _url(span, filters, older=older) if older else "",
        "export_is_cut": matches > EXPORT_ROWS,
    }


def exported(services: Services, params: Params) -> Result:
    """Every matching event, newest first, at most :data:`EXPORT_ROWS`. Raises BadRequest."""
    span, condition = time_range(params, services.clock()), Filters.of(params).sql()
    with services.connect(span.from_us) as connection:
        return matching(connection, span, condition, EXPORT_ROWS)


#: Of a page that shows the lines around one line: nothing was counted.
_MATCHES: dict[str, Any] = {"matches": None, "histogram": None, "older_url": "", "export_is_cut": False}


def _common(span: TimeRange, filters: Filters, now_us: int) -> dict[str, Any]:
    end_us = min(span.to_us, now_us) // SECOND_US * SECOND_US
    half = (span.to_us - span.from_us) // 2
    return {
        "now": iso(now_us),
        "range": span.as_json(),
        "filters": [_chip(span, filters, kind, text) for kind, text in filters.pairs() if kind != "q"],
        "q": filters.text,
        "quick": [
            {"title": title, "url": _url(TimeRange(end_us - width, end_us), filters)}
            for title, width in _QUICK.items()
        ],
        "zoom_out_url": _url(TimeRange(span.from_us - half, span.to_us + half), filters),
        "fields": [name for name in COLUMNS if name not in ("ts", "received_at", "attrs")],
        "operators": list(OPERATORS),
    }


def _url(span: TimeRange, filters: Filters, **more: str) -> str:
    where, unless = map(str, filters.where), map(str, filters.unless)
    return explore_url(span, where, unless, filters.text, **more)


def _chip(span: TimeRange, filters: Filters, kind: str, text: str) -> dict[str, str]:
    """A filter, and the page without it."""
    kept = [pair for pair in filters.pairs() if pair != (kind, text)]
    where = [value for name, value in kept if name == "where"]
    unless = [value for name, value in kept if name == "unless"]
    return {"kind": kind, "text": text, "remove_url": explore_url(span, where, unless, filters.text)}
