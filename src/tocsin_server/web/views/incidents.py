"""Incidents: what happened, for whom, what was found, and what people did about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tocsin_server import incident
from tocsin_server.clock import SECOND_US, iso
from tocsin_server.errors import TocsinError
from tocsin_server.query import labels_of
from tocsin_server.rules import Rule
from tocsin_server.web.filters import explore_url
from tocsin_server.web.measuring import number_urls
from tocsin_server.web.params import NotFound, Params, TimeRange, parse_moment
from tocsin_server.web.services import Services
from tocsin_server.web.views.board import by_name
from tocsin_server.web.views.overview import incident_row
from tocsin_server.web.wording import lasting, plural, value_text

_SHOWN = 200
_MARGIN_US = 900 * SECOND_US
STATUSES = ("open", "acknowledged", "resolved")


def incidents(services: Services, params: Params) -> dict[str, Any]:
    """The data of ``/incidents``, the newest first; ``status`` keeps only those."""
    now_us, asked = services.clock(), params.one("status")
    status = asked if asked in STATUSES else None
    with services.state.reading() as session:
        rows = [incident_row(one, now_us) for one in incident.listing(session, status, _SHOWN)]
    return {
        "now": iso(now_us),
        "status": status or "",
        "incidents": rows,
        "limit": _SHOWN,
    }


def one_incident(services: Services, params: Params) -> dict[str, Any]:
    """The data of ``/incidents/ID``."""
    shown, now_us = shown_incident(services, params), services.clock()
    loaded, rules = services.runbooks(), by_name(services.catalogue().rules)
    names = dict.fromkeys([*(cause["runbook"] for cause in shown["causes"]), *_runbooks_of(shown)])
    asked = [pair for pair in shown["evidence"] if _was_asked(pair)]
    return {
        "now": iso(now_us),
        "sentence": sentence(shown, now_us),
        "incident": shown,
        "alerts": [_alert(one, rules.get(one["alert"]), now_us) for one in shown["alerts"]],
        "searching": any(run["status"] in ("pending", "running") for run in shown["runs"]),
        "asked": asked,
        "unasked": [pair for pair in shown["evidence"] if not _was_asked(pair)],
        "was_asked_again": any(pair["resolve"] for pair in asked),
        "people_urls": _people_urls(shown, now_us),
        "runbooks": [
            {"id": name, "title": loaded[name].title, "sections": dict(loaded[name].sections)}
            for name in names
            if name in loaded
        ],
    }


def shown_incident(services: Services, params: Params) -> dict[str, Any]:
    """``tocsin incident show --json`` of the incident in the path. Raises NotFound."""
    number = incident_number(params.path["id"])
    try:
        with services.state.reading() as session:
            return incident.show(session, number)
    except TocsinError:
        raise NotFound(f"there is no incident {number}: the incidents page lists them") from None


def incident_number(text: str) -> int:
    """The number of an incident in a path. Raises NotFound."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise NotFound("incidents have numbers: the incidents page lists them")
    return int(text)


def sentence(shown: Mapping[str, Any], now_us: int) -> str:
    """How the incident stands, in words."""
    opened_us = parse_moment(shown["opened_at"], now_us)
    tenants = (shown["tenants"] or {}).get("count")
    whom = f"; {plural(tenants, 'tenant')} affected" if tenants else ""
    if shown["resolved_at"]:
        lasted = parse_moment(shown["resolved_at"], now_us) - opened_us
        return f"Resolved after {lasting(lasted)}{whom}."
    word = "Open" if shown["status"] == "open" else f"{shown['acknowledged_by']} works on it, open"
    return f"{word} for {lasting(now_us - opened_us)}; {plural(shown['firing'], 'alert')} firing{whom}."


def _runbooks_of(shown: Mapping[str, Any]) -> list[str]:
    return [run["runbook"] for run in shown["runs"]]


def _was_asked(pair: Mapping[str, Any]) -> bool:
    """Whether a step was sent anywhere, at fire or at resolve."""
    answers = [pair[phase] for phase in ("fire", "resolve") if pair[phase]]
    return any(one["status"] in ("ok", "failed") for one in answers)


def _alert(one: Mapping[str, Any], rule: Rule | None, now_us: int) -> dict[str, Any]:
    fired_us = parse_moment(one["fired_at"], now_us)
    end_us = (
        parse_moment(one["resolved_at"], now_us) if one["resolved_at"] else now_us // SECOND_US * SECOND_US
    )
    around = TimeRange(fired_us - 2 * _MARGIN_US, max(end_us, fired_us + SECOND_US)).as_json()
    urls = number_urls(rule, labels_of(one["labels"]), fired_us) if rule else {}
    return {
        **one,
        "title": (rule.title if rule else "") or one["alert"],
        "value_text": value_text(rule, one["value"]),
        "events_url": urls.get("bad") or next(iter(urls.values()), ""),
        "url": f"/alerts/{one['alert']}?from={around['from']}&to={around['to']}&at={one['fired_at']}#why",
    }


def _people_urls(shown: Mapping[str, Any], now_us: int) -> dict[str, str]:
    """Where the events of a tenant or user of this incident are; the id is to be appended."""
    opened_us = parse_moment(shown["opened_at"], now_us)
    end_us = parse_moment(shown["resolved_at"], now_us) if shown["resolved_at"] else now_us
    span = TimeRange(opened_us - _MARGIN_US, end_us // SECOND_US * SECOND_US + SECOND_US)
    failed = ["status=error", "status=failure"]
    names = {"tenants": "tenant_id", "users": "user_id"}
    return {name: explore_url(span, [*failed, f"{field}="]) for name, field in names.items()}
