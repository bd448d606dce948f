"""What an SQL statement looks like, without parsing it: enough to lint what a database will check again.

Statements on ``events`` also pass :func:`tocsin_server.sql.guard`; those of a database its executor checks.
"""

from __future__ import annotations

import re

MAX_CHARS = 20_000

_OPAQUE = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/ | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$""",
    re.DOTALL | re.VERBOSE,
)
_PARAMETER = re.compile(r"(?<![\w:\]')]):([A-Za-z_]\w*)", re.ASCII)
_STAR = re.compile(r"\b(?:select|distinct|all)\s*\*|,\s*\*|[a-z_]\w*\s*\.\s*\*", re.ASCII | re.IGNORECASE)
_LIMIT = re.compile(r"\blimit\s+[\d:]|\bfetch\s+(?:first|next)\b", re.IGNORECASE)
_AGGREGATE = re.compile(
    r"\b(?:count|sum|min|max|avg|bool_or|bool_and|quantile\w*|string_agg)\s*\(", re.IGNORECASE
)
_MANY = re.compile(r"\bgroup\s+by\b|\bover\s*[(a-z]|\bunion\b", re.IGNORECASE)
_SINCE = re.compile(r"\bts\s*(?:>=?|between\b)|<=?\s*(?:\w+\.)?ts\b", re.IGNORECASE)
_READS = re.compile(r"\s*(?:select|with|values|show|explain(?!\s*\(?[^)]*\banalyze\b))\b", re.IGNORECASE)


def plain(sql: str) -> str:
    """The statement without its comments, with its literals and quoted names emptied."""
    return _OPAQUE.sub(lambda found: {"'": "''", '"': "q"}.get(found[0][0], " "), sql)


def parameters(sql: str) -> frozenset[str]:
    """Names that the statement binds (``:since``, not the cast ``::interval``), in lower case."""
    return frozenset(name.lower() for name in _PARAMETER.findall(plain(sql)))


def problems(sql: str, on_events: bool, rows_named: bool) -> list[str]:
    """What is wrong with a reading statement; ``rows_named``: its block says how many rows it may answer."""
    if len(sql) > MAX_CHARS:
        return [f"the statement has {len(sql)} characters; {MAX_CHARS} are allowed, split it"]
    text = plain(sql).strip().removesuffix(";")
    found = []
    if ";" in text:
        found.append("holds more than one statement; write one block for each")
    if not _READS.match(text):
        found.append("does not read; write one SELECT, or move it under Resolution")
    if _STAR.search(text):
        found.append("does not name its columns; write them instead of `*`")
    if not rows_named and not _LIMIT.search(text) and not _one_row(text):
        found.append("has no row limit; write LIMIT 20, or rows=20 after the fence")
    if on_events and not _SINCE.search(text):
        found.append("has no time range; write ts > :as_of - :since AND ts <= :as_of")
    return found


def _one_row(text: str) -> bool:
    """Whether it is an aggregate over everything, or a setting."""
    if re.match(r"\s*(?:show|explain|values)\b", text, re.IGNORECASE):
        return True
    return bool(_AGGREGATE.search(text)) and not _MANY.search(text)
