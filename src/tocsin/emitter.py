"""``emit`` and ``log``: from the call to the sink."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tocsin.background import Background
from tocsin.config import Settings, resolve
from tocsin.context import bound
from tocsin.errors import ConfigurationError
from tocsin.exporters import Exporter
from tocsin.guard import GUARD, complain
from tocsin.line import event_line, log_line
from tocsin.processors import (
    Captured,
    Clock,
    Finished,
    Finisher,
    is_plain,
    made_plain,
    short_message,
)
from tocsin.redact import Redactor
from tocsin.sinks import Sink
from tocsin.sinks.stdout import STDOUT
from tocsin.values import plain, plain_fields, text

#: Levels for which a tenth of the queue is kept.
_IMPORTANT = frozenset(("WARNING", "ERROR", "CRITICAL", "FATAL"))
#: Lost lines are reported at most so often.
_REPORT_EVERY_S = 60.0
_STARTED_S = time.monotonic()


class Emitter:
    """Settings and a sink; ``clock`` tells the time, ``monotonic`` measures it (nanoseconds).

    In the ``background`` a thread of its own makes and writes the lines; else whoever emits does.
    """

    def __init__(
        self,
        settings: Settings,
        sink: Sink | None = None,
        *,
        exporters: Sequence[Exporter] = (),
        background: bool = True,
        clock: Clock = time.time_ns,
        monotonic: Clock = time.perf_counter_ns,
    ) -> None:
        """Without a ``sink``, lines go to standard output."""
        self.settings = settings
        self.sink: Sink = STDOUT if sink is None else sink
        self.exporters = tuple(exporters)
        self.clock = clock
        self.monotonic = monotonic
        self._redactor = Redactor(settings.pseudonym_key)
        self._finish = Finisher(self._redactor).finish
        speaker = {"service": settings.service, "environment": settings.environment}
        self._speaker = {key: value for key, value in speaker.items() if value is not None}
        self._is_text = settings.format == "text"
        self._thread = threading.local()
        self._reported = GUARD.dropped
        self._beat_ns: int | None = None
        self._background = None
        if background:
            self._background = Background(
                self._deliver,
                linger_s=getattr(self.sink, "linger_s", 0.005),
                batch=getattr(self.sink, "batch_lines", 128),
                tick=self._tick,
            )

    def take(
        self,
        name: str | None,
        level: str | None,
        message: str | None,
        fields: dict[str, Any],
        ns: int | None = None,
        *,
        durable: bool = False,
    ) -> None:
        """Takes what was emitted. Whatever goes wrong is counted, never raised."""
        if not self.settings.enabled:
            return
        size = 0
        if not is_plain(fields):
            if getattr(self._thread, "busy", False):
                GUARD.failed("reentrant")  # a value emits while it is looked at
                return
            self._thread.busy = True
            try:
                fields, size = made_plain(fields, self._redactor)
            except Exception as error:
                GUARD.failed("line", error)
                return
            finally:
                self._thread.busy = False
        if message is not None and len(message) > 256:
            message = short_message(message)
            size += len(message)
        captured = (name, level, message, fields, bound(), self.clock() if ns is None else ns)
        background = self._background
        if background is not None and background.is_this_thread():
            GUARD.failed("reentrant")  # the sink or an exporter emits
            return
        # A replaced sys.stdout without a file (a notebook, a test) is no other thread's business.
        if background is None or background.closed or (self.sink is STDOUT and not STDOUT.has_descriptor()):
            self._deliver_here(captured)
        elif not background.put(captured, size, important=level in _IMPORTANT):
            GUARD.failed("queue full")
        elif durable and not background.flush():
            complain("a durable line waits for standard output; it is written when that takes it")

    def line(self, level: str, message: str, fields: dict[str, Any], ns: int | None) -> bytes:
        """The log line as it would be printed, for who writes it himself. Raises whatever goes wrong."""
        plain, _ = made_plain(fields, self._redactor)
        captured = (None, level, short_message(message), plain, bound(), self.clock() if ns is None else ns)
        lines: list[bytes] = []
        self._make(captured, lines)
        return lines[0]

    def flush(self, timeout_s: float = 2.0) -> bool:
        """Waits until every line emitted so far is written; False if that took longer."""
        return self._background is None or self._background.flush(timeout_s)

    def close(self) -> None:
        """Writes what is left, and lets go of the sink and the exporters."""
        if self._background is not None:
            self._background.close()
        for part in (self.sink, *self.exporters):
            if close := getattr(part, "close", None):
                self._guarded(close)

    # --- making and writing lines ---

    def _deliver_here(self, captured: Captured) -> None:
        if getattr(self._thread, "busy", False):
            GUARD.failed("reentrant")  # the sink, or a signal handler, emits while this thread makes a line
            return
        self._thread.busy = True
        try:
            self._deliver([captured], getattr(self.sink, "without_waiting", self.sink))
        finally:
            self._thread.busy = False

    def _deliver(self, batch: list[Captured], sink: Sink | None = None) -> None:
        lines: list[bytes] = []
        for captured in batch:
            try:
                self._make(captured, lines)
            except Exception as error:
                GUARD.failed("line", error)
        try:
            (sink or self.sink)(lines)
        except Exception as error:
            GUARD.failed("sink", error, getattr(error, "lost_lines", len(lines)))
        for exporter in self.exporters:
            flush = getattr(exporter, "flush", None)
            if flush is not None:
                self._guarded(flush)

    def _make(self, captured: Captured, lines: list[bytes]) -> None:
        """Adds the line or lines of ``captured``."""
        before = len(lines)
        try:
            finished = self._finish(captured)
            self._add_lines(finished, lines)
        except (TypeError, ValueError, UnicodeError):
            # What only looked plain: a half of a surrogate pair, an integer beyond 64 bits.
            del lines[before:]
            finished = self._finish(_made_valid(captured))
            self._add_lines(finished, lines)
        if self.exporters:
            self._export(finished)

    def _add_lines(self, finished: Finished, lines: list[bytes]) -> None:
        name, level, message, fields, stamp = finished
        if self._is_text:
            lines += map(_text_line, self._records(finished))
            return
        if message is not None:
            lines.append(log_line(level, message, fields, stamp, self._speaker))
        if name is not None:
            lines.append(event_line(name, fields, stamp, self._speaker))

    def _records(self, finished: Finished) -> list[dict[str, Any]]:
        name, level, message, fields, stamp = finished
        common = {"fields": fields, "timestamp": stamp, **self._speaker}
        said = [{"level": level, "message": message, **common}] if message is not None else []
        return [*said, {"metric": name, **common}] if name is not None else said

    def _export(self, finished: Finished) -> None:
        for record in self._records(finished):
            for exporter in self.exporters:
                self._guarded(exporter, record)

    def _guarded(self, call: Callable[..., object], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:
            GUARD.failed("exporter", error)

    # --- the sign of life ---

    def _tick(self) -> float | None:
        """Prints a heartbeat if one is due; seconds until the next one is, None if none will be."""
        every_s = self.settings.heartbeat_s
        lost = GUARD.dropped != self._reported
        if lost:
            every_s = min(every_s or _REPORT_EVERY_S, _REPORT_EVERY_S)
        if not every_s:
            return None
        now_ns = self.monotonic()
        if self._beat_ns is None:
            self._beat_ns = now_ns
        due_s = every_s - (now_ns - self._beat_ns) / 1e9
        if due_s > 0:
            return due_s
        self._beat_ns, self._reported = now_ns, GUARD.dropped
        self._deliver([("log.heartbeat", None, None, vitals(), {}, self.clock())])
        return self.settings.heartbeat_s or None


def _text_line(record: dict[str, Any]) -> bytes:
    from tocsin.terminal import text_line  # only developers' terminals need it

    line: str = text_line(record)
    return line.encode(errors="replace") + b"\n"


def _made_valid(captured: Captured) -> Captured:
    name, level, message, fields, context, ns = captured
    said = (part and text(part) for part in (name, level, message))
    return (*said, plain_fields(dict(fields)), plain_fields(dict(context)), ns)  # type: ignore[return-value]


def vitals() -> dict[str, Any]:
    """The fields of ``log.heartbeat``: how long the process lives, and which lines it has lost."""
    fields: dict[str, Any] = {"uptime_s": round(time.monotonic() - _STARTED_S, 1), "dropped": GUARD.dropped}
    return {**fields, "dropped_by_reason": dict(GUARD.counts)} if GUARD.counts else fields


_current: Emitter | None = None


def emit(name: str, /, *, durable: bool = False, **fields: Any) -> None:
    """Prints one metric event, such as ``emit("job.queue", queue="default", depth=3)``.

    The catalogue in :mod:`tocsin.events` lists the known events; other names and fields are welcome. A field
    that is None is left out. The line is written by a thread of the emitter, soon; a ``durable`` one is
    written before this returns, for which it may wait for two seconds. Never raises.
    """
    try:
        (_current or current()).take(_named(name), None, None, fields, durable=durable)
    except Exception:
        GUARD.unreported += 1  # perhaps the stack is exhausted: nothing can be called here


def log(level: str, message: str, /, **fields: Any) -> None:
    """Prints one log line, such as ``log("INFO", "sync started", run_id=run.id)``. Never raises.

    Put what varies into fields: the message is free text and is scrubbed as such.
    """
    send_log(level, message, fields)


def send_log(level: str, message: str, fields: dict[str, Any], ns: int | None = None) -> None:
    """:func:`log` for logging libraries: a dict of fields, the record's own time (ns since the epoch)."""
    try:
        (_current or current()).take(None, _named(level), _named(message), fields, ns)
    except Exception:
        GUARD.unreported += 1  # perhaps the stack is exhausted: nothing can be called here


