"""``configure``: the one call with which an application starts."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tocsin.config import resolve
from tocsin.emitter import emit, flush, made, use, vitals
from tocsin.exporters import Exporter
from tocsin.sigterm import flush_first
from tocsin.sinks import Sink


def configure(
    *,
    service: str | None = None,
    environment: str | None = None,
    enabled: bool | None = None,
    pseudonym_key: str | None = None,
    log_level: str | None = None,
    format: str | None = None,
    heartbeat_s: float | None = None,
    collector_url: str | None = None,
    collector_token: str | None = None,
    statsd: str | None = None,
    flush_on_sigterm: bool | None = None,
    sink: Sink | None = None,
    exporters: Sequence[Exporter] = (),
) -> None:
    """Says who speaks and where lines go: to the collector if one is named, else to standard output.

    What is not given comes from the environment (``TOCSIN_SERVICE``, …), else from the default. A ``sink``
    takes lists of lines in the place of both (:mod:`tocsin.sinks`); ``exporters`` get the records, too
    (:mod:`tocsin.exporters`). Raises :class:`tocsin.errors.ConfigurationError` with all faults at once.
    """
    arguments = dict(locals())
    del arguments["sink"], arguments["exporters"]
    settings = resolve(arguments, os.environ)
    before = use(made(settings, sink, exporters))
    if before is not None:
        before.close()
    if settings.log_level is not None:
        from tocsin.instrumentation.logging import install  # loads `logging`

        install(settings.log_level)
    if settings.flush_on_sigterm:
        flush_first(flush)
    if settings.heartbeat_s:
        emit("log.heartbeat", **vitals())
