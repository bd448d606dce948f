"""One application with different observers, each in a process of its own.

``python -m benchmarks.applications NAME REQUESTS``: the application is called as a server calls it, through
ASGI or WSGI but without a socket, in bursts that are flushed to the last byte. What the observers print goes
to standard output.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import time
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, NamedTuple

import orjson

from benchmarks.report import Role

#: Requests between two flushes, so that no observer's queue overflows.
BURST = 500
#: Requests that are answered before anything is timed.
WARM_UP = 2 * BURST

_PATH = "/api/v1/courses/7"
_ANSWER = {"id": 7, "title": "Fractions"}

#: Answers one burst, the observer's flush included.
Serve = Callable[[], None]


class Contestant(NamedTuple):
    """A row: ``package`` is the observer's distribution, ``lines`` how many it prints for each request."""

    label: str
    role: Role
    package: str | None
    lines: int
    make: Callable[[], Serve]


def _configure_tocsin() -> Callable[[], object]:
    import tocsin

    tocsin.configure(
        service="k12-core", environment="production", pseudonym_key="not a secret, only a benchmark"
    )
    return tocsin.flush


# --- FastAPI ---


def _fastapi() -> Any:
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/api/v1/courses/{course_id}")
    async def show(course_id: int) -> dict[str, Any]:
        return _ANSWER

    return app


def _fastapi_bare() -> Serve:
    return _through_asgi(_fastapi())


def _fastapi_tocsin() -> Serve:
    from tocsin.instrumentation.asgi import RequestMiddleware

    app = _fastapi()
    app.add_middleware(RequestMiddleware)
    return _through_asgi(app, _configure_tocsin())


def _fastapi_prometheus() -> Serve:
    from prometheus_fastapi_instrumentator import Instrumentator

    app = _fastapi()
    Instrumentator().instrument(app)
    return _through_asgi(app)


def _fastapi_opentelemetry(**options: Any) -> Serve:
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Dropping(SpanExporter):
        """Sending is not what is measured."""

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Dropping()))
    app = _fastapi()
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider, **options)
    return _through_asgi(app, provider.force_flush)


def _through_asgi(app: Any, flush: Callable[[], object] = lambda: None) -> Serve:
    loop = asyncio.new_event_loop()

    async def burst() -> None:
        for _ in range(BURST):
            await _one(app)

    def serve() -> None:
        loop.run_until_complete(burst())
        flush()

    return serve


async def _one(app: Any) -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(
        {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": _PATH,
            "raw_path": _PATH.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"k12.example.org"), (b"accept", b"application/json")],
            "client": ("192.0.2.1", 50000),
            "server": ("192.0.2.2", 8000),
            "state": {},
        },
        receive,
        send,
    )
    if sent[0]["status"] != 200 or sent[-1].get("more_body"):
        raise RuntimeError(f"answered {sent}")


# --- Django ---


def _django(*middleware: str, apps: Sequence[str] = (), flush: Callable[[], object] = lambda: None) -> Serve:
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import JsonResponse
    from django.urls import path

    def show(request: Any, course_id: int) -> Any:
        return JsonResponse(_ANSWER)

    settings.configure(
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=list(apps),
        LOGGING_CONFIG=None,
        MIDDLEWARE=list(middleware),
        ROOT_URLCONF=(path("api/v1/courses/<int:course_id>", show),),
        SECRET_KEY="not a secret, only a benchmark",
    )
    django.setup()
    app = get_wsgi_application()

    def serve() -> None:
        for _ in range(BURST):
            _one_through_wsgi(app)
        flush()

    return serve


def _one_through_wsgi(app: Any) -> None:
    statuses: list[str] = []
    answer = app(
        {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": _PATH,
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "SERVER_NAME": "k12.example.org",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "192.0.2.1",
            "HTTP_HOST": "k12.example.org",
            "HTTP_ACCEPT": "application/json",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
        },
        lambda status, headers, error=None: statuses.append(status),
    )
    for _ in answer:
        pass
    answer.close()
    if statuses != ["200 OK"]:
        raise RuntimeError(f"answered {statuses}")


def _django_tocsin() -> Serve:
    return _django("tocsin.instrumentation.django.RequestMiddleware", flush=_configure_tocsin())


def _django_prometheus() -> Serve:
    middleware = "django_prometheus.middleware.Prometheus{}Middleware"
    return _django(middleware.format("Before"), middleware.format("After"), apps=["django_prometheus"])


def _django_structlog() -> Serve:
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
    return _django("django_structlog.middlewares.RequestMiddleware", apps=["django_structlog"])


# --- the tables ---

_OPENTELEMETRY = "opentelemetry-instrumentation-fastapi"

#: By framework: Tocsin first, whose figure is divided by the others', and the application itself, the limit.
CONTESTANTS: dict[str, dict[str, Contestant]] = {
    "FastAPI": {
        "fastapi-tocsin": Contestant(
            "tocsin RequestMiddleware, request line and event", "tocsin", None, 2, _fastapi_tocsin
        ),
        "fastapi-prometheus": Contestant(
            "default metrics", "peer", "prometheus-fastapi-instrumentator", 0, _fastapi_prometheus
        ),
        "fastapi-opentelemetry": Contestant(
            "spans in batches, dropped", "peer", _OPENTELEMETRY, 0, _fastapi_opentelemetry
        ),
        "fastapi-opentelemetry-one": Contestant(
            "one span a request",
            "peer",
            _OPENTELEMETRY,
            0,
            lambda: _fastapi_opentelemetry(exclude_spans=["receive", "send"]),
        ),
        "fastapi-bare": Contestant("nothing", "limit", None, 0, _fastapi_bare),
    },
    "Django": {
        "django-tocsin": Contestant(
            "tocsin RequestMiddleware, request line and event", "tocsin", None, 2, _django_tocsin
        ),
        "django-prometheus": Contestant(
            "before and after", "peer", "django-prometheus", 0, _django_prometheus
        ),
        "django-structlog": Contestant(
            "bytes, orjson, two lines", "peer", "django-structlog", 2, _django_structlog
        ),
        "django-bare": Contestant("nothing", "limit", None, 0, _django),
    },
}


def main(name: str, requests: int) -> None:
    """Answers the requests and prints what they cost, as JSON, to standard error."""
    contestants = {name: contestant for table in CONTESTANTS.values() for name, contestant in table.items()}
    serve = contestants[name].make()
    for _ in range(WARM_UP // BURST):
        serve()
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for _ in range(requests // BURST):
        serve()
    measured = {"cpu_s": time.process_time() - cpu_s, "wall_s": time.perf_counter() - wall_s}
    print(json.dumps(measured), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
