"""What never leaves the process: the table of privacy rules that the emitter applies to every field.

``RULES`` is tried from the top; the first row whose pattern is the whole (normalised) key decides. A key that
no row knows is free text, so a field is printed unscrubbed only when the catalogue says what it holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple

from tocsin import guard
from tocsin.events import EVENTS
from tocsin.line import printing_order
from tocsin.scrub import KEY_PREFIXES, error_text, scrub, without_secrets
from tocsin.values import text as within_limit

_PSEUDONYM = re.compile(r"u_[0-9a-f]{16}")
_NETWORK = r"n_[0-9a-f]{16}"
_PERSON = r"(?:user|student|pupil|learner|teacher|guardian|parent|actor|person|people|child)"
_NAMES = (
    r"(?:(?:(?:first|last|full|given|family|middle|maiden|nick|display|preferred|legal|sur|login|contact|author"
    rf"|owner|recipient|sender|{_PERSON})_?)+)?names?"
)


#: So many of each kind are remembered at most.
REMEMBERED = 4096

#: Longer content is not hashed, to keep ``emit`` fast; it is dropped.
CONTENT_CHARACTERS = 256 * 1024


class Redactor:
    """Applies ``RULES`` under one key; ``day`` (`YYYY-MM-DD`) changes the hashes of network prefixes."""

    def __init__(self, key: str | None) -> None:
        """``key`` makes pseudonyms; without one, a random key of this process does."""
        self._given_key = key.encode() if key else None
        self._plans: dict[tuple[str | None, tuple[str, ...]], Plan] = {}
        #: What names of things, paths and ids of people became, for they come again and again.
        self._memos: dict[Rule, dict[str, str]] = {
            Redactor.identifier: {},
            Redactor.path: {},
            Redactor.pseudonym: {},
        }

    def fields(self, fields: Mapping[str, Any], day: str, event: str | None = "") -> dict[str, Any]:
        """``fields`` (plain JSON values) as they may be printed: what may not, and None, is absent.

        They are those of an ``event``, in whose order they are returned, of a log line (None), or of neither.
        """
        result: dict[str, Any] = {}
        keys = tuple(fields)
        plan = self._plans.get((event, keys))
        if plan is None:
            plan = self._plan(event, keys)
        for key, name, rule, memo, keeps_numbers in plan:
            value = fields[key]
            if type(value) is str:
                clean = memo.get(value) if memo is not None else None
                if clean is None:
                    clean = rule(self, value, day)
            elif value is None:
                continue
            elif keeps_numbers and type(value) in _NUMBERS:
                clean = value
            else:
                clean = rule(self, value, day)
            if clean is not None:
                result[name] = clean
        return result

    def _plan(self, event: str | None, keys: tuple[str, ...]) -> Plan:
        """Of each key that is printed what :meth:`fields` has to know; there are few sets of keys."""
        plan = []
        for key in printing_order(event)(keys):
            name, rule = _rule(key)
            plan.append((key, name, rule, self._memos.get(rule), rule in _KEEP_NUMBERS))
        if len(self._plans) >= REMEMBERED:
            self._plans.clear()
        self._plans[event, keys] = plan
        return plan

    def _remember(self, rule: Rule, value: str, clean: str) -> str:
        memo = self._memos[rule]
        if len(memo) >= REMEMBERED:
            memo.clear()
        memo[value] = clean
        return clean

    def drop(self, value: Any, day: str) -> None:
        """Nothing is printed."""

    def count(self, value: Any, day: str) -> Any:
        """A number under this key counts things; anything else would be the things, and is dropped."""
        return value if isinstance(value, int | float) else None

    def pseudonym(self, value: Any, day: str) -> Any:
        """`u_` and 16 hex digits of HMAC-SHA-256; a pseudonym stays; an object about a person is dropped."""
        if isinstance(value, list):
            return [self.pseudonym(item, day) for item in value]
        if isinstance(value, dict) or value is None:
            return None
        name = str(value)
        known = isinstance(value, str) and _PSEUDONYM.fullmatch(name)
        made = self._memos[Redactor.pseudonym].get(name)
        if made is None:
            made = name if known else "u_" + self._hash(name)
            self._remember(Redactor.pseudonym, name, made)
        return made

    def network(self, value: Any, day: str) -> Any:
        """`n_` and 16 hex digits of the hashed /24 or /48 prefix, under a key of that day."""
        if not isinstance(value, str):
            return None
        if re.fullmatch(_NETWORK, value):
            return value
        prefix = _prefix(value)
        return None if prefix is None else "n_" + self._hash(f"network {day} {prefix}")

    def path(self, value: Any, day: str) -> Any:
        """The path without query string; segments with a long number, UUID or address become `:id`."""
        if not isinstance(value, str):
            return self.free(value, day)
        if len(value) <= 256 and _ORDINARY_PATH.fullmatch(value):
            return self._remember(Redactor.path, value, value)
        return "/".join(map(_segment, re.split(r"[?#;]", value, maxsplit=1)[0].split("/")))

    def agent(self, value: Any, day: str) -> Any:
        """Family and major version of a user agent."""
        return _family(value) if isinstance(value, str) else None

    def content(self, value: Any, day: str) -> Any:
        """Only its length and hash, as :meth:`digests` makes them."""
        if isinstance(value, str):
            return self._digest(value)
        return value if isinstance(value, dict) and value.keys() == {"length", "hash"} else None

    def digests(self, fields: dict[str, Any]) -> dict[str, Any]:
        """``fields`` with length and hash in place of content; before limits, for both are of the whole."""
        digests = {key: self._digest(fields[key]) for key in _content_keys(tuple(fields))}
        return {**fields, **digests} if digests else fields

    def _digest(self, value: Any) -> dict[str, Any] | None:
        if type(value) is not str or len(value) > CONTENT_CHARACTERS:
            return None
        return {"length": len(value), "hash": self._hash("content " + value)}

    def identifier(self, value: Any, day: str) -> Any:
        """A name or id of a thing, as the catalogue says: only credentials and addresses are taken out."""
        if not isinstance(value, str):
            return self.free(value, day)
        if len(value) <= 64 and value.isalnum() and not value.startswith(KEY_PREFIXES):
            if len(value) < 8 or value.isalpha():  # but not each request's id
                self._remember(Redactor.identifier, value, value)
            return value
        clean = without_secrets(value)
        if clean == value and len(value) <= 64:
            self._remember(Redactor.identifier, value, value)
        return clean

    def error(self, value: Any, day: str) -> Any:
        """Scrubbed, at most 200 characters; so is each frame of a stack trace."""
        if isinstance(value, list):
            return [self.error(item, day) for item in value]
        return error_text(value) if isinstance(value, str) else self.free(value, day)

    def free(self, value: Any, day: str) -> Any:
        """Free text is scrubbed; in containers every key has its own rule; numbers and booleans stay."""
        if isinstance(value, str):
            return within_limit(scrub(value))
        if isinstance(value, dict):
            return self.fields(value, day)
        if isinstance(value, list):
            return self._pair(value, day) if _is_pair(value) else [self.free(item, day) for item in value]
        return value

    def _pair(self, value: list[Any], day: str) -> list[Any]:
        """``["Cookie", "…"]``, as header lists hold it: the first names the second."""
        name, rule = _rule(value[0])
        return [name, rule(self, value[1], day)]

    def _hash(self, content: str) -> str:
        import hmac  # here, because it loads OpenSSL, which an import would feel

        return hmac.digest(
            self._given_key or _process_key(), content.encode(errors="replace"), "sha256"
        ).hex()[:16]


Rule = Callable[[Redactor, Any, str], Any]

#: Of each key that is printed: key, printed name, rule, what the rule remembers, whether numbers stay.
Plan = list[tuple[str, str, Rule, dict[str, str] | None, bool]]


class Row(NamedTuple):
    """One row of the privacy table."""

    what: str
    keys: str
    rule: Rule


#: Text fields of the catalogue that hold names and ids of things, not of people.
IDENTIFIERS = frozenset(
    {field.name for event in EVENTS.values() for field in event.fields if field.type == "text"}
    | {"trace_id", "trace_flags", "span_id", "parent_span_id", "event_id", "event", "logger", "level"}
)

RULES: tuple[Row, ...] = (
    Row("counts of tokens or people", rf"(?:.*_)?(?:tokens|{_PERSON}s|children)", Redactor.count),
    Row(
        "credentials, cookies, settings, connection strings",
        r"(?:.*_)?(?:authorization|cookies?|token|passwords?|passwd|passphrase|secrets?|credentials?|jwt|otp"
        r"|(?:api|private|secret|access|signing|encryption|service|client|account|pseudonym)_?keys?"
        r"|settings?|connection_?strings?|database_url|dsn)|secret_.*|apikeys?",
        Redactor.drop,
    ),
    Row(
        "network addresses",
        r"(?:.*_)?ip_?(?:addr(?:ess(?:es)?)?|s)?|(?:.*_)?remote_(?:addr(?:ess)?|host)"
        r"|x_forwarded_for|forwarded|x_real_ip|client_network|client_addr(?:ess)?|peer(?:name)?",
        Redactor.network,
    ),
    Row(
        "e-mail, names, phone, address, birth date, photo, device",
        r"(?:.*_)?(?:e_?mails?|mail|(?:phone|mobile|telephone|cell|fax)(?:_?numbers?)?|address(?:es)?|street"
        r"|zip(?:_?code)?|postal_?code|birth.*|date_of_birth|dob|ssn|photos?|avatar|portrait|gender|ethnicity"
        rf"|device_?id|mac)(?:_url)?|{_NAMES}",
        Redactor.drop,
    ),
    Row(
        "grades, feedback, accommodations, health, discipline, meals",
        r"(?:.*_)?(?:grade|gpa|score|feedback|submission|discussion|accommodation|iep|504|discipline"
        r"|disabilit(?:y|ie)|health|medical|allerg(?:y|ie)|(?:meal|lunch)(?:_status)?)s?"
        r"(?:_(?:text|body|notes?|comments?|plan|status))?",
        Redactor.drop,
    ),
    Row(
        "ids of people and sessions",
        rf"(?:.*_)?{_PERSON}(?:_?(?:ids?|ref|uid|key|numbers?|no))?|(?:.*_)?session(?:_?(?:ids?|key))?|uid"
        r"|(?:triggered|created|updated|deleted|assigned|performed|submitted|graded)_by(?:_id)?"
        r"|(?:author|recipient|sender|assignee)(?:_?ids?)?|(?:.*_)?name_?id(?:entifier)?|(?:.*_)?sourced_?ids?"
        r"|google_?(?:user_?)?id|sis_?(?:user_?)?(?:id|number)|login(?:_?id)?|external_?ids?",
        Redactor.pseudonym,
    ),
    Row("user agent", r"(?:.*_)?user_?agent", Redactor.agent),
    Row("path", r"(?:.*_)?(?:path|url|uri|referr?er)", Redactor.path),
    Row("query string", r"(?:.*_)?(?:query|query_?string|querystring)", Redactor.drop),
    Row(
        "bodies, parameters, prompts, completions",
        r"(?:(?:request|response|system|user|raw)_)?(?:body|payload|params|parameters|arguments|args|kwargs"
        r"|prompts?|completions?|content|context|transcript|messages|choices)"
        r"|(?:generated|response|completion|prompt)_text",
        Redactor.content,
    ),
    Row(
        "text of errors",
        r"(?:.*_)?(?:error|errors|error_message|exception|exception_message|reason|traceback|stack_?trace|stack_info)",
        Redactor.error,
    ),
)


@lru_cache(maxsize=4096)
def _rule(key: str) -> tuple[str, Rule]:
    """The name under which a key is printed (keys can hold addresses too) and the rule for its value."""
    name = _snake(key)
    for row in RULES:
        if re.fullmatch(row.keys, name):
            return scrub(key), row.rule
    return scrub(key), Redactor.identifier if name in IDENTIFIERS else Redactor.free


#: What these types hold stays under the rules that only clean text.
_NUMBERS = frozenset((int, float, bool))
_KEEP_NUMBERS = (Redactor.identifier, Redactor.free, Redactor.error, Redactor.path, Redactor.count)


@lru_cache(maxsize=1024)
def _content_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key for key in keys if isinstance(key, str) and _rule(key)[1] is Redactor.content)


def _snake(key: str) -> str:
    """``X-Forwarded-For``, ``sourcedId`` and ``userID`` as the patterns spell them."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def _is_pair(value: list[Any]) -> bool:
    return (
        len(value) == 2
        and isinstance(value[0], str)
        and _rule(value[0])[1] in (Redactor.drop, Redactor.network)
    )


