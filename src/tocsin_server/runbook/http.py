"""``http`` steps: a GET, HEAD or OPTIONS of a path of a named connection, one answer, no redirect.

The host comes from the settings, the path from the document; a value fills at most one segment of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from tocsin_server.outbound import Answer
from tocsin_server.runbook.inputs import Value, Values, shown
from tocsin_server.runbook.model import HttpAnswer, Step
from tocsin_server.runbook.question import Found, NotAsked, Question, redacted, used
from tocsin_server.runbook.redact import Redactor

READS = frozenset(("GET", "HEAD", "OPTIONS"))
_REQUEST_LINE = re.compile(r"([A-Z]{3,7}) +(/[^\s\\#]*)")
_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,60}): *([\t\x20-\x7e]{0,1000})")
_PARAMETER = re.compile(r"(?<![A-Za-z0-9_%:]):([A-Za-z_][A-Za-z0-9_]*)")


class Send(Protocol):
    """How a request is sent: :func:`tocsin_server.outbound.request`."""

    def __call__(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout_s: float,
        max_bytes: int,
        private_hosts: frozenset[str],
    ) -> Answer:
        """One request. Raises RequestFailed."""


@dataclass(frozen=True, slots=True)
class Request:
    """A block as written: the path still has its ``:name`` in it."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def reads(self) -> bool:
        """Whether the method only reads."""
        return self.method in READS

    @property
    def parameters(self) -> frozenset[str]:
        """The names in the path."""
        return frozenset(_PARAMETER.findall(self.path))


def read_request(block: str) -> Request:
    """A block's request line and headers; a body is for methods that write, which are never sent from here.

    Raises NotAsked when it is not a request, or its path is not a plain one.
    """
    head = block.strip("\n").partition("\n\n")[0].splitlines()
    line = _REQUEST_LINE.fullmatch(head[0].strip()) if head else None
    if line is None:
        raise NotAsked("refused", "the block does not begin with a request line; write `GET /path`")
    path = line[2].partition("?")[0]
    if path.startswith("//") or any(_is_dots(segment) for segment in path.split("/")):
        raise NotAsked("refused", "the path names another host or a folder above; write one below `/`")
    headers = {}
    for text in head[1:]:
        header = _HEADER.fullmatch(text.strip())
        if header is None:
            raise NotAsked("refused", "a line below the request line is no header; write `Name: value`")
        headers[header[1]] = header[2]
    return Request(line[1], line[2], headers)


def question(
    step: Step,
    base_url: str,
    values: Values,
    as_of_us: int,
    send: Send,
    private_hosts: frozenset[str],
    redactor: Redactor,
) -> Question:
    """The step as a question to the server at ``base_url``. Raises NotAsked."""
    asked = read_request(step.body)
    if not asked.reads:
        raise NotAsked("refused", f"{asked.method} changes things; Tocsin only reads: do it by hand")
    parameters = used(asked.parameters, values, as_of_us)
    visible = redacted(parameters, redactor)
    url = _base(base_url) + _filled(asked.path, parameters)
    path = _PARAMETER.sub(lambda m: _visible(parameters[m[1]], visible[m[1]]), asked.path)
    headers = [f"{name}: {value}" for name, value in redactor.headers(asked.headers).items()]

    def ask(seconds: float) -> Found:
        answer = send(
            asked.method,
            url,
            headers=asked.headers,
            timeout_s=seconds,
            max_bytes=step.max_bytes,
            private_hosts=private_hosts,
        )
        return _found(answer, step.max_bytes, redactor)

    return Question(_base(base_url), "\n".join([f"{asked.method} {path}", *headers]), visible, ask)


def _found(answer: Answer, max_bytes: int, redactor: Redactor) -> Found:
    body, parsed = redactor.body(answer.body, max_bytes)
    http = HttpAnswer(answer.status, redactor.headers(answer.headers), body, parsed)
    return Found(http=http, truncated=answer.truncated or redactor.cut)


def _base(url: str) -> str:
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise NotAsked("refused", "the connection's address has a query; write it without in tocsin.yaml")
    return url.rstrip("/?#")


def _filled(path: str, parameters: Mapping[str, Value]) -> str:
    """The path with its values percent-encoded: what a value holds never becomes syntax."""
    place, mark, query = path.partition("?")
    return _substituted(place, parameters, _segment) + mark + _substituted(query, parameters, _encoded)


def _substituted(text: str, parameters: Mapping[str, Value], write: Callable[[str, Value], str]) -> str:
    return _PARAMETER.sub(lambda match: write(match[1], parameters[match[1]]), text)


def _encoded(_name: str, value: Value) -> str:
    return quote(str(shown(value)), safe="")


def _segment(name: str, value: Value) -> str:
    """A value within a path. Servers decode before they route, so no slash or dots may come out of it."""
    text = str(shown(value))
    decoded = unquote(text)
    if not text or _is_dots(decoded) or set("/\\") & set(decoded):
        raise NotAsked("refused", f"input {name} cannot stand in a path: it would name another one")
    return _encoded(name, value)


def _is_dots(segment: str) -> bool:
    return unquote(segment) in (".", "..")


def _visible(value: Value, shown_value: object) -> str:
    return quote(str(shown_value), safe="") if shown_value == shown(value) else str(shown_value)
