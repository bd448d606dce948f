"""Libraries that print JSON lines, each in a process of its own.

``python -m benchmarks.emitters NAME cpu|calls EVENTS``: every one prints the same nine fields of an
`api.request`: six are given, ``request_id``, ``user_id`` and ``tenant_id`` are bound as context. They go to
standard output in bursts that no queue has to drop, each flushed to its last byte. What differs from event to
event is made between the bursts, untimed.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

from benchmarks.report import Role

Fields = dict[str, Any]

#: Events between two flushes: no more than the smallest queue of them all (OpenTelemetry's, 2,048) holds.
BURST = 500
#: Events that are printed before anything is timed.
WARM_UP = 2 * BURST

_SPEAKER = {"service": "k12-core", "environment": "production"}


class Emitter(NamedTuple):
    """How a library binds context, prints an event, and gets the last byte out."""

    bind: Callable[[Fields], object]
    emit: Callable[[Fields], object]
    flush: Callable[[], object] = lambda: None


class Contestant(NamedTuple):
    """A row of the tables; ``package`` is the distribution that it needs, None: always there."""

    label: str
    role: Role
    package: str | None
    make: Callable[[], Emitter]


_bound: ContextVar[Fields] = ContextVar("bound")


def _tocsin() -> Emitter:
    import tocsin

    tocsin.configure(
        service="k12-core", environment="production", pseudonym_key="not a secret, only a benchmark"
    )
    return Emitter(
        lambda bound: tocsin.bind(**bound).__enter__(),
        lambda fields: tocsin.emit("api.request", **fields),
        tocsin.flush,
    )


def _bare(now: Callable[[], str]) -> Emitter:
    def emit(fields: Fields) -> None:
        tags = {**_bound.get(), **fields}
        line = {"metric": "api.request", "tags": tags, "timestamp": now(), **_SPEAKER}
        os.write(1, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    return Emitter(_bound.set, emit)


def _structlog() -> Emitter:
    import structlog

    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        logger_factory=structlog.BytesLoggerFactory(),
    )
    logger = structlog.get_logger(**_SPEAKER).bind()
    return Emitter(
        lambda bound: structlog.contextvars.bind_contextvars(**bound),
        lambda fields: logger.info("api.request", **fields),
    )


def _on_logging(handler: logging.Handler) -> Emitter:
    """The standard library's way to context: a filter that adds it to each record."""

    def add_context(record: logging.LogRecord) -> bool:
        record.__dict__.update(_bound.get())
        return True

    handler.addFilter(add_context)
    logger = logging.getLogger("metrics")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    return Emitter(_bound.set, lambda fields: logger.info("api.request", extra=fields))


def _logging() -> Emitter:
    class JsonFormatter(logging.Formatter):
        """What people write when they want JSON lines."""

        def format(self, record: logging.LogRecord) -> str:
            fields = {key: value for key, value in record.__dict__.items() if key not in usual}
            return json.dumps(
                {"metric": record.getMessage(), "tags": fields, "timestamp": _now(), **_SPEAKER}
            )

    usual = frozenset(logging.makeLogRecord({}).__dict__)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    return _on_logging(handler)


def _json_logger() -> Emitter:
    from pythonjsonlogger.json import JsonFormatter

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(timestamp=True, static_fields=_SPEAKER))
    return _on_logging(handler)


def _json_logger_orjson() -> Emitter:
    from pythonjsonlogger.orjson import OrjsonFormatter

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(OrjsonFormatter(timestamp=True, static_fields=_SPEAKER))
    return _on_logging(handler)


def _loguru() -> Emitter:
    from loguru import logger

    logger.remove()
    logger.add(sys.stdout, serialize=True)
    entered = []  # a context manager that nobody holds is left at once

    def bind(bound: Fields) -> None:
        entered.append(logger.contextualize(**_SPEAKER, **bound))
        entered[-1].__enter__()

    return Emitter(bind, lambda fields: logger.info("api.request", **fields))


