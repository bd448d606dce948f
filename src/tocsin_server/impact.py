"""For whom: the tenants and users behind the events that an alert counts as bad."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from tocsin_server.query import Sql, all_of, label_sql, none_of, number_sql, selection_sql
from tocsin_server.rules import Rule
from tocsin_server.rules.counts import DistinctCount, EventCount
from tocsin_server.rules.readings import Condition
from tocsin_server.rules.shares import FractionBeyond, Ratio

#: Ids that are listed; the counts are of all.
MAX_TENANTS = 50
MAX_USERS = 20

_REQUESTS = ("api.request", "http.request")
_FROM_REQUEST_LOG = (
    "from the request log of the same service, because api.request carries no tenant and no user"
)
_NO_EVENTS = "the rule counts no events of people"


@dataclass(frozen=True, slots=True)
class Affected:
    """The first ids, most bad events first, and how many there are; users are pseudonyms.

    ``approximate`` says why this is not exactly the alert's own events; empty when it is.
    """

    tenants: tuple[str, ...] = ()
    tenant_count: int = 0
    users: tuple[str, ...] = ()
    user_count: int = 0
    approximate: str = ""


def affected(
    connection: duckdb.DuckDBPyConnection, rule: Rule, labels: Mapping[str, str], from_us: int, to_us: int
) -> Affected:
    """Whom the bad events of one instance concern, with ``from_us < ts <= to_us``.

    ``labels`` are the instance's. Where ``api.request`` names nobody, the request-log lines of the same
    service answer: those from 500 on, for a rule about durations the slow ones. Raises duckdb.Error.
    """
    bad = _bad(rule.condition)
    if bad is None:
        return Affected(approximate=_NO_EVENTS)
    of_instance = [_label(rule.by[name], value) for name, value in labels.items() if name in rule.by]
    found = _count(connection, [bad, *of_instance], from_us, to_us, "")
    if found.tenant_count or found.user_count or getattr(rule.condition, "event", "") != _REQUESTS[0]:
        return found
    logged = [_logged(rule.condition), *of_instance]
    return _count(connection, logged, from_us, to_us, _FROM_REQUEST_LOG)


def _bad(condition: Condition) -> Sql | None:
    """Which events the condition counts as bad; None when it counts none."""
    if isinstance(condition, Ratio):
        return _and([selection_sql(condition), all_of(condition.bad)])
    if isinstance(condition, FractionBeyond):
        return _and([selection_sql(condition), _beyond(condition)])
    return selection_sql(condition) if isinstance(condition, EventCount | DistinctCount) else None


def _logged(condition: Condition) -> Sql:
    """The request-log lines that stand for the bad events of a condition about ``api.request``."""
    unless = none_of(getattr(condition, "unless", {}))
    bad = _beyond(condition) if isinstance(condition, FractionBeyond) else Sql("http_status >= 500")
    return _and([Sql("name = ?", (_REQUESTS[1],)), unless, bad])


def _beyond(condition: FractionBeyond) -> Sql:
    return Sql(f"COALESCE({number_sql(condition.of)} > ?, false)", (condition.bound,))


def _label(field: str, value: str) -> Sql:
    return Sql(f"{label_sql(field)} = ?", (value,))


def _and(parts: list[Sql]) -> Sql:
    return Sql(" AND ".join(part.text for part in parts), tuple(p for part in parts for p in part.params))


def _count(
    connection: duckdb.DuckDBPyConnection, parts: list[Sql], from_us: int, to_us: int, approximate: str
) -> Affected:
    during = Sql("ts > make_timestamptz(?) AND ts <= make_timestamptz(?)", (from_us, to_us))
    where = _and([*parts, during])
    tenants, tenant_count = _ids(connection, "tenant_id", where, MAX_TENANTS)
    users, user_count = _ids(connection, "user_id", where, MAX_USERS)
    return Affected(tenants, tenant_count, users, user_count, approximate)


def _ids(
    connection: duckdb.DuckDBPyConnection, column: str, where: Sql, limit: int
) -> tuple[tuple[str, ...], int]:
    """The ids with the most events, and how many there are."""
    statement = (
        f"SELECT {column}, count(*) OVER () FROM events WHERE {where.text} AND {column} <> '' "
        f"GROUP BY {column} ORDER BY count(*) DESC, {column} LIMIT {limit:d}"
    )
    rows = connection.execute(statement, where.params).fetchall()
    return tuple(row[0] for row in rows), rows[0][1] if rows else 0
