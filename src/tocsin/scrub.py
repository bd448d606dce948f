"""Free text without people and secrets in it: the expressions behind the rows of :mod:`tocsin.redact`.

Every expression is linear in the length of the text: none can start a long scan at every character. Each is
tried only where one of its hints occurs, and starts with a literal or a set of characters where it can.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: Longest error text, in characters.
ERROR_CHARACTERS = 200

#: Letters, digits and path signs: text that can hold neither an address nor an assignment nor a quotation.
_ORDINARY = re.compile(r"[\w.#-]*+(?:(?:/:?|::)[\w.#-]*+)*+")
#: With these the keys of well-known vendors begin.
KEY_PREFIXES = ("eyJ", "sk-", "sk_", "pk_", "rk_", "ghp_", "gho_", "xox", "AKIA", "AIza")


class _Row(NamedTuple):
    """``pattern`` is replaced where one of ``hints`` (lower case) occurs in the text."""

    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str


def _row(hints: str, pattern: str, replacement: str, flags: int = 0) -> _Row:
    return _Row(tuple(hints.split()), re.compile(pattern, flags), replacement)


_SECRETS = (
    # scheme://user:password@host
    _row("://", r"://[^\s/@]*@(?:[^\s/@]*@)*", "://[secret]"),
    _row("bearer", r"\b(bearer)\s+[\w.~+/=-]+", r"\1 [secret]", re.I),
    _row("basic", r"\b(basic)\s+(?=[A-Za-z+/]*[\d=])[\w+/=]+", r"\1 [secret]", re.I),
    # JSON Web Tokens and the prefixes of well-known vendors' keys
    _row("eyj", r"\beyJ[\w-]{6,}(?:\.[\w-]*)*", "[secret]"),
    _row(
        "sk- sk_ pk_ rk_ ghp_ gho_ xox akia aiza",
        r"\b(?:(?:sk|pk|rk|ghp|gho|xox[abpr])[-_]|AKIA|AIza)[\w-]{10,}",
        "[secret]",
    ),
    # password=…, "api_key": "…"
    _row(
        "passw secret token api_key api-key apikey cookie session",
        r"(password|passwd|secret|token|api[_-]?key|cookie|session(?:[_-]?id)?)"
        r"(\\?[\"']?\s{0,3}[=:]\s{0,3})(?:\"[^\"]*\"?|'[^']*'?|[^\s,;&]+)",
        r"\1\2[secret]",
        re.I,
    ),
    # A word with an @ in it, also percent-encoded: an e-mail address, a handle, an account at a host.
    _row(
        "@ %40",
        r"(?<![^\s<>\"'()\[\],;=&?])[^\s<>\"'()\[\],;=&?]*?(?:@|%40)[^\s<>\"'()\[\],;=&?]*",
        "[email]",
    ),
)

_PEOPLE = (
    _row(".", r"[0-9](?<![\d.].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![\d.])", "[ip]"),
    _row(":", r"[0-9A-Fa-f:](?<![\w:].)(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{0,4}(?![\w:])", "[ip]"),
    # Student, telephone and card numbers, birth dates: digits in a row or with separators between.
    _row(
        "0 1 2 3 4 5 6 7 8 9",
        r"[0-9+](?:(?<=\d)|[0-9])(?:[ ().-]{0,2}[0-9]){6,}|[0-9]{6,}",
        "[number]",
    ),
    # What is between quotation marks, or in PostgreSQL's `Key (name)=(…)`; an open one reaches to the end.
    _row('"', r"\"[^\"]*(?:\"|\Z)", "[text]"),
    _row("'", r"'(?<!\w')[^']*(?:'|\Z)", "[text]"),
    _row("`", r"`[^`]*(?:`|\Z)", "[text]"),
    _row("“ „ « ‘", r"[“„«‘][^”“»’]*(?:[”“»’]|\Z)", "[text]"),
    _row("=(", r"=\([^)]*(?:\)|\Z)", "[text]"),
)
#: Digits of other scripts, for the texts that have them.
_OTHER_DIGITS = re.compile(r"\d{6,}")


def without_secrets(text: str) -> str:
    """``text`` without credentials and e-mail addresses: what identifiers and names of things go through."""
    if len(text) <= 64 and _ORDINARY.fullmatch(text) and not text.startswith(KEY_PREFIXES):
        return text
    return _replace(_SECRETS, text)


def scrub(text: str) -> str:
    """Free text without credentials, e-mail and IP addresses, long digits and quoted literals."""
    clean = _replace(_SECRETS + _PEOPLE, text)
    return clean if clean.isascii() else _OTHER_DIGITS.sub("[number]", clean)


def error_text(text: str) -> str:
    """Scrubbed text of an error, at most 200 characters."""
    clean = scrub(text)
    return clean if len(clean) <= ERROR_CHARACTERS else clean[: ERROR_CHARACTERS - 1] + "…"


def _replace(rows: tuple[_Row, ...], text: str) -> str:
    lower = text.lower()
    for hints, pattern, replacement in rows:
        if any(map(lower.__contains__, hints)):
            text = pattern.sub(replacement, text)
    return text
