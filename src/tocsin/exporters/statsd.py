"""The events as StatsD metrics over UDP or a Unix datagram socket.

    tocsin.configure(exporters=[StatsdExporter()])

Datagrams get lost without anybody noticing: fine for a graph, never the source of an alert.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from tocsin.exporters.metrics import Bounded, Measurement, code, measurements
from tocsin.guard import GUARD

#: Most bytes of a datagram: what an Ethernet frame carries beside the headers of IP, UDP and a tunnel.
DATAGRAM_BYTES = 1432
#: After a failure nothing is tried for so long.
PAUSE_S = 5.0

_NOT_IN_TAG = re.compile(r"[|,#\x00-\x20\x7f]")
_NOT_IN_KEY = re.compile(r"[^A-Za-z0-9_./-]")
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]+")
_OK, _CRITICAL = 0, 2
#: A buffer is full: the next datagram may fit again.
_FULL = frozenset((errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS))


class StatsdExporter:
    """Sends to ``host`` and ``port`` over UDP, or to the Unix datagram socket ``path``.

    ``dialect`` is ``datadog`` (labels are tags, health checks are service checks) or ``statsd`` (plain: label
    values are appended to the name). ``prefix`` begins every name; ``tags`` go on every metric, which needs
    the Datadog dialect. Lines are gathered in datagrams; the emitter calls :meth:`flush` after each batch.
    The socket is opened at the first one and never waited for: what it does not take is lost and counted.
    Raises ValueError for a wrong dialect or tags without the Datadog dialect.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8125,
        *,
        path: str | None = None,
        prefix: str = "k12",
        dialect: Literal["datadog", "statsd"] = "datadog",
        tags: Mapping[str, str] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if dialect not in ("datadog", "statsd"):
            raise ValueError(f"dialect must be datadog or statsd, not {dialect!r}")
        if tags and dialect != "datadog":
            raise ValueError("plain StatsD has no tags: leave tags out, or use dialect='datadog'")
        self._address = (host, port) if path is None else path
        self._prefix = f"{prefix}." if prefix else ""
        self._line = self._datadog if dialect == "datadog" else self._plain
        self._tags = [_tag(name, value) for name, value in (tags or {}).items()]
        self._monotonic = monotonic
        self._paused_until = float("-inf")
        self._bounded = Bounded()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._socket: socket.socket | None = None
        self._lines: list[bytes] = []
        self._size = 0

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Adds the metrics of one record to the datagram; sends it when it is full."""
        for measured in measurements(record):
            if measured.metric.statsd:
                line = self._line(self._bounded(measured), record["fields"])
                self._add(line.encode(errors="replace"))

    def flush(self) -> None:
        """Sends what has gathered. Raises nothing."""
        self._begin()
        if self._lines:
            datagram, self._lines, self._size = b"\n".join(self._lines), [], 0
            self._send(datagram)

    def close(self) -> None:
        """Sends what has gathered and closes the socket; the next datagram opens it again."""
        self.flush()
        self._drop_socket()

    def _begin(self) -> None:
        if self._pid != os.getpid():  # what the parent has gathered, the parent sends
            self._drop_socket()
            self._reset()

    def _add(self, line: bytes) -> None:
        self._begin()
        if self._lines and self._size + len(line) > DATAGRAM_BYTES:
            self.flush()
        self._lines.append(line)
        self._size += len(line) + 1

    def _send(self, datagram: bytes) -> None:
        if self._monotonic() < self._paused_until:
            GUARD.failed("statsd")
            return
        try:
            if self._socket is None:
                self._socket = _connected(self._address)
            self._socket.send(datagram)
        except OSError as error:
            GUARD.failed("statsd", error)
            if error.errno not in _FULL:
                self._drop_socket()
                self._paused_until = self._monotonic() + PAUSE_S

    def _drop_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # --- dialects ---

    def _datadog(self, measured: Measurement, fields: Mapping[str, Any]) -> str:
        metric, _, labels = measured
        named = [(label.field, value) for label, value in zip(metric.labels, labels, strict=True) if value]
        tags = ",".join([*self._tags, *(_tag(name, value) for name, value in named)])
        suffix = f"|#{tags}" if tags else ""
        if metric.kind == "check":
            return self._service_check(measured, fields, suffix)
        kind = "h" if metric.kind == "histogram" and metric.unit != "s" else _TYPES[metric.kind]
        return f"{self._prefix}{metric.statsd}:{_number(measured)}|{kind}{suffix}"

    def _service_check(self, measured: Measurement, fields: Mapping[str, Any], suffix: str) -> str:
        name = _NOT_IN_NAME.sub("_", "".join(measured.labels)).replace("-", "_") or measured.metric.statsd
        reason = code(fields.get("reason", ""))
        message = f"|m:{reason}" if reason and not measured.value else ""
        return f"_sc|{self._prefix}{name}|{_OK if measured.value else _CRITICAL}{suffix}{message}"

    def _plain(self, measured: Measurement, fields: Mapping[str, Any]) -> str:
        """Every label takes its place in the name, so that each metric's tree is equally deep."""
        parts = (_NOT_IN_NAME.sub("_", value).strip("_") or "none" for value in measured.labels)
        name = ".".join((measured.metric.statsd, *parts))
        return f"{self._prefix}{name}:{_number(measured)}|{_TYPES[measured.metric.kind]}"


def _number(measured: Measurement) -> str:
    """The value; timings are in ms."""
    metric, value, _ = measured
    return _shortest(value * 1000 if metric.kind == "histogram" and metric.unit == "s" else value)


#: Plain StatsD has timings for everything that is distributed.
_TYPES = {"histogram": "ms", "counter": "c", "gauge": "g", "check": "g"}


def _shortest(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _tag(name: str, value: str) -> str:
    return f"{_NOT_IN_KEY.sub('_', name)}:{_NOT_IN_TAG.sub('_', value)}"


def _connected(address: tuple[str, int] | str) -> socket.socket:
    """A datagram socket that never waits; connected, so that a refusal is told."""
    if isinstance(address, str):
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        target: Any = address
    else:
        family, kind, protocol, _, target = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
        opened = socket.socket(family, kind, protocol)
    try:
        opened.setblocking(False)
        opened.connect(target)
    except OSError:
        opened.close()
        raise
    return opened
