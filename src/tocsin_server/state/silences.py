"""Silences: for a time, alerts with these labels are not notified. Nothing else stops.

Evaluation, incident and evidence go on, so that a silence never hides what happened. The matchers are
Alertmanager's: ``=``, ``!=``, ``=~``, ``!~``, where a label that is missing counts as empty and a regular
expression must match the whole value. Expressions are run by DuckDB's RE2, which takes time linear in the
value: no expression can hang the notifier.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import duckdb
from sqlalchemy import select
from sqlalchemy.orm import Session

from tocsin_server.clock import iso
from tocsin_server.errors import TocsinError
from tocsin_server.sql import empty_database
from tocsin_server.state.tables import AuditEntry, Silence

#: Longest name, value and expression of a matcher, in characters.
MAX_CHARACTERS = 500
MAX_MATCHERS = 20
_MATCHER = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(=~|!~|!=|=)\s*(.*?)\s*", re.DOTALL)


class Matcher(NamedTuple):
    """What one label must be: ``operator`` is one of ``= != =~ !~``."""

    name: str
    operator: str
    value: str

    def __str__(self) -> str:
        """As people write it: ``service="k12-core"``."""
        return f'{self.name}{self.operator}"{self.value}"'


def parse_matcher(text: str) -> Matcher:
    """``service=k12-core``, ``alertname=~"High.*"``; quotes around the value are optional.

    Raises TocsinError when the text is no matcher.
    """
    found = _MATCHER.fullmatch(text)
    if found is None:
        raise TocsinError(f'`{text}` is no matcher: write service=k12-core, or alertname=~"High.*"')
    name, operator, value = found.groups()
    quoted = len(value) > 1 and value[0] == value[-1] == '"'
    return Matcher(name, operator, value[1:-1] if quoted else value)


# --- deciding -------------------------------------------------------------------------------------------


def holds(matcher: Matcher, labels: Mapping[str, str]) -> bool:
    """Whether one matcher holds; a missing label is the empty text."""
    value = labels.get(matcher.name, "")
    if matcher.operator in ("=", "!="):
        return (value == matcher.value) == (matcher.operator == "=")
    return _full_match(matcher.value, value) == (matcher.operator == "=~")


def status(silence: Silence, now_us: int) -> Literal["pending", "active", "expired"]:
    """Active from its start up to, not including, its end."""
    if now_us >= silence.ends_at:
        return "expired"
    return "active" if now_us >= silence.starts_at else "pending"


def active(session: Session, now_us: int) -> Sequence[Silence]:
    """The active silences, the one that ends last first."""
    now = (Silence.starts_at <= now_us, Silence.ends_at > now_us)
    return session.scalars(select(Silence).where(*now).order_by(Silence.ends_at.desc(), Silence.id)).all()


def first_match(silences: Iterable[Silence], labels: Mapping[str, str]) -> Silence | None:
    """The first silence whose matchers all hold."""
    return next((s for s in silences if all(holds(Matcher(**m), labels) for m in s.matchers)), None)


def silenced(session: Session, labels: Mapping[str, str], now_us: int) -> Silence | None:
    """The active silence that suppresses an alert, the one that ends last if there are several.

    ``labels`` are those of the instance with ``alertname`` and ``severity``.
    """
    return first_match(active(session, now_us), labels)


@functools.lru_cache(maxsize=4096)
def _full_match(expression: str, value: str) -> bool:
    with empty_database().cursor() as connection:
        row = connection.execute("SELECT regexp_full_match(?, ?, 's')", [value, expression]).fetchone()
    return bool(row and row[0])


# --- changing -------------------------------------------------------------------------------------------


def add(
    session: Session,
    matchers: Sequence[Matcher],
    starts_at: int,
    ends_at: int,
    author: str,
    comment: str,
    now_us: int,
) -> Silence:
    """Adds a silence for ``starts_at <= t < ends_at`` (µs); written to the audit log first.

    Raises TocsinError naming everything that is wrong. A silence whose matchers all hold for an alert
    without labels would silence everything, and is refused.
    """
    faults = [*_faults(matchers), *_time_faults(starts_at, ends_at, now_us)]
    faults += [f"{what} is missing" for what, text in (("author", author), ("comment", comment)) if not text]
    if faults:
        raise TocsinError(f"the silence cannot be added: {'; '.join(faults)}")
    words = [matcher._asdict() for matcher in matchers]
    detail = {"matchers": words, "starts_at": starts_at, "ends_at": ends_at, "comment": comment}
    subject = ", ".join(map(str, matchers))
    session.add(AuditEntry(at=now_us, who=author, action="silence.add", subject=subject, detail=detail))
    silence = Silence(
        matchers=words,
        starts_at=starts_at,
        ends_at=ends_at,
        author=author,
        comment=comment,
        created_at=now_us,
    )
    session.add(silence)
    session.flush()
    return silence


def expire(session: Session, silence_id: int, who: str, now_us: int) -> Silence:
    """Ends a silence now. Raises TocsinError when there is none, or when it is over."""
    silence = session.get(Silence, silence_id)
    if silence is None:
        raise TocsinError(f"there is no silence {silence_id}: `tocsin silence list` shows them")
    if status(silence, now_us) == "expired":
        raise TocsinError(f"silence {silence_id} ended at {iso(silence.ends_at)}: nothing to do")
    detail = {"ends_at": silence.ends_at}
    session.add(
        AuditEntry(
            at=now_us, who=who, action="silence.expire", subject=f"silence {silence_id}", detail=detail
        )
    )
    silence.ends_at = now_us
    silence.starts_at = min(silence.starts_at, now_us)
    return silence


def listing(session: Session, now_us: int, expired: bool = False) -> list[dict[str, Any]]:
    """The JSON of ``tocsin silence list``: active and pending ones, with ``expired`` all, newest first."""
    rows = session.scalars(select(Silence).order_by(Silence.id.desc())).all()
    return [as_json(row, now_us) for row in rows if expired or status(row, now_us) != "expired"]


def as_json(silence: Silence, now_us: int) -> dict[str, Any]:
    """One silence for programs; times in ISO 8601."""
    return {
        "id": silence.id,
        "state": status(silence, now_us),
        "matchers": [str(Matcher(**matcher)) for matcher in silence.matchers],
        "starts_at": iso(silence.starts_at),
        "ends_at": iso(silence.ends_at),
        "author": silence.author,
        "comment": silence.comment,
    }


def _faults(matchers: Sequence[Matcher]) -> list[str]:
    if not matchers:
        return ["it has no matcher: write service=k12-core"]
    if len(matchers) > MAX_MATCHERS:
        return [f"it has {len(matchers)} matchers, at most {MAX_MATCHERS} are taken"]
    faults = [fault for matcher in matchers if (fault := _matcher_fault(matcher))]
    if not faults and all(holds(matcher, {}) for matcher in matchers):
        faults.append("its matchers hold for every alert: name a label that must be there")
    return faults


def _matcher_fault(matcher: Matcher) -> str:
    if matcher.operator not in ("=", "!=", "=~", "!~"):
        return f"`{matcher.operator}` is no operator: use = != =~ or !~"
    if max(len(matcher.name), len(matcher.value)) > MAX_CHARACTERS:
        return f"a matcher is longer than {MAX_CHARACTERS} characters"
    if matcher.operator in ("=~", "!~"):
        try:
            _full_match(matcher.value, "")
        except duckdb.Error as error:
            return f"`{matcher.value}` is no regular expression: {' '.join(str(error).split())}"
    return ""


def _time_faults(starts_at: int, ends_at: int, now_us: int) -> list[str]:
    if ends_at <= starts_at:
        return ["it ends before it starts"]
    return ["it ended already"] if ends_at <= now_us else []
