"""Which function cleans which value: labels, ids, user agents, and the table of both parse paths."""

from __future__ import annotations

import re
from collections.abc import Callable

from tocsin_server.privacy.fields import (
    AGENT,
    BODY,
    COUNT,
    DROP,
    ERROR,
    IDENTIFIER,
    NETWORK,
    PATH,
    PERSON,
    PSEUDONYM,
    TEXT,
    key_kind,
)
from tocsin_server.privacy.paths import template_path
from tocsin_server.privacy.text import scrub_error, scrub_text
from tocsin_server.privacy.tokens import replace_long_numbers, scrub_addresses, scrub_secrets

_DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
_LABEL = re.compile(r"[A-Za-z_][\w.:/#+-]{0,199}", re.A)
_IDENTIFIER = re.compile(r"[\w.:/+=#-]{1,200}", re.A)


def label(text: str) -> str:
    """A short name (service, model, job class): one word that begins with a letter is kept, else scrubbed.

    One word: ASCII letters, digits and ``_ . : / # + -``, up to 200 characters. In it, too, a run of six or
    more digits is replaced, unless it is a date (``claude-3-5-sonnet-20241022``) or part of a hexadecimal id.
    """
    if not _LABEL.fullmatch(text):
        return scrub_error(text)
    text = scrub_addresses(scrub_secrets(text))
    return replace_long_numbers(text, keep=_DATE)


def identifier(text: str) -> str:
    """An id that joins lines (request, trace, tenant): kept whole, but never an e-mail, IP address, secret.

    One word of ASCII letters, digits and ``_ . : / + = # -`` up to 200 characters is kept; anything else is
    scrubbed.
    """
    if not _IDENTIFIER.fullmatch(text):
        return scrub_error(text)
    if "." in text or ":" in text:
        text = scrub_addresses(text)
    return scrub_secrets(text)


_AGENTS = re.compile(
    r"(Edg|OPR|SamsungBrowser|Firefox|FxiOS|CriOS|HeadlessChrome|Chrome)/(\d+)|Version/(\d+).* Safari/"
)
_AGENT_NAMES = {"Edg": "Edge", "OPR": "Opera", "FxiOS": "Firefox", "CriOS": "Chrome"}
_PRODUCT = re.compile(r"([A-Za-z][\w-]{0,39})/v?(\d+)")


def user_agent(text: str) -> str:
    """Family and major version of a User-Agent header (``Firefox 128``), else ``other``."""
    found = [(m[1] or "Safari", m[2] or m[3]) for m in _AGENTS.finditer(text[:1024])]
    if found:
        family, major = min(found, key=lambda pair: pair[0] in ("Chrome", "HeadlessChrome"))
        return f"{_AGENT_NAMES.get(family, family)} {major}"
    product = _PRODUCT.match(text)
    return f"{product[1]} {product[2]}" if product else "other"


#: Column -> the function that cleans one text value of it.
COLUMN_CLEANERS: dict[str, Callable[[str], str]] = {
    **dict.fromkeys(
        ("name", "service", "environment", "status", "method", "controller", "action", "job_class", "queue"),
        label,
    ),
    **dict.fromkeys(("provider", "model"), label),
    **dict.fromkeys(("path", "route"), template_path),
    **dict.fromkeys(("event_id", "request_id", "tenant_id"), identifier),
    "message": scrub_text,
    "error": scrub_error,
}
#: Kind of a field -> the function that cleans one text value of it.
KIND_CLEANERS: dict[str, Callable[[str], str]] = {
    **dict.fromkeys((DROP, BODY, COUNT), lambda _text: "<dropped>"),
    **dict.fromkeys((PERSON, PSEUDONYM), lambda _text: "<id>"),
    NETWORK: lambda _text: "<ip>",
    AGENT: user_agent,
    PATH: template_path,
    ERROR: scrub_error,
    IDENTIFIER: identifier,
    TEXT: scrub_text,
}


def clean(name: str, value: str) -> str:
    """The text as it may be stored in the column ``name``, or in ``attrs`` under that name (then
    ``key_kind`` decides).

    Both parse paths use this function. It knows no tenant and no day: a field whose kind is ``person``,
    ``pseudonym`` or ``network`` gets its keyed hash from :class:`Pseudonyms` instead.
    """
    return (COLUMN_CLEANERS.get(name) or KIND_CLEANERS[key_kind(name)])(value)
