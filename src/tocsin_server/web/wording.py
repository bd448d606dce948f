"""Numbers, times and conditions in words: what a person reads first."""

from __future__ import annotations

from collections.abc import Mapping

from tocsin_server.clock import SECOND_US
from tocsin_server.rules import Rule
from tocsin_server.rules.absence import Absence
from tocsin_server.rules.gauges import LatestRatio
from tocsin_server.rules.results import LastResults
from tocsin_server.rules.shares import FractionBeyond, Ratio

_SHARES = (Ratio, FractionBeyond, LatestRatio)


def lasting(duration_us: int) -> str:
    """``45 s``, ``6 min``, ``1 h 20 min``, ``3 d 4 h``: whole units, at most two."""
    seconds = max(0, duration_us) // SECOND_US
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if minutes < 60:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def plural(count: int, one: str, many: str = "") -> str:
    """``1 alert``, ``2 alerts``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def number_text(value: float | int | None) -> str:
    """A number with at most four digits that matter; nothing measured is a dash."""
    if value is None:
        return "–"
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    )


def value_text(rule: Rule | None, value: float | int | None) -> str:
    """The value of a rule's condition with its unit: ``12.4 %``, ``34``, ``190 s``."""
    if value is None:
        return "–"
    condition = rule.condition if rule else None
    if isinstance(condition, _SHARES):
        return f"{100 * value:.3g} %"
    return number_text(value) + (" s" if isinstance(condition, Absence) else "")


def threshold_of(rule: Rule) -> float | None:
    """The value that the condition must exceed (for results: reach), on the scale of its values."""
    condition = rule.condition
    if isinstance(condition, LastResults):
        return float(condition.last)
    if isinstance(condition, Absence):
        return condition.over / SECOND_US
    above = getattr(condition, "above", None)
    return None if above is None else float(above)


def sentence_of(rule: Rule) -> str:
    """The rule in one plain sentence."""
    words = rule.condition.words(rule.subject, rule.for_us)
    minimum = rule.condition.minimum()
    return f"{words} ({minimum})" if minimum else words


def labels_text(labels: Mapping[str, str]) -> str:
    """``k12-core, production``: the values, for people; empty ones are left out."""
    return ", ".join(value for value in labels.values() if value)
