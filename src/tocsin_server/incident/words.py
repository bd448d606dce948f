"""How an incident names its alerts. Label values come from telemetry: scrubbed, cut and made visible."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin_server.notify.wording import SEVERITIES, alert_title, cut, shown, shown_labels
from tocsin_server.rules import Rule

MAX_TITLE_CHARACTERS = 200


def title(rule: Rule, labels: Mapping[str, str]) -> str:
    """``High Error Rate: k12-core (production)``."""
    place = {name: value for name, value in shown_labels(labels).items() if value}
    environment = place.pop("environment", "")
    subject = ", ".join(place[name] for name in sorted(place, key=lambda name: (name != "service", name)))
    text = alert_title(rule.alert, rule) + (f": {subject}" if subject else "")
    return cut(text, MAX_TITLE_CHARACTERS) + (f" ({shown(environment, 50)})" if environment else "")


def named(alert: str, rule: Rule | None, labels: Mapping[str, str]) -> str:
    """``High Error Rate (environment production, service k12-core)``."""
    place = ", ".join(f"{name} {value}" for name, value in sorted(shown_labels(labels).items()) if value)
    return alert_title(alert, rule) + (f" ({place})" if place else "")


def is_worse(severity: str, than: str) -> bool:
    """Whether a severity is above another."""
    return SEVERITIES.index(severity) < SEVERITIES.index(than)
