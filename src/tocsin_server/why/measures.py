"""What a condition measured, what it needs to be TRUE, and how much is missing: in words, with its numbers.

One function per kind of condition; a kind without one is described by its value alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from tocsin_server.durations import format_duration
from tocsin_server.rules import Rule
from tocsin_server.rules.absence import Absence, Always
from tocsin_server.rules.counts import DistinctCount, EventCount
from tocsin_server.rules.gauges import LatestRatio, LatestSum
from tocsin_server.rules.readings import Condition
from tocsin_server.rules.results import LastResults
from tocsin_server.rules.select import Select
from tocsin_server.rules.shares import FractionBeyond, Ratio, listed
from tocsin_server.rules.values import format_number, format_share

#: Name -> number, as :class:`tocsin_server.rules.readings.Readings` holds them at one instant; not a number
#: is None.
Numbers = Mapping[str, int | float | None]


class Measure(NamedTuple):
    """``measured`` against ``needed``; ``missing``: by how much it falls short, empty when it does not."""

    measured: str
    needed: str
    missing: str = ""

    def __str__(self) -> str:
        """``6 of 100 … (6 %); more than 5% are needed``."""
        return "; ".join(part for part in self if part)


def measure(rule: Rule, numbers: Numbers) -> Measure:
    """The numbers of one instant against the rule's thresholds."""
    return _measure(rule.condition, rule.subject, numbers)


@functools.singledispatch
def _measure(condition: Condition, subject: str, numbers: Numbers) -> Measure:
    words = ", ".join(f"{name} {_number(number)}" for name, number in numbers.items())
    return Measure(words or "nothing is measured", condition.exactly())


@_measure.register
def _(condition: Ratio, subject: str, numbers: Numbers) -> Measure:
    return _share(condition, f"are {subject}" if subject else f"have {listed(condition.bad)}", numbers)


@_measure.register
def _(condition: FractionBeyond, subject: str, numbers: Numbers) -> Measure:
    return _share(condition, f"have {condition.of} > {condition.bound:g}", numbers)


def _share(condition: Ratio | FractionBeyond, bad_words: str, numbers: Numbers) -> Measure:
    total, bad = int(numbers["total"] or 0), int(numbers["bad"] or 0)
    needed = f"more than {format_share(condition.above)} are needed"
    measured = f"no `{condition.event}` in {format_duration(condition.over)}"
    if total:
        measured = f"{_share_of(bad, total)} of {total:,} `{condition.event}` {bad_words} ({bad:,})"
    if total < max(1, condition.min_total):
        return Measure(measured, needed, f"too few: it needs {max(1, condition.min_total):,}, saw {total:,}")
    if bad < condition.min_bad != 1:
        return Measure(measured, needed, f"too few: it needs {condition.min_bad:,} such events, saw {bad:,}")
    return Measure(measured, needed, _more(_above(condition.above * total) - bad, "such events"))


@_measure.register
def _(condition: EventCount, subject: str, numbers: Numbers) -> Measure:
    total, count = int(numbers["total"] or 0), int(numbers["count"] or 0)
    among = f" ({_share_of(count, total)} of {total:,} `{condition.event}`)" if total else ""
    measured = f"{count:,} {subject or condition.event} in {format_duration(condition.over)}{among}"
    needed = f"more than {condition.above:,} are needed"
    if condition.min_ratio:
        needed += f", and {format_share(condition.min_ratio)} of all"
    if count > condition.above and condition.min_ratio * total > count:
        return Measure(measured, needed, "too small a share of all")
    return Measure(measured, needed, _more(condition.above + 1 - count, ""))


@_measure.register
def _(condition: DistinctCount, subject: str, numbers: Numbers) -> Measure:
    count = int(numbers["count"] or 0)
    measured = f"{count:,} {subject or 'different ' + condition.of} in {format_duration(condition.over)}"
    return Measure(
        measured, f"more than {condition.above:,} are needed", _more(condition.above + 1 - count, "")
    )


@_measure.register
def _(condition: LatestSum, subject: str, numbers: Numbers) -> Measure:
    total, reported = numbers["sum"] or 0, int(numbers["reported"] or 0)
    needed = f"more than {format_number(condition.above)} are needed"
    if not reported:
        return Measure(f"no sample of any {condition.per} in {format_duration(condition.within)}", needed)
    where = f"{reported} {condition.per}" + ("s" if reported > 1 else "")
    short = float(condition.above) - total
    missing = f"{_number(short)} below" if short > 0 else "exactly at the threshold" if short == 0 else ""
    return Measure(f"{_number(total)} {subject or condition.of} in {where}", needed, missing)


@_measure.register
def _(condition: LatestRatio, subject: str, numbers: Numbers) -> Measure:
    of, to = int(numbers["of"] or 0), int(numbers["to"] or 0)
    needed = f"more than {format_share(condition.above)} is needed"
    if to <= 0 or of > to:
        return Measure(f"no sample that can be: {condition.of} {of:,}, {condition.to} {to:,}", needed)
    measured = f"{_share_of(of, to)} {subject or condition.of} ({of:,} of {to:,})"
    short = condition.above - Fraction(of, to)
    return Measure(measured, needed, f"{_percent(short)} below" if short >= 0 else "")


@_measure.register
def _(condition: LastResults, subject: str, numbers: Numbers) -> Measure:
    failed, results = int(numbers["failed"] or 0), int(numbers["results"] or 0)
    within, last = format_duration(condition.within), condition.last
    needed = f"all of the last {last} must fail"
    if results < last:
        saw = f"{results} `{condition.event}` within {within}, {failed} failed"
        return Measure(saw, needed, f"too few: it needs {last}, saw {results}")
    measured = f"{failed} of the last {last} `{condition.event}` failed"
    return Measure(measured, needed, f"{last - failed} did not fail" if failed < last else "")


@_measure.register
def _(condition: Absence, subject: str, numbers: Numbers) -> Measure:
    seconds, over_s = numbers["seconds"], condition.over // 1_000_000
    needed = f"{format_duration(condition.over)} without are needed"
    if seconds is None:
        return Measure(f"no {subject or 'event'} was ever seen", needed)
    missing = f"{_number(over_s - seconds)} s too early" if seconds < over_s else ""
    return Measure(f"the last {subject or 'event'} came {_number(seconds)} s before", needed, missing)


@_measure.register
def _(condition: Always, subject: str, numbers: Numbers) -> Measure:
    return Measure("it always fires", "")


@_measure.register
def _(condition: Select, subject: str, numbers: Numbers) -> Measure:
    value = numbers["value"]
    measured = "the query has no value" if value is None else f"the query says {_number(value)}"
    if condition.above is None:
        return Measure(measured, "true is needed")
    return Measure(measured, f"more than {format_number(condition.above)} is needed")


def _above(threshold: Fraction) -> int:
    """The least whole number that is greater."""
    return threshold.numerator // threshold.denominator + 1


def _more(count: int, what: str) -> str:
    return f"{count:,} more {what} would do".replace("  ", " ") if count > 0 else ""


def _share_of(part: int, whole: int) -> str:
    return _percent(Fraction(part, whole))


def _percent(share: Fraction) -> str:
    """As many digits as tell it from a threshold nearby: ``5.0 %``, ``4.998 %``."""
    percent = float(share * 100)
    rounded = f"{percent:.1f}"
    return f"{rounded if abs(float(rounded) - percent) < 1e-9 or percent > 20 else f'{percent:.4g}'} %"


def _number(number: int | float | None) -> str:
    return "none" if number is None else f"{number:,.4g}" if isinstance(number, float) else f"{number:,}"
