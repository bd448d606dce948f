"""Regular expressions over what steps answered, in time linear in the text.

A step's answer is hostile: it holds what strangers sent. Python's ``re`` can need hours for 50 characters, so
the matching is done by RE2, which DuckDB carries; it has no backreferences and no look-around.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from tocsin_server.sql import empty_database

MAX_PATTERN_CHARS = 200


def check(pattern: str) -> None:
    """Raises ValueError when ``pattern`` is too long or no regular expression of RE2."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise ValueError(f"it has {len(pattern)} characters, {MAX_PATTERN_CHARS} are allowed")
    try:
        matches(pattern, [""])
    except duckdb.Error as error:
        raise ValueError(str(error).partition(": ")[2].strip() or "it cannot be read") from None


def matches(pattern: str, texts: Sequence[str]) -> list[bool]:
    """Whether each text holds a match of a checked pattern."""
    question = "SELECT list_transform($texts, lambda text: regexp_matches(text, $pattern))"
    values = {"texts": [_unicode(text) for text in texts], "pattern": _unicode(pattern)}
    with empty_database().cursor() as connection:
        answer = connection.execute(question, values).fetchone()
    return list(answer[0]) if answer else []


def _unicode(text: str) -> str:
    """The text with lone surrogates, which no UTF-8 can carry, as question marks."""
    return text.encode("utf-8", "replace").decode()
