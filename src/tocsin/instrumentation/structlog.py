"""structlog's events as JSON lines: :func:`processors` for ``structlog.configure``.

:func:`render` is for those who lead structlog through the standard library's ``ProcessorFormatter``.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, NoReturn

from structlog import DropEvent
from structlog.contextvars import merge_contextvars
from structlog.processors import StackInfoRenderer
from structlog.typing import EventDict, Processor, WrappedLogger

from tocsin.instrumentation.logging import Line, encode, formatted, nanoseconds, send
from tocsin.tracebacks import exception_fields, frames_in_text, without_traceback

#: Methods whose name is not that of a level.
_LEVELS = {"warn": "WARNING", "exception": "ERROR", "fatal": "CRITICAL", "msg": "INFO", "log": "INFO"}


def processors() -> list[Processor]:
    """What ``structlog.configure(processors=…)`` takes; put processors of your own before them.

    The last one hands the event to the emitter and drops it, so no logger prints it again.
    """
    return [merge_contextvars, StackInfoRenderer(), emit]


def emit(logger: WrappedLogger, method_name: str, event_dict: EventDict) -> NoReturn:
    """A last processor: prints the event. Raises :class:`structlog.DropEvent`, always."""
    send(_line, logger, method_name, event_dict)
    raise DropEvent


def render(logger: WrappedLogger, method_name: str, event_dict: EventDict) -> str:
    """A last processor that returns the JSON line, for ``ProcessorFormatter(processors=[render])``."""
    return encode(_line, logger, method_name, event_dict)


def _line(logger: WrappedLogger, method_name: str, event_dict: EventDict) -> Line:
    fields = dict(event_dict)
    record = fields.pop("_record", None)
    level = str(fields.pop("level", None) or method_name)
    message, problem = _message(fields.pop("event", ""), fields.pop("positional_args", None))
    message, said = without_traceback(message)
    for key in ("timestamp", "level_number", "_from_structlog"):
        fields.pop(key, None)  # the line has its own time and level
    name = getattr(logger if record is None else record, "name", None)
    fields = {"logger": name, **_exception(fields), **fields, **problem, **said}
    ns = None if record is None else nanoseconds(record.created)
    return Line(_LEVELS.get(level, level), message, fields, ns)


def _message(event: Any, args: Any) -> tuple[str, dict[str, str]]:
    """The text as ``logging`` would make it, without its cost where there is nothing to make."""
    if type(event) is str and not args:
        return event, {}
    return formatted(logging.LogRecord("", logging.INFO, "", 0, event, args or (), None))


def _exception(fields: dict[str, Any]) -> dict[str, Any]:
    """Takes the exception and stack out of ``fields``, also where other processors have formatted them."""
    found: dict[str, Any] = {}
    stack = fields.pop("stack", None)
    if isinstance(stack, str):
        found["stack_info"] = frames_in_text(stack)
    error = _error(fields.pop("exc_info", None))
    text = fields.pop("exception", None)
    if error is not None:
        found |= exception_fields(error)
    elif isinstance(text, str):
        found |= without_traceback(text)[1] or {"exception": text}
    elif isinstance(text, list):  # of `dict_tracebacks`, which may hold local variables
        found["exception"] = [item.get("exc_type") for item in text if isinstance(item, dict)]
    return found


def _error(exc_info: Any) -> BaseException | None:
    """structlog takes an exception, what ``sys.exc_info`` returns, and True."""
    if isinstance(exc_info, tuple) and len(exc_info) == 3:
        exc_info = exc_info[1]
    elif exc_info and not isinstance(exc_info, BaseException):
        exc_info = sys.exc_info()[1]
    return exc_info if isinstance(exc_info, BaseException) else None
