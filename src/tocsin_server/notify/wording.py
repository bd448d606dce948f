"""The words of a notification. What came from telemetry is scrubbed, cut and made visible before it is shown.

Privacy: telemetry is cleaned when it is parsed, and here once more before it leaves. Rows I11 and O8 of the
reliability bar: no control, direction or zero-width character gets through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from tocsin_server.clock import SECOND_US, iso
from tocsin_server.notify.grouping import Change
from tocsin_server.privacy import clean, scrub_text
from tocsin_server.rules import Rule
from tocsin_server.visible import visible

#: Characters of one value that are shown.
MAX_CHARACTERS = 200
#: A count of people below this could name them.
SMALL_GROUP = 10
SEVERITIES = ("critical", "warning", "info")

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_DAY_US = 86_400 * SECOND_US


def shown(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Any text as it may leave: without personal data, on one line, without invisible characters, cut."""
    return cut(visible(scrub_text(text)), limit)


def shown_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels as they may leave; the privacy table decides by their names."""
    return {name: cut(visible(clean(name, value)), MAX_CHARACTERS) for name, value in labels.items()}


def cut(text: str, limit: int) -> str:
    """At most ``limit`` characters, the last an ellipsis when there were more."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def worst(severities: Iterable[str]) -> str:
    """The highest of several severities."""
    return min(severities, key=lambda s: SEVERITIES.index(s) if s in SEVERITIES else len(SEVERITIES))


def alert_title(alert: str, rule: Rule | None) -> str:
    """The rule's title, else the alert's name in words: ``HighErrorRate`` is ``High Error Rate``."""
    if rule is not None and rule.title:
        return rule.title
    return shown(_WORD_START.sub(" ", alert))


def measured(change: Change, rule: Rule | None) -> str:
    """The value against the condition: ``12.4% (> 5% 5xx responses in 5 min)``; empty without a rule."""
    if rule is None or change.value is None:
        return ""
    words = rule.condition.words(rule.subject, rule.for_us)
    share = rule.when.ratio or rule.when.fraction or rule.when.latest_ratio
    number = f"{change.value:.1%}" if share else f"{change.value:,.6g}"
    return f"{number} ({words})" if words.startswith(">") else words


def headline(members: Sequence[Change], rules: Mapping[str, Rule], now_us: int) -> str:
    """What is wrong where, how much, since when; of several instances their number.

    ``High Error Rate, k12-core production: 12.4% (> 5% 5xx responses in 5 min), since 07:55 UTC (3 min)``
    """
    firing = [member for member in members if member.resolved_at is None]
    start = f"{_alerts(members, rules)}{_place(members)}: "
    if len(members) == 1:
        number = measured(members[0], rules.get(members[0].alert)) if firing else ""
        return start + ", ".join(part for part in (number, _when(members, now_us)) if part)
    resolved = len(members) - len(firing)
    counts = [f"{len(firing):,} firing"] * bool(firing) + [f"{resolved:,} resolved"] * bool(resolved)
    return f"{start}{', '.join(counts)}, {_when(firing or members, now_us)}"


def _alerts(members: Sequence[Change], rules: Mapping[str, Rule]) -> str:
    names = list(dict.fromkeys(member.alert for member in members))
    titles = ", ".join(alert_title(name, rules.get(name)) for name in names[:3])
    return titles if len(names) <= 3 else f"{titles} and {len(names) - 3} more alerts"


def _place(members: Sequence[Change]) -> str:
    """The labels that all have in common, service and environment first and without their names."""
    common = set.intersection(*(set(shown_labels(member.labels).items()) for member in members))
    labels = {name: value for name, value in sorted(common) if value}
    bare = [labels.pop(name) for name in ("service", "environment") if name in labels]
    words = " ".join([*bare, *(f"{name}={value}" for name, value in labels.items())])
    return f", {words}" if words else ""


def _when(members: Sequence[Change], now_us: int) -> str:
    start = min(member.fired_at for member in members)
    ends = [member.resolved_at for member in members if member.resolved_at is not None]
    if len(ends) < len(members):
        age = f" ({lasting(now_us - start)})" if now_us - start >= 60 * SECOND_US else ""
        return f"since {clock_time(start, now_us)}{age}"
    return f"after {lasting(max(ends) - start)}, at {clock_time(max(ends), now_us)}"


def clock_time(at_us: int, now_us: int) -> str:
    """``07:55 UTC``, with the date when it is a day or more away."""
    date, time = iso(at_us)[:10], iso(at_us)[11:16]
    return f"{time} UTC" if abs(now_us - at_us) < _DAY_US else f"{date} {time} UTC"


def lasting(duration_us: int) -> str:
    """A duration as people say it: ``45 s``, ``3 min``, ``2 h 5 min``, ``3 d 4 h``."""
    seconds = max(0, duration_us // SECOND_US)
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{seconds} s"


def counted(count: int, what: str) -> str:
    """``1 tenant``, ``3 tenants``."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def people(count: int) -> str:
    """A number of users, not exactly when it is small (privacy: small groups)."""
    return f"fewer than {SMALL_GROUP} users" if 0 < count < SMALL_GROUP else counted(count, "user")