def _opentelemetry() -> Emitter:
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, ConsoleLogRecordExporter
    from opentelemetry.sdk.resources import Resource

    provider = LoggerProvider(resource=Resource.create(_SPEAKER))
    exporter = ConsoleLogRecordExporter(formatter=lambda record: record.to_json(indent=None) + "\n")
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    emitter = _on_logging(LoggingHandler(logger_provider=provider))
    return emitter._replace(flush=provider.force_flush)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


#: Tocsin first: its figure is divided by the others'.
CONTESTANTS: dict[str, Contestant] = {
    "tocsin": Contestant("tocsin.emit", "tocsin", None, _tocsin),
    "bare": Contestant(
        "orjson.dumps and os.write, constant timestamp",
        "limit",
        None,
        lambda: _bare(lambda: "2026-11-23T07:55:12.345Z"),
    ),
    "bare-now": Contestant("orjson.dumps and os.write", "peer", None, lambda: _bare(_now)),
    "structlog": Contestant("structlog, bytes, orjson", "peer", "structlog", _structlog),
    "logging": Contestant("logging, formatter with json.dumps", "peer", None, _logging),
    "json-logger": Contestant("JsonFormatter", "peer", "python-json-logger", _json_logger),
    "json-logger-orjson": Contestant("OrjsonFormatter", "peer", "python-json-logger", _json_logger_orjson),
    "loguru": Contestant("loguru, serialize=True", "peer", "loguru", _loguru),
    "opentelemetry": Contestant(
        "LoggingHandler, batches, console", "peer", "opentelemetry-sdk", _opentelemetry
    ),
}


def _bursts(events: int, emitter: Emitter) -> Iterator[list[tuple[Context, Fields]]]:
    """The events with their contexts: 1,000 people in 40 districts, each request with an id of its own."""
    dice = random.Random(7)
    for _ in range(0, events, BURST):
        burst = []
        for _ in range(BURST):
            context, person = Context(), dice.randrange(1000)
            bound = {
                "request_id": f"{dice.getrandbits(64):016x}",
                "user_id": person,
                "tenant_id": person % 40,
            }
            context.run(emitter.bind, bound)
            burst.append((context, _fields(dice)))
        yield burst


def _fields(dice: random.Random) -> Fields:
    return {
        "method": "GET",
        "path": f"/api/v1/courses/{dice.randrange(400)}",
        "status": 200,
        "duration_ms": round(dice.uniform(5, 80), 3),
        "controller": "CoursesController",
        "action": "show",
    }


def _cpu(emitter: Emitter, events: int) -> dict[str, float]:
    """CPU and wall seconds of all threads until the last byte is written."""
    cpu_s = wall_s = 0.0
    for burst in _bursts(events, emitter):
        cpu_before, wall_before = time.process_time(), time.perf_counter()
        for context, fields in burst:
            context.run(emitter.emit, fields)
        emitter.flush()
        cpu_s += time.process_time() - cpu_before
        wall_s += time.perf_counter() - wall_before
    return {"cpu_s": cpu_s, "wall_s": wall_s}


def _calls(emitter: Emitter, events: int) -> dict[str, float]:
    """Quantiles of the time (µs) for which one call holds its caller up."""
    taken, clock = [], time.perf_counter_ns
    for burst in _bursts(events, emitter):
        for context, fields in burst:
            started = clock()
            context.run(emitter.emit, fields)
            taken.append(clock() - started)
        emitter.flush()
    taken.sort()
    return {"p50": taken[len(taken) // 2] / 1000, "p99": taken[len(taken) * 99 // 100] / 1000}


def main(name: str, mode: str, events: int) -> None:
    """Prints the events to standard output and what was measured, as JSON, to standard error."""
    emitter = CONTESTANTS[name].make()
    threads = threading.active_count() - 1
    _cpu(emitter, WARM_UP)
    measured = (_cpu if mode == "cpu" else _calls)(emitter, events)
    print(json.dumps({**measured, "threads": threads}), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
