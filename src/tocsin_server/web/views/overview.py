"""The overview: what is broken, since when, for whom; then how each part of the platform does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from tocsin_server import incident
from tocsin_server.clock import iso
from tocsin_server.web.params import Params, parse_moment, time_range
from tocsin_server.web.services import Services
from tocsin_server.web.views import board
from tocsin_server.web.views.platform import AFFECTED_US, measures
from tocsin_server.web.wording import lasting, plural


def overview(services: Services, params: Params) -> dict[str, Any]:
    """The data of ``/``; ``from`` and ``to`` choose the range, by default the last hour."""
    now_us, rules = services.clock(), board.by_name(services.catalogue().rules)
    span = time_range(params, now_us)
    with services.state.reading() as session:
        alerts = board.instances(session, rules, now_us)
        incidents = open_incidents(session, now_us)
        evaluated = board.evaluated(session, now_us)
    with services.connect(min(span.from_us, span.to_us - AFFECTED_US)) as connection:
        shown = measures(connection, span, alerts, rules)
    return {
        "now": iso(now_us),
        "range": span.as_json(),
        "sentence": sentence(alerts, incidents, evaluated, shown["heard"]),
        "level": level(alerts, evaluated, shown["heard"]),
        "evaluated": evaluated,
        "alerts": alerts,
        "incidents": incidents,
        **shown,
        "faults": [str(fault) for fault in services.faults()],
    }


# --- the sentence ---------------------------------------------------------------------------------------


def sentence(
    alerts: Sequence[Mapping[str, Any]],
    incidents: Sequence[Mapping[str, Any]],
    evaluated: Mapping[str, Any],
    heard: bool,
) -> str:
    """The state of everything in words."""
    firing = [one for one in alerts if one["state"] == "firing" and not one["silenced_until"]]
    others = _others(alerts)
    late = _late(evaluated)
    if firing:
        told = ", ".join(_named(one) for one in firing[:3])
        more = f" and {len(firing) - 3} more" if len(firing) > 3 else ""
        return f"{plural(len(firing), 'alert')} firing: {told}{more}{_for_whom(incidents)}.{others}{late}"
    if not heard:
        return f"Nothing was heard in this time range, so nothing can be said about it.{others}{late}"
    return f"No alert is firing.{others}{late}"


def level(alerts: Sequence[Mapping[str, Any]], evaluated: Mapping[str, Any], heard: bool) -> str:
    """The sentence's colour and icon: ``critical``, ``warning``, ``unknown`` or ``ok``."""
    firing = {one["severity"] for one in alerts if one["state"] == "firing" and not one["silenced_until"]}
    if firing:
        return "critical" if "critical" in firing else "warning"
    return "unknown" if evaluated["late"] or not heard else "ok"


def _named(one: Mapping[str, Any]) -> str:
    where = f" ({one['where']})" if one["where"] else ""
    return f"{one['title']}{where} since {one['since'][11:16]} UTC ({one['for']})"


def _others(alerts: Sequence[Mapping[str, Any]]) -> str:
    pending = sum(one["state"] == "pending" for one in alerts)
    silenced = sum(one["state"] == "firing" and bool(one["silenced_until"]) for one in alerts)
    parts = [
        f"{count} {word}"
        for count, word in ((pending, "pending"), (silenced, "firing but silenced"))
        if count
    ]
    return f" {' and '.join(parts).capitalize()}." if parts else ""


def _late(evaluated: Mapping[str, Any]) -> str:
    if not evaluated["late"]:
        return ""
    at = evaluated["at"]
    return (
        f" Rules were last evaluated at {at[11:16]} UTC: this may be out of date."
        if at
        else (" No rule has been evaluated yet.")
    )


def _for_whom(incidents: Sequence[Mapping[str, Any]]) -> str:
    tenants = max((one["tenants"] or 0 for one in incidents), default=0)
    return f"; {plural(tenants, 'tenant')} affected" if tenants else ""


def open_incidents(session: Session, now_us: int) -> list[dict[str, Any]]:
    """Incidents that are not over, the newest first."""
    found = [one for status in ("open", "acknowledged") for one in incident.listing(session, status)]
    return [incident_row(one, now_us) for one in sorted(found, key=lambda one: -one["id"])]


def incident_row(one: Mapping[str, Any], now_us: int) -> dict[str, Any]:
    """One incident of a list: how it stands, for whom, and why, as far as that is known."""
    end_us = parse_moment(one["resolved_at"], now_us) if one["resolved_at"] else now_us
    return {
        **{name: one[name] for name in _OF_INCIDENT},
        "for": lasting(end_us - parse_moment(one["opened_at"], now_us)),
        "tenants": (one["tenants"] or {}).get("count"),
        "users": (one["users"] or {}).get("count"),
        "cause": (one["cause"] or {}).get("title", ""),
        "cause_strength": (one["cause"] or {}).get("strength", ""),
    }


_OF_INCIDENT = (
    "id",
    "title",
    "severity",
    "status",
    "environment",
    "opened_at",
    "resolved_at",
    "acknowledged_by",
    "firing",
    "drill",
)
