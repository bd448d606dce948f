"""loguru's messages as JSON lines: ``logger.add(tocsin.instrumentation.loguru.sink)``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tocsin.instrumentation.logging import Line, send
from tocsin.tracebacks import exception_fields, without_traceback

if TYPE_CHECKING:
    from loguru import Message


def sink(message: Message) -> None:
    """Prints one message of loguru, with its ``extra``, its own time and what is bound. Raises nothing."""
    send(_line, message)


def _line(message: Message) -> Line:
    record = message.record
    text, said = without_traceback(record["message"])
    fields = {**record["extra"], "logger": record["name"], **said, **_exception(message)}
    ns = round(record["time"].timestamp() * 1e6) * 1000
    return Line(record["level"].name, text, fields, ns)


def _exception(message: Message) -> dict[str, Any]:
    """With ``enqueue=True`` the exception comes without its traceback, or not at all; its text is there."""
    given = message.record["exception"]
    if given is None:
        return {}
    if given.value is None:
        fields: dict[str, Any] = {"exception": given.type.__name__ if given.type else None}
    else:
        fields = exception_fields(given.value)
    if not fields.get("stacktrace"):
        fields["stacktrace"] = without_traceback(str(message))[1].get("stacktrace")
    return fields