def emit_request(fields: dict[str, Any]) -> None:
    """Prints an answered HTTP request twice: as a request line for people and as ``api.request``.

    ``fields`` are those of ``api.request``. For instrumentation of web frameworks. Never raises.
    """
    try:
        (_current or current()).take("api.request", "INFO", "", fields)
    except Exception:
        GUARD.unreported += 1  # perhaps the stack is exhausted: nothing can be called here


def monotonic_ns() -> int:
    """The clock that measures durations (ns); a test's frozen clock if there is one."""
    return (_current or current()).monotonic()


def flush(timeout_s: float = 2.0) -> bool:
    """Waits until every line emitted so far is written; False if that took longer than ``timeout_s``.

    For a process that ends without Python's knowledge: ``os._exit`` after a fork, a frozen function host.
    """
    return _current is None or _current.flush(timeout_s)


def current() -> Emitter:
    """The emitter in use; without ``configure``, one that the environment sets up at the first line."""
    global _current
    if _current is None:
        _current = _made_without_configure(os.environ)
    return _current


def use(emitter: Emitter | None) -> Emitter | None:
    """Puts ``emitter`` in use and returns the one before it."""
    global _current
    before, _current = _current, emitter
    return before


def made(settings: Settings, sink: Sink | None, exporters: Sequence[Exporter]) -> Emitter:
    """The emitter that the settings describe."""
    if sink is None and settings.collector_url is not None:
        from tocsin.sinks.http import HttpSink  # loads sockets and TLS, hence only when asked

        sink = HttpSink(settings.collector_url, settings.collector_token)
    if settings.statsd is not None:
        from tocsin.exporters.statsd import StatsdExporter

        host, _, port = settings.statsd.rpartition(":")
        exporters = (*exporters, StatsdExporter(host, int(port)))
    return Emitter(settings, sink, exporters=exporters)


def _made_without_configure(environ: Mapping[str, str]) -> Emitter:
    """A host that never called ``configure`` expects no error: a wrong environment is only told."""
    try:
        return made(resolve({}, environ), None, ())
    except ConfigurationError as error:
        complain(f"{error}; the defaults apply")
        return Emitter(Settings())


def _named(value: object) -> str:
    return value if type(value) is str else str(plain(value))
