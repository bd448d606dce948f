"""The standard library's ``logging`` as JSON lines: a :class:`Handler`, or a :class:`Formatter` for your own.

Neither raises, waits or prints a traceback on standard error, whatever a record holds.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from tocsin.emitter import current, send_log
from tocsin.guard import GUARD
from tocsin.line import printing_order
from tocsin.tracebacks import exception_fields, frame, frames_in_text, without_traceback
from tocsin.values import plain

#: What every record has, and what formatters and uvicorn (``color_message``) add to it; the rest is `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

#: So that a host which has renamed or coloured them still prints levels that Tocsin reads.
_LEVELS = {
    logging.DEBUG: "DEBUG",
    logging.INFO: "INFO",
    logging.WARNING: "WARNING",
    logging.ERROR: "ERROR",
    logging.CRITICAL: "CRITICAL",
}

#: The emitter's own thread. What a sink logs there would become a line that the sink writes, and so on.
_EMITTER_THREAD = "tocsin"

_YEAR_10000_S = 253_402_300_800

#: Records that are turned into text at a time: one, and what its arguments log meanwhile.
_NESTED = 2


class _Nesting(threading.local):
    depth = 0


_nesting = _Nesting()


class Line(NamedTuple):
    """What :func:`tocsin.emitter.send_log` takes; ``ns`` since the epoch, None: now."""

    level: str
    message: str
    fields: dict[str, Any]
    ns: int | None


class Handler(logging.Handler):
    """Prints each record as one line through the emitter, with what is bound; it never waits.

    Put it where you would put a ``StreamHandler``; formatters have no effect on it.
    """

    def createLock(self) -> None:  # noqa: N802  # the standard library's name
        """None: nothing here needs one, so no fork and no signal handler can find it held."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool | logging.LogRecord:  # type: ignore[override]
        """Emits ``record`` if the filters let it through; a filter may put another in its place."""
        passed: Any = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed  # type: ignore[no-any-return]

    def emit(self, record: logging.LogRecord) -> None:
        """Prints ``record``; what goes wrong is counted."""
        send(line_of, record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Counts the lost line; the standard library would print a traceback."""
        GUARD.failed("log record", sys.exc_info()[1])


class Formatter(logging.Formatter):
    """Formats a record as :class:`Handler` prints it, for a ``StreamHandler`` or ``FileHandler`` of yours."""

    def format(self, record: logging.LogRecord) -> str:
        """The JSON line, without its newline. Raises nothing."""
        return encode(line_of, record)


def install(level: str | int | None = None) -> None:
    """Puts a :class:`Handler` on the root logger, unless it has one; its other handlers stay.

    ``level``, such as "INFO", becomes that of the root logger. Raises ValueError for a level that does not
    exist.
    """
    root = logging.getLogger()
    if level is not None:
        root.setLevel(level.upper() if isinstance(level, str) else level)
    if not any(isinstance(handler, Handler) for handler in root.handlers):
        root.addHandler(Handler())


def line_of(record: logging.LogRecord) -> Line:
    """What is printed of ``record``."""
    message, problem = formatted(record)
    message, said = without_traceback(message)
    fields = {**_extra(record), "logger": record.name, **problem, **said, **_exception(record)}
    if record.stack_info:
        fields["stack_info"] = frames_in_text(str(record.stack_info))
    level = _LEVELS.get(record.levelno) or record.levelname
    return Line(level, message, fields, nanoseconds(record.created))


def send(describe: Callable[..., Line], *given: Any) -> None:
    """Prints the line that ``describe`` makes of what a logging library has given. Raises nothing."""
    try:
        if threading.current_thread().name == _EMITTER_THREAD:
            GUARD.failed("reentrant")
        else:
            send_log(*_described(describe, given))
    except Exception as error:
        GUARD.failed("log record", error)


def encode(describe: Callable[..., Line], *given: Any) -> str:
    """The same line as :func:`send` prints, without its newline; made at once, in this thread."""
    try:
        return current().line(*_described(describe, given)).decode().rstrip("\n")
    except Exception as error:
        GUARD.failed("log record", error)
        return '{"level":"ERROR","message":"a log record could not be formatted"}'


def _described(describe: Callable[..., Line], given: tuple[Any, ...]) -> Line:
    """Raises RecursionError for a record whose own arguments log it: it could not end."""
    if _nesting.depth == _NESTED:
        raise RecursionError
    _nesting.depth += 1
    try:
        line = describe(*given)
    finally:
        _nesting.depth -= 1
    if reserved := _reserved(tuple(line.fields)):
        line.fields.setdefault("format_error", f"reserved names: {reserved}")
    return line


@lru_cache(maxsize=1024)
def _reserved(keys: tuple[str, ...]) -> str:
    """Those of ``keys`` that are left out because a line has them already, such as `service`."""
    return ", ".join(key for key in keys if key not in printing_order(None)(keys))


def formatted(record: logging.LogRecord) -> tuple[str, dict[str, str]]:
    """The text; if the arguments do not fit, the template and ``format_error``: what was wrong, and where."""
    try:
        return str(record.getMessage()), {}
    except Exception as error:
        where = f" at {frame(record.pathname, record.lineno, record.funcName)}" if record.pathname else ""
        return _template(record), {"format_error": type(error).__name__ + where}


def _template(record: logging.LogRecord) -> str:
    return record.msg if type(record.msg) is str else str(plain(record.msg))


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    held = record.__dict__
    if _STANDARD.issuperset(held):
        return {}
    # `logging` takes any key, JSON only text.
    return {k if type(k) is str else str(plain(k)): v for k, v in held.items() if k not in _STANDARD}


def _exception(record: logging.LogRecord) -> dict[str, Any]:
    given: Any = record.exc_info
    if not given:
        return without_traceback(str(record.exc_text))[1] if record.exc_text else {}
    error = given[1] if isinstance(given, tuple) else given
    return exception_fields(error) if isinstance(error, BaseException) else {}


def nanoseconds(seconds: Any) -> int | None:
    """``seconds`` since the epoch as ns, to the microsecond; None if they are no time."""
    if isinstance(seconds, int | float) and 0 <= seconds < _YEAR_10000_S:
        return round(seconds * 1e6) * 1000
    return None
