"""``attrs``: every field that is no column, redacted by the privacy table and bounded by reliability table
3.2.
"""

from __future__ import annotations

import json
from typing import Any

from tocsin_server.dialects.line import MAX_STRING_BYTES, Context
from tocsin_server.privacy import (
    BODY,
    COUNT,
    DROP,
    KIND_CLEANERS,
    NETWORK,
    PERSON,
    PSEUDONYM,
    head,
    key_kind,
    scrub_error,
)

MAX_FIELDS = 256
MAX_STORED_DEPTH = 8
_MAX_OVERFLOW_VALUES = 4096  # bounds the time; the text is cut to 64 KiB besides

_OWN_IDS = frozenset(("id", "uuid", "guid", "number"))
_INT64 = range(-(2**63), 2**63)  # beyond it an integer is stored as text, never rounded
_GONE: Any = object()


def attributes(fields: dict[str, Any], context: Context, tenant_id: str | None, at_us: int) -> dict[str, Any]:
    """The redacted fields. ``tenant_id`` and ``at_us`` choose the keys of pseudonyms and of network prefixes.

    At most 256 members and list items in all are kept, 8 levels deep; what goes beyond is kept as JSON text
    in ``_overflow``. Strings are cut to 64 KiB, which sets ``truncated``. A body or prompt leaves
    ``<name>_length`` and ``<name>_hash``, keyed by tenant.
    """
    redaction = _Redaction(context, tenant_id, at_us // 86_400_000_000)
    attrs: dict[str, Any] = redaction.mapping(fields, 1, "", False)
    if redaction.overflow:
        attrs["_overflow"] = cut(json.dumps(redaction.overflow, ensure_ascii=False))
    if redaction.truncated:
        attrs["truncated"] = True
    return attrs


def cut(text: str) -> str:
    """``text``, at most 64 KiB of it as UTF-8."""
    if len(text) * 4 <= MAX_STRING_BYTES:
        return text
    data = text.encode("utf-8", "replace")
    return text if len(data) <= MAX_STRING_BYTES else data[:MAX_STRING_BYTES].decode("utf-8", "ignore")


class _Redaction:
    """One line's redaction: how many values may still be stored, and what did not fit."""

    __slots__ = ("_context", "_day", "_room", "_spare", "_tenant_id", "overflow", "truncated")

    def __init__(self, context: Context, tenant_id: str | None, day: int) -> None:
        self._context = context
        self._tenant_id = tenant_id
        self._day = day
        self._room = MAX_FIELDS
        self._spare = _MAX_OVERFLOW_VALUES
        self.overflow: dict[str, Any] = {}
        self.truncated = False

    def mapping(self, fields: dict[str, Any], depth: int, where: str, person: bool) -> dict[str, Any]:
        """A redacted object; ``person`` says that it describes one, so its ``id`` is a pseudonym."""
        kept: dict[str, Any] = {}
        for key, value in fields.items():
            kind = key_kind(key)
            if person and key.lower() in _OWN_IDS:
                kind = PSEUDONYM
            name = key if key.isidentifier() and len(key) <= 200 else scrub_error(key)
            if not self._take(depth):
                if self._spare <= 0:
                    break
                self._spill(where + name, value, kind)
            elif kind == BODY and isinstance(value, (str, list, dict)):
                kept |= self._fingerprint(name, value)
            else:
                cleaned = self._value(kind, value, depth, where + name)
                if cleaned is not _GONE:
                    kept[name] = cleaned
        return kept

    def _take(self, depth: int) -> bool:
        if self._room > 0 and depth <= MAX_STORED_DEPTH:
            self._room -= 1
            return True
        self._spare -= 1
        return False

    def _spill(self, where: str, value: Any, kind: str) -> None:
        """Members of containers beyond the limits go to ``overflow`` one by one, each under its own path."""
        cleaned = self._value(kind, value, MAX_STORED_DEPTH + 1, where)
        if cleaned is not _GONE and cleaned not in ({}, []):
            self.overflow[where] = cleaned

    def _value(self, kind: str, value: Any, depth: int, where: str) -> Any:
        if kind == DROP or (kind == COUNT and type(value) not in (int, float)):
            return _GONE
        if kind == BODY and isinstance(value, (str, list, dict)):
            return _GONE
        if type(value) is str:
            return self._text(kind, value)
        if isinstance(value, (int, float)) and type(value) is not bool:
            return self._number(kind, value)
        if isinstance(value, dict):
            return self.mapping(value, depth + 1, where + ".", kind == PERSON)
        return self._list(kind, value, depth + 1, where) if isinstance(value, list) else value

    def _number(self, kind: str, value: int | float) -> Any:
        if kind in (PERSON, PSEUDONYM):
            return self._hashed(str(value))
        return str(value) if type(value) is int and value not in _INT64 else value

    def _list(self, kind: str, items: list[Any], depth: int, where: str) -> list[Any]:
        kept = []
        for index, item in enumerate(items):
            if self._take(depth):
                kept.append(self._value(kind, item, depth, f"{where}.{index}"))
            elif self._spare <= 0:
                break
            else:
                self._spill(f"{where}.{index}", item, kind)
        return [item for item in kept if item is not _GONE]

    def _text(self, kind: str, text: str) -> str:
        if kind in (PERSON, PSEUDONYM):
            return self._hashed(text) if text else ""
        if kind == NETWORK:
            return self._context.network(self._day, text)
        cleaned = KIND_CLEANERS[kind](head(text, MAX_STRING_BYTES))
        short = cut(cleaned)
        self.truncated = self.truncated or short is not cleaned or len(text) > MAX_STRING_BYTES
        return short

    def _hashed(self, raw: str) -> str:
        return self._context.pseudonym(self._tenant_id, raw)

    def _fingerprint(self, name: str, body: Any) -> dict[str, Any]:
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        return {f"{name}_length": len(text), f"{name}_hash": self._hashed(text)[2:]}
