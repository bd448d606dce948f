"""Secrets, addresses and numbers in a text: what is known by its shape."""

from __future__ import annotations

import re

from tocsin_server.privacy.pseudonyms import network_prefix

_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+")
_SECRET = re.compile(
    r"(?<![\w-])(?:eyJ|sk-|sk_|gh[pousr]_|glpat-|xox[abprs]-|AKIA|AIza|ya29\.)[\w.~+/=-]{12,}"
)
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)")
_MAYBE_IPV6 = re.compile(r"[0-9A-Fa-f:](?<![\w:].)[0-9A-Fa-f:]{2,38}(?![\w:])")
_MAYBE_GROUPED = re.compile(r"[0-9][ .)-]{1,2}[0-9]{3}")
_GROUPED_NUMBER = re.compile(
    r"(?<![\w-])(?:\+\d[\d ().-]{6,18}\d|\(\d{3}\) ?\d{3}[ .-]?\d{4}|\d{3}[ .-]\d{3}[ .-]\d{4}"
    r"|\d{3}-\d{2}-\d{4}|\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{3,4})(?![\w-])"
)
_LONG_NUMBER = re.compile(r"\d{6,}")
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_HEX_CHARS = "0123456789abcdefABCDEFx-"
_HEX_ID = re.compile(
    r"(?<![0-9A-Za-z])(?:[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}|0x[0-9A-Fa-f]+"
    r"|(?=[0-9]*[A-Fa-f])[0-9A-Fa-f]{16,64})(?![0-9A-Za-z])"
)


def scrub_secrets(text: str) -> str:
    """Bearer and basic credentials, JSON web tokens and keys of known providers become ``<secret>``."""
    if "earer " in text or "asic " in text:
        text = _BEARER.sub(r"\1 <secret>", text)
    return _SECRET.sub("<secret>", text) if _may_hold_secret(text) else text


def _may_hold_secret(text: str) -> bool:
    """A quick look for the beginnings in ``_SECRET``: a chain of ``in`` is faster than the pattern."""
    short = "sk-" in text or "sk_" in text or "eyJ" in text or "gh" in text or "xox" in text
    return short or "glpat-" in text or "AKIA" in text or "AIza" in text or "ya29." in text


def scrub_numbers(text: str) -> str:
    """IP addresses become ``<ip>``; phone, card and social security numbers and long numbers ``<number>``."""
    text = scrub_addresses(text)
    if _MAYBE_GROUPED.search(text):
        text = _GROUPED_NUMBER.sub("<number>", text)
    return replace_long_numbers(text)


def replace_long_numbers(text: str, keep: re.Pattern[str] | None = None) -> str:
    """Runs of six or more digits become ``<number>``, but not decimal fractions, UUIDs, hexadecimal ids,
    ``keep``.
    """
    if not _has_long_number(text):
        return text
    return _LONG_NUMBER.sub(lambda m: m[0] if _is_harmless(m, keep) else "<number>", text)


def _has_long_number(text: str) -> bool:
    return b"000000" in text.encode().translate(_ZEROS) if text.isascii() else bool(_LONG_NUMBER.search(text))


def _is_harmless(match: re.Match[str], keep: re.Pattern[str] | None) -> bool:
    text, start, end = match.string, match.start(), match.end()
    before, after = text[max(0, start - 70) : start], text[end : end + 70]
    if (before[-1:] == "." and before[-2:-1].isdigit()) or (keep and keep.fullmatch(match[0])):
        return True
    left = before[len(before.rstrip(_HEX_CHARS)) :]
    right = after[: len(after) - len(after.lstrip(_HEX_CHARS))]
    return any(
        found.start() <= len(left) and found.end() >= len(left) + end - start
        for found in _HEX_ID.finditer(left + match[0] + right)
    )


def scrub_addresses(text: str) -> str:
    """IPv4 and IPv6 addresses become ``<ip>``."""
    if text.count(".") >= 3:
        text = _IPV4.sub("<ip>", text)
    return _MAYBE_IPV6.sub(_ipv6, text) if "::" in text or text.count(":") >= 7 else text


def _ipv6(match: re.Match[str]) -> str:
    """Only what has two colons and a digit: ``07:55:12`` is no address, ``Ad::Bad`` may be a class."""
    text = match[0]
    known = ("::" in text or text.count(":") == 7) and any(map(str.isdigit, text)) and network_prefix(text)
    return "<ip>" if known else text
