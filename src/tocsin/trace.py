"""Request ids and W3C Trace Context: what correlates the lines of one request, and of the services behind it.

Instrumentation binds ``request_id`` and the fields of a :class:`Traceparent`; :func:`outgoing_headers` makes
of them the headers for the next service. Ids come from the operating system, a few hundred at a time, and no
forked process uses those of its parent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, MutableMapping
from typing import NamedTuple

from tocsin.context import bound

_REQUEST_ID = re.compile(r"[A-Za-z0-9._~+/=:-]{1,128}")
_TRACE_ID = r"(?!0{32})[0-9a-f]{32}"
_SPAN_ID = r"(?!0{16})[0-9a-f]{16}"
_TRACEPARENT = re.compile(
    rf"(?!ff)(?P<version>[0-9a-f]{{2}})-({_TRACE_ID})-({_SPAN_ID})-([0-9a-f]{{2}})(?P<more>-.*)?"
)
_SAMPLED = 1


class Traceparent(NamedTuple):
    """One place in a trace: hex digits as they are written in the header and bound as fields.

    ``trace_id`` (32) is shared by all that belongs to the trace, ``span_id`` (16) is this request's own,
    ``trace_flags`` (2) is ``01`` if the caller recorded it.
    """

    trace_id: str
    span_id: str
    trace_flags: str

    @property
    def header(self) -> str:
        """The value of a ``traceparent`` header, version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{self.trace_flags}"


class _Ids:
    """Random ids of 16 hex digits. Asking the operating system for each would let go of the interpreter,
    which in a busy process costs a request more than all that is printed of it.
    """

    def __init__(self) -> None:
        self._pid = 0
        self._ready: Iterator[str] = iter(())

    def make(self) -> str:
        """One that nobody else has."""
        if self._pid != os.getpid():
            self._refill()
        found = next(self._ready, None)  # one step of the interpreter: no two threads take the same
        while found is None:
            self._refill()
            found = next(self._ready, None)
        return found

    def _refill(self) -> None:
        digits = os.urandom(8 * _AT_A_TIME).hex()
        self._ready = iter([digits[at : at + 16] for at in range(0, len(digits), 16)])
        self._pid = os.getpid()


_AT_A_TIME = 256
_IDS = _Ids()


def request_id(header: str | None) -> str:
    """``header`` (the value of X-Request-ID) if it is fit to be one, else a new id of 16 hex digits.

    Fit are 1 to 128 letters, digits and ``._~+/=:-``: what can break a header or is an e-mail address is not.
    """
    if header is not None and _REQUEST_ID.fullmatch(header):
        return header
    return _IDS.make()


def parse_traceparent(header: str | None) -> Traceparent | None:
    """The place that a ``traceparent`` header names; None if there is none or it breaks the standard.

    Versions after 00 may carry more, which is ignored. Raises nothing.
    """
    found = None if header is None else _TRACEPARENT.fullmatch(header)
    if found is None or (found["version"] == "00" and found["more"] is not None):
        return None
    return Traceparent(found[2], found[3], found[4])


def child(parent: Traceparent | None) -> Traceparent:
    """A new place in the trace of ``parent``; without one, in a new trace, recorded (our lines record it)."""
    if parent is None:
        return Traceparent(_IDS.make() + _IDS.make(), _IDS.make(), "01")
    return Traceparent(parent.trace_id, _IDS.make(), f"{int(parent.trace_flags, 16) & _SAMPLED:02x}")


def outgoing_headers() -> dict[str, str]:
    """X-Request-ID and traceparent of the current request or job, for a call to the next service.

    Empty where none is bound. An id that does not fit into a header, whoever bound it, is left out.
    """
    fields = bound()
    headers = {}
    identifier = fields.get("request_id")
    if isinstance(identifier, str) and _REQUEST_ID.fullmatch(identifier):
        headers["X-Request-ID"] = identifier
    trace = f"00-{fields.get('trace_id')}-{fields.get('span_id')}-{fields.get('trace_flags', '01')}"
    if parse_traceparent(trace) is not None:
        headers["traceparent"] = trace
    return headers


def add_outgoing_headers(headers: MutableMapping[str, str]) -> list[str]:
    """Adds :func:`outgoing_headers` to ``headers``, unless set already; returns what was added."""
    missing = {name: value for name, value in outgoing_headers().items() if name not in headers}
    headers.update(missing)
    return list(missing)
