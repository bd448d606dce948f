"""Text from outside, made safe to show: what cannot be seen is written as an escape (rows I11, O8)."""

from __future__ import annotations

import unicodedata

_SHORT = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""``text`` with control, direction, zero-width and line separator characters as ``\x1b``, ``\u202e``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(c) if unicodedata.category(c) in _INVISIBLE else c for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
