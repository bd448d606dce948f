"""Free text without what identifies a person."""

from __future__ import annotations

import re
from functools import lru_cache

from tocsin_server.privacy.fields import BODY, DROP, PERSON, PSEUDONYM, REDACTED, key_kind
from tocsin_server.privacy.paths import template_path, template_segment
from tocsin_server.privacy.tokens import scrub_numbers, scrub_secrets

# Patterns begin with a literal or a set of characters where they can: the search then skips to it quickly.
ERROR_CHARS = 200  # privacy table: free text of errors, exceptions and SQL
_SCRUBBED_CHARS = 4096  # what is cut to 200 characters is scrubbed only so far
_DOUBLE_QUOTED = re.compile(r'"(?<![0-9]")((?:[^"\\]++|\\.)*+)(?:"|\\?\Z)', re.S)
_SINGLE_QUOTED = re.compile(r"'(?<!\w')(?:[^'\n]|(?<=\w)'(?=\w))*+'(?!\w)")
_CURLY_QUOTED = re.compile(r"“[^”\n]*+”?|«[^»\n]*+»?")
_WORD_KEY = re.compile(r"[A-Za-z_][\w-]{0,39}")
_AFTER_KEY = re.compile(r"""\s?(?:=>|:)\s?(?:["{\[0-9:-]|(?:true|false|null|nil)\b)""")
_REQUEST_LINE = re.compile(r"([A-Z]{3,10} )?(/[^\s]*)( HTTP/\d(?:\.\d)?)?")
_KEY = re.compile(r"""([A-Za-z_](?<!\w.)\w*+(?:-\w++){0,4})["']?\s?(=>|=|:(?!:))\s?""")
_SHORT_VALUE = re.compile(r"[^\s,;&)}\]|]+")
_VALUE = re.compile(r"[^,;)}\]|\n]+")
_LINE_REST = re.compile(r"[^\n]+")
_URL = re.compile(r"""(?<![\w+.-])([A-Za-z][A-Za-z0-9+.-]*+)://([^\s"'<>/?#]*)([^\s"'<>]*)""")
_EMAIL = re.compile(r"(?<![\w.+%'&*-])[\w.+%'&*-]++@(?=[\d.-]*[^\W\d])[\w.-]+")
_TEXT_PATH = re.compile(r"""/(?<![\w.:/*<]/)(?=[^\s/])(?:[^\s"'<>()\[\],;|:]|(?<=/):)*""")
_SOURCE_FILE = re.compile(r"[A-Za-z_][\w-]{0,39}\.(?:py|rb|erb|rake|js|mjs|ts|jsx|tsx|go|java|rs|c|so)")


def scrub_text(text: str) -> str:
    """Free text without what identifies a person, and without secrets.

    In this order: a quoted literal becomes ``"?"`` unless it is a key (a word before ``=>`` or ``:`` and a
    value as JSON or Ruby write it) or a request line or path (then templated); the value after a key of the
    privacy table becomes ``<dropped>`` or ``<id>``; URLs lose credentials and query, paths are templated;
    e-mail addresses, bearer tokens, provider keys, IP addresses, phone numbers and runs of six or more digits
    are replaced. UUIDs, hexadecimal ids and decimal fractions stay.
    """
    text = _scrub_quoted(text)
    if "=" in text or ":" in text:
        text = _drop_keyed(text)
    if "://" in text:
        text = _URL.sub(_url, text)
    if "@" in text or "%40" in text:
        text = _EMAIL.sub("<email>", text.replace("%40", "@"))
    if "/" in text:
        text = _TEXT_PATH.sub(_text_path, text)
    return scrub_numbers(scrub_secrets(text))


def scrub_error(text: str) -> str:
    """Text of an error, an exception or an SQL statement: scrubbed, then cut to 200 characters."""
    return scrub_text(head(text, _SCRUBBED_CHARS))[:ERROR_CHARS]


def head(text: str, chars: int) -> str:
    """At most the first ``chars`` characters, without the last word if it was cut: half an e-mail is not
    recognised.
    """
    if len(text) <= chars:
        return text
    start, _space, word = text[:chars].rpartition(" ")
    return start if start and len(word) <= _SCRUBBED_CHARS else text[:chars]


def _scrub_quoted(text: str) -> str:
    if '"' in text:
        text = _DOUBLE_QUOTED.sub(_quoted, text)
    if "'" in text:
        text = _SINGLE_QUOTED.sub("'?'", text)
    return _CURLY_QUOTED.sub('"?"', text) if "“" in text or "«" in text else text


def _quoted(match: re.Match[str]) -> str:
    content = match[1]
    if _WORD_KEY.fullmatch(content) and _AFTER_KEY.match(match.string, match.end()):
        return match[0]
    request = _REQUEST_LINE.fullmatch(content)
    return f'"{request[1] or ""}{template_path(request[2])}{request[3] or ""}"' if request else '"?"'


def _drop_keyed(text: str) -> str:
    parts: list[str] = []
    done = 0
    for match in _KEY.finditer(text):
        kind = key_kind(match[1])
        if kind not in REDACTED or match.start() < done:
            continue
        value = _value_pattern(kind, match[2], text[match.end() : match.end() + 1]).match(text, match.end())
        if value:
            parts += text[done : match.end()], "<id>" if kind in (PERSON, PSEUDONYM) else "<dropped>"
            done = value.end()
    return "".join(parts) + text[done:] if parts else text


def _value_pattern(kind: str, separator: str, first: str) -> re.Pattern[str]:
    """How far a named value reaches: a container or a dropped header to the line's end, ``k=v`` to the next
    space.
    """
    if first in ("{", "[", "(") or (kind in (DROP, BODY) and separator == ":"):
        return _LINE_REST
    return _VALUE if separator == ":" else _SHORT_VALUE


def _url(match: re.Match[str]) -> str:
    host = match[2].rpartition("@")[2]
    return f"{match[1]}://{host}{_source_template(match[3])}"


def _text_path(match: re.Match[str]) -> str:
    path = match[0].rstrip(".!")
    return _source_template(path) + match[0][len(path) :]


@lru_cache(maxsize=16_384)
def _source_template(path: str) -> str:
    """As ``template_path``, but the name of a source file stays: a stack trace without it says nothing."""
    path = path.partition("?")[0].partition("#")[0]
    return "/".join(s if _SOURCE_FILE.fullmatch(s) else template_segment(s) for s in path.split("/"))