def _prefix(address: str) -> str | None:
    """The /24 or /48 network of the first address in ``address``; None when there is none."""
    import ipaddress  # here, because only few events carry an address and it slows the import

    first = address.split(",")[0].strip().removeprefix("[").partition("]")[0]
    for candidate in (first, first.rpartition(":")[0]):
        try:
            parsed = ipaddress.ip_address(candidate)
        except ValueError:
            continue
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        return str(ipaddress.ip_network(f"{parsed}/{24 if parsed.version == 4 else 48}", strict=False))
    return None


#: A path whose segments are words and short numbers.
_ORDINARY_PATH = re.compile(r"(?:/(?:[A-Za-z_.:]|\d{1,5}(?!\d))*+)*+")
_RECORD = re.compile(r"\d{6,}|^[0-9a-f]{8}-[0-9a-f]{4}-|\[email\]|\[secret\]", re.IGNORECASE)


#: Tried in order: a browser also names those that it imitates.
_BROWSERS = (
    ("Edge", r"\bEdg\w*/(\d{1,4})"),
    ("Opera", r"\bOPR/(\d{1,4})"),
    ("Firefox", r"\b(?:Firefox|FxiOS)/(\d{1,4})"),
    ("Chrome", r"\b(?:Chrome|CriOS)/(\d{1,4})"),
    ("Safari", r"\bVersion/(\d{1,4}).* Safari/"),
)
_CLIENT = r"(?!Mozilla/)([A-Za-z][A-Za-z-]{0,30})/(\d{1,4})"


def _family(agent: str) -> str | None:
    """`Firefox/128`, `curl/8`; None for what is not known."""
    for family, pattern in _BROWSERS:
        if found := re.search(pattern, agent):
            return f"{family}/{found[1]}"
    client = re.match(_CLIENT, agent)
    return client and f"{client[1]}/{client[2]}"


def _segment(segment: str) -> str:
    return ":id" if _RECORD.search(without_secrets(segment)) else segment


@cache
def _process_key() -> bytes:
    """The key of a process that was given none; made and announced once."""
    guard.complain(
        "no pseudonym key: user ids differ in each process; set TOCSIN_PSEUDONYM_KEY to one secret for all"
    )
    return os.urandom(32)
