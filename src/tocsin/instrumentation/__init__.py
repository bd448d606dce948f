"""Events from frameworks and libraries: an open set, each module imported only when it is asked for.

``INSTRUMENTATIONS`` is its table. To add one: one module here, one row, one extra in ``pyproject.toml``, one
test. What a row can switch on by a call has a function ``instrument(**options)``; middlewares, handlers and
the like are classes that the framework's own settings name.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

from tocsin.errors import ConfigurationError


class Instrumentation(NamedTuple):
    """One row: ``name`` is the module here and the extra; ``imports`` are the packages it may import.

    ``switch``: it is switched on by ``tocsin.instrument(name)``; otherwise ``use`` says how.
    """

    name: str
    imports: tuple[str, ...]
    use: str
    switch: bool = False


INSTRUMENTATIONS = (
    Instrumentation("asgi", (), "add tocsin.instrumentation.asgi.RequestMiddleware to the application"),
    Instrumentation("wsgi", (), "wrap the application in tocsin.instrumentation.wsgi.RequestMiddleware"),
    Instrumentation("flask", ("flask",), "api.request of a Flask application", switch=True),
    Instrumentation("django", ("django", "asgiref"), "add RequestMiddleware to MIDDLEWARE", switch=True),
    Instrumentation("allauth", ("allauth", "django"), "auth.login of django-allauth", switch=True),
    Instrumentation("celery", ("celery", "kombu"), "job.completed of Celery tasks", switch=True),
    Instrumentation("rq", ("rq",), "give the worker tocsin.instrumentation.rq.Worker"),
    Instrumentation(
        "dramatiq", ("dramatiq",), "add tocsin.instrumentation.dramatiq.JobMiddleware to the broker"
    ),
    Instrumentation("openai", ("openai",), "ai.request of the OpenAI client", switch=True),
    Instrumentation("anthropic", ("anthropic",), "ai.request of the Anthropic client", switch=True),
    Instrumentation("httpx", ("httpx",), "request id and trace to the next service", switch=True),
    Instrumentation("requests", ("requests",), "request id and trace to the next service", switch=True),
    Instrumentation("logging", (), "tocsin.configure(log_level=…), or its Handler in dictConfig"),
    Instrumentation("structlog", ("structlog",), "tocsin.instrumentation.structlog.processors()"),
    Instrumentation("loguru", ("loguru",), "logger.add(tocsin.instrumentation.loguru.sink)"),
)

_TABLE = {row.name: row for row in INSTRUMENTATIONS}


def instrument(name: str, /, **options: Any) -> None:
    """Switches the instrumentation of ``name`` on, such as ``instrument("celery")``; again does nothing more.

    Raises :class:`ConfigurationError` for a name that the table does not have, one that is not switched on by
    a call, and a library that is not installed.
    """
    row = _TABLE.get(name)
    if row is None:
        known = ", ".join(row.name for row in INSTRUMENTATIONS if row.switch)
        raise ConfigurationError([f"instrument({name!r}): there is no such instrumentation; known: {known}"])
    if not row.switch:
        raise ConfigurationError([f"instrument({name!r}): is not switched on by a call: {row.use}"])
    try:
        module = import_module(f"tocsin.instrumentation.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in row.imports:
            raise
        raise ConfigurationError(
            [f'instrument({name!r}): {error.name} is missing: pip install "tocsin[{name}]"']
        ) from None
    module.instrument(**options)
