"""What an answer may keep: evidence is redacted before it is stored or shown to anybody (privacy table).

Events were redacted when they were parsed; answers of other systems never were. Both pass here: by the name
of a column, a header or a JSON member, and by what a text looks like. Every change is counted.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from tocsin_server.privacy import BODY, DROP, PERSON, PSEUDONYM, head, key_kind, scrub_error, scrub_text
from tocsin_server.privacy.fields import AGENT, COUNT, REDACTED, TEXT
from tocsin_server.privacy.values import COLUMN_CLEANERS, KIND_CLEANERS

Level = Literal["strict", "standard"]

#: The longest text of a cell, a header or a JSON member.
CELL_CHARS: Mapping[Level, int] = {"strict": 200, "standard": 2000}
_MAX_DEPTH = 20
_MAX_HEADERS = 60
_PATH_CHARS = 80  # of the names that an object stands within
_DROPPED = "<dropped>"
_PSEUDONYM = re.compile(r"[un]_[0-9a-f]{16}")
_PLAIN_KEY = re.compile(r"[A-Za-z_$@][\w.:$/-]{0,79}", re.ASCII)
_COOKIE_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
_COOKIE_ATTRIBUTE = re.compile(
    r"(?:secure|httponly|partitioned|(?:samesite|domain|path|max-age|expires)=[\w.,/: -]{0,80})",
    re.ASCII | re.IGNORECASE,
)


@dataclass(slots=True)
class Redactor:
    """Redacts one answer. ``redactions`` counts the values that changed; ``cut``: some text was too long.

    ``events``: the answer comes from the events table, whose columns have their own cleaners (its ``name`` is
    the name of an event, elsewhere it is that of a person) and whose numbers were looked at when they were
    parsed: ``count(*) AS answers`` is no answer of a pupil.
    """

    level: Level = "standard"
    events: bool = False
    redactions: int = field(default=0, init=False)
    cut: bool = field(default=False, init=False)

    def rows(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
        """Rows of a query, as JSON values."""
        return tuple(
            tuple(self.value(column, cell) for column, cell in zip(columns, row, strict=True)) for row in rows
        )

    def value(self, name: str, value: Any, within: str = "", depth: int = 0) -> Any:
        """A value under ``name`` as JSON can hold it; ``within`` joins the names of the objects around it."""
        value = plain(value)
        if value is None or isinstance(value, bool) or (self.events and isinstance(value, int | float)):
            return value
        kind = self._kind(name, within)
        if kind == DROP or (kind == BODY and not isinstance(value, int | float)) or depth > _MAX_DEPTH:
            return self._replaced(_DROPPED)
        if isinstance(value, dict):
            path = f"{within}_{name.removesuffix('s')}"[-_PATH_CHARS:]
            return {self._key(str(k)): self.value(str(k), v, path, depth + 1) for k, v in value.items()}
        if isinstance(value, list):
            return [self.value(name, item, within, depth + 1) for item in value]
        if isinstance(value, str):
            return self._text(name, kind, value)
        return self._replaced("<id>") if kind in (PERSON, PSEUDONYM) else value

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Headers of an answer; of a cookie stay its name and the attributes that decide where it works."""
        self.cut |= len(headers) > _MAX_HEADERS
        kept = list(headers.items())[:_MAX_HEADERS]
        return {self._key(name): self._header(name, value) for name, value in kept}

    def body(self, body: bytes, max_chars: int) -> tuple[str, Any]:
        """(text, parsed JSON or None) of an HTTP body; the text of JSON is written from what was kept."""
        parsed = _json(body)
        if isinstance(parsed, dict | list):
            kept = self.value("", parsed)
            return self._shortened(json.dumps(kept, ensure_ascii=False), max_chars), kept
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            if error.start < len(body) - 3:  # not a character that was cut at the end
                return self._replaced(f"<{len(body)} bytes that are not text>"), None
            text = body[: error.start].decode()
        limit = CELL_CHARS["strict"] if self.level == "strict" else max_chars
        return self._counted(storable(text), scrub_text, limit), None

    def _header(self, name: str, value: str) -> str:
        if name == "set-cookie":
            return "\n".join(map(self._cookie, value.split("\n")))
        redacted = self.value(name, value)
        return redacted if isinstance(redacted, str) else json.dumps(redacted)

    def _cookie(self, cookie: str) -> str:
        pair, *attributes = cookie.split(";")
        name = pair.partition("=")[0].strip()
        kept = [a.strip() for a in attributes if _COOKIE_ATTRIBUTE.fullmatch(a.strip())]
        self.redactions += 1
        return "; ".join([f"{name if _COOKIE_NAME.fullmatch(name) else _DROPPED}={_DROPPED}", *kept])

    def _key(self, key: str) -> str:
        if _PLAIN_KEY.fullmatch(key):
            return key
        return self._counted(storable(key), scrub_text, CELL_CHARS["strict"])

    def _kind(self, name: str, within: str) -> str:
        """The kind of a field by its name, else by its place: an ``id`` in a ``student`` is a person's."""
        if self.events and name in COLUMN_CLEANERS:
            return TEXT
        kind = key_kind(name)
        in_place = key_kind(f"{within}_{name}") if within and kind not in REDACTED else kind
        return in_place if in_place in REDACTED else kind

    def _text(self, name: str, kind: str, text: str) -> str:
        if _PSEUDONYM.fullmatch(text) or (kind == COUNT and text.isascii() and text.isdigit()):
            return text
        if kind not in (PERSON, PSEUDONYM, AGENT) and text[:1] in ("{", "["):
            parsed = _json(text.encode("utf-8", "replace"))
            if parsed is not None:
                written = json.dumps(self.value(name, parsed), ensure_ascii=False)
                return self._shortened(written, CELL_CHARS[self.level])
        clean = COLUMN_CLEANERS.get(name) if self.events else None
        clean = clean or KIND_CLEANERS[kind]
        short = clean is scrub_error
        return self._counted(
            text, scrub_text if short else clean, CELL_CHARS["strict" if short else self.level]
        )

    def _counted(self, text: str, clean: Callable[[str], str], limit: int) -> str:
        start = head(text, 2 * limit)
        cleaned = clean(start)
        self.redactions += cleaned != start
        self.cut |= len(start) < len(text)
        return self._shortened(cleaned, limit)

    def _shortened(self, text: str, limit: int) -> str:
        self.cut |= len(text) > limit
        return head(text, limit)

    def _replaced(self, by: str) -> str:
        self.redactions += 1
        return by


def plain(value: Any) -> Any:
    """A value of Python or DuckDB as JSON has it; what JSON has no form for becomes text."""
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    if isinstance(value, datetime):
        moment = value if value.tzinfo is None else value.astimezone(UTC)
        return moment.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, tuple | list):
        return list(value)
    if value is None or isinstance(value, bool | int | dict):
        return value
    return storable(str(value))


def storable(text: str) -> str:
    """Text that every database and terminal takes: no lone surrogates, no NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _json(text: bytes) -> Any:
    """The JSON value that ``text`` is, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
