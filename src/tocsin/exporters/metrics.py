"""Which metrics an event is: one table, read by all exporters.

Names, units and buckets are those of the OpenTelemetry semantic conventions where these have a metric for it
(HTTP: stable; messaging and GenAI: in development), else our own below ``k12``. Labels never name a person, a
tenant or a path; their values are bounded in length here and in number by :class:`Bounded`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from tocsin.events import ALIASES, field_name

#: Longest value of a label, in characters, and most values of one label; further ones are ``OTHER``.
LABEL_CHARACTERS = 200
LABEL_VALUES = 500
OTHER = "_other"

#: What OpenTelemetry says for a method or an error that is not known.
UNKNOWN = "_OTHER"

_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)
_CODE = re.compile(r"[\w.:/-]{1,100}", re.ASCII)


# --- labels ---------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)[:LABEL_CHARACTERS] if isinstance(value, str | int | float) else ""


def _method(value: object) -> str:
    method = _text(value).upper()
    return method if not method or method in _METHODS else UNKNOWN


def _http_status(value: object) -> str:
    status = _text(value)
    return status if len(status) == 3 and "100" <= status <= "599" and status.isdecimal() else ""


def code(value: object) -> str:
    """A reason or an error class; prose is ``UNKNOWN``, because it may quote a person."""
    given = _text(value)
    return given if not given or _CODE.fullmatch(given) else UNKNOWN


class Label(NamedTuple):
    """One label: ``field`` of the event, also its name in Prometheus and StatsD.

    ``attribute`` is its name in OpenTelemetry ("": left out there). ``values`` are all that there are, if
    that is known. ``detail``: only some outcomes have it.
    """

    field: str
    attribute: str
    read: Callable[[object], str] = _text
    values: tuple[str, ...] = ()
    detail: bool = False


_METHOD = Label("method", "http.request.method", _method)
_ROUTE = Label("route", "http.route")
_HTTP_STATUS = Label("status", "http.response.status_code", _http_status)
_JOB_CLASS = Label("job_class", "k12.job.class")
_QUEUE = Label("queue", "messaging.destination.name")
_PROVIDER = Label("provider", "gen_ai.provider.name")
_MODEL = Label("model", "gen_ai.request.model")
_TASK_TYPE = Label("task_type", "k12.ai.task_type")
_MODE = Label("mode", "k12.ai.mode")
_SYNC_TYPE = Label("sync_type", "k12.sync.type")
_REASON = Label("reason", "k12.auth.reason", code, detail=True)
_TARGET = Label("target", "k12.health.target")
_VOLUME = Label("volume", "k12.db.volume")


def _status(attribute: str, *values: str) -> Label:
    return Label("status", attribute, values=values)


def _token_type(kind: str) -> Label:
    return Label("token_type", "gen_ai.token.type", lambda _absent: kind)


# --- metrics --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Metric:
    """One row: what ``field`` of ``event`` (``count``: the event itself) becomes.

    ``opentelemetry``, ``prometheus`` and ``statsd`` are its names there, "" where it does not exist; StatsD's
    is without prefix. The field times ``scale`` is in ``unit`` (UCUM); StatsD takes timings in ms. A
    ``check`` is a gauge: 1 for status success, else 0. ``unless``: fields that say the number is told
    elsewhere or not known. ``constant`` are attributes of OpenTelemetry, where ``errors`` adds
    ``error.type`` to what failed.
    """

    event: str
    field: str
    kind: Literal["histogram", "counter", "gauge", "check"]
    unit: str
    opentelemetry: str
    prometheus: str
    statsd: str
    help: str
    labels: tuple[Label, ...]
    buckets: tuple[float, ...] = ()
    scale: float = 1.0
    unless: tuple[str, ...] = ()
    errors: bool = False
    constant: Mapping[str, str] | None = None


COUNT = "count"
#: Up to here every whole number is exact as a double, which all three write.
_LARGEST = 2**53

_HTTP_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2, 2.5, 5, 7.5, 10)
_JOB_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_AI_S = tuple(round(0.01 * 2**power, 2) for power in range(14))
_TOKENS = tuple(float(4**power) for power in range(14))
_MS = 0.001

_JOB_STATUS = _status("", "success", "error")
_AI_STATUS = _status("", "success", "error")
_K12_AI_STATUS = _status("k12.ai.status", "success", "error")
_SYNC_PROVIDER = Label("provider", "k12.sync.provider")
_SYNC_STATUS = _status("k12.sync.status", "success", "partial", "error")
_AUTH_PROVIDER = Label("provider", "k12.auth.provider")
_AUTH_STATUS = _status("k12.auth.status", "success", "failure", "throttled", "cancelled")
_CHAT = {"gen_ai.operation.name": "chat"}
#: The library that runs the job is not part of the event, and the convention asks for one.
_PROCESS = {"messaging.operation.name": "process", "messaging.system": UNKNOWN}


def _tokens(field: str, kind: str, *unless: str) -> Metric:
    return Metric(
        "ai.request", field, "histogram", "{token}", "gen_ai.client.token.usage",
        "gen_ai_client_token_usage", f"ai.tokens.{kind}", "Tokens of one AI request.",
        (_PROVIDER, _MODEL, _token_type(kind)), _TOKENS, unless=("estimated", *unless), constant=_CHAT,
    )  # fmt: skip


# One row reads best on few lines: event, field, kind, unit / names / help / labels, buckets, the rest.
# fmt: off
METRICS = (
    Metric(
        "api.request", "duration_ms", "histogram", "s", "http.server.request.duration",
        "http_server_request_duration_seconds", "api.request", "Duration of answered HTTP requests.",
        (_METHOD, _ROUTE, _HTTP_STATUS), _HTTP_S, _MS, errors=True,
    ),
    Metric(
        "job.completed", COUNT, "counter", "{job}", "", "", "job.completed", "Attempts of background jobs.",
        (_JOB_CLASS, _QUEUE, _JOB_STATUS),
    ),
    Metric(
        "job.completed", "duration_ms", "histogram", "s", "messaging.process.duration",
        "k12_job_duration_seconds", "job.duration", "Run time of one attempt of a background job.",
        (_JOB_CLASS, _QUEUE, _JOB_STATUS), _JOB_S, _MS, errors=True, constant=_PROCESS,
    ),
    Metric(
        "ai.request", "duration_ms", "histogram", "s", "gen_ai.client.operation.duration",
        "gen_ai_client_operation_duration_seconds", "ai.request", "Duration of requests to an AI provider.",
        (_PROVIDER, _MODEL, _TASK_TYPE, _AI_STATUS), _AI_S, _MS, errors=True, constant=_CHAT,
    ),
    Metric(
        "ai.request", "ttft_ms", "histogram", "s", "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai_client_operation_time_to_first_chunk_seconds", "ai.ttft", "Time to a stream's first token.",
        (_PROVIDER, _MODEL), _AI_S, _MS, constant=_CHAT,
    ),
    _tokens("prompt_tokens", "input"),
    _tokens("completion_tokens", "output"),
    _tokens("tokens", "total", "prompt_tokens", "completion_tokens"),
    Metric(
        "ai.invocation", "duration_ms", "histogram", "s", "k12.ai.invocation.duration",
        "k12_ai_invocation_duration_seconds", "ai.invocation", "Duration of AI generations, as users see it.",
        (_PROVIDER, _MODEL, _TASK_TYPE, _MODE, _K12_AI_STATUS), _AI_S, _MS, errors=True,
    ),
    Metric(
        "sync.run", COUNT, "counter", "{run}", "k12.sync.runs",
        "k12_sync_runs_total", "sync.run", "Runs of integration syncs.",
        (_SYNC_PROVIDER, _SYNC_TYPE, _SYNC_STATUS),
    ),
    Metric(
        "sync.run", "records_processed", "counter", "{record}", "k12.sync.records",
        "k12_sync_records_total", "sync.records", "Records seen by syncs, by the status of their run.",
        (_SYNC_PROVIDER, _SYNC_STATUS),
    ),
    Metric(
        "sync.run", "duration_ms", "histogram", "s", "k12.sync.run.duration",
        "k12_sync_run_duration_seconds", "sync.duration", "Run time of integration syncs.",
        (_SYNC_PROVIDER, _SYNC_TYPE, _SYNC_STATUS), _JOB_S, _MS, errors=True,
    ),
    Metric(
        "auth.login", COUNT, "counter", "{login}", "k12.auth.logins",
        "k12_auth_logins_total", "auth.login", "Attempts to log in.",
        (_AUTH_PROVIDER, _AUTH_STATUS, _REASON),
    ),
    Metric(
        "job.queue", "depth", "gauge", "{job}", "k12.job.queue.depth",
        "k12_job_queue_depth", "job.queue.depth", "Jobs that wait in the queue.", (_QUEUE,),
    ),
    Metric(
        "job.queue", "oldest_age_s", "gauge", "s", "k12.job.queue.oldest_age",
        "k12_job_queue_oldest_age_seconds", "job.queue.oldest_age_s", "Age of the job that waits longest.",
        (_QUEUE,),
    ),
    Metric(
        "health.check", COUNT, "check", "1", "k12.health.check.success",
        "probe_success", "health.check", "Whether the last health check succeeded.", (_TARGET,),
    ),
    Metric(
        "health.check", "latency_ms", "gauge", "s", "k12.health.check.duration",
        "probe_duration_seconds", "health.duration_s", "How long the last health check took.", (_TARGET,),
        scale=_MS,
    ),
    Metric(
        "db.disk", "used_bytes", "gauge", "By", "k12.db.disk.used",
        "k12_db_disk_used_bytes", "db.disk.used_bytes", "Bytes used on a database volume.", (_VOLUME,),
    ),
    Metric(
        "db.disk", "capacity_bytes", "gauge", "By", "k12.db.disk.capacity",
        "k12_db_disk_capacity_bytes", "db.disk.capacity_bytes", "Bytes that a database volume holds.",
        (_VOLUME,),
    ),
)
# fmt: on

_OF_EVENT: dict[str, tuple[Metric, ...]] = {
    event: tuple(metric for metric in METRICS if metric.event == event)
    for event in {metric.event for metric in METRICS}
}


# --- measurements ---------------------------------------------------------------------------------------


class Measurement(NamedTuple):
    """One value of a metric, in its unit; ``labels`` in the order of the metric's, "" where absent."""

    metric: Metric
    value: float
    labels: tuple[str, ...]


def measurements(record: Mapping[str, Any]) -> Iterator[Measurement]:
    """What a record measures: nothing if it is a log line or an event without metrics. Raises nothing."""
    event = record.get("metric", "")
    rows = _OF_EVENT.get(event)
    if rows is None:
        return
    fields = canonical(event, record["fields"])
    for metric in rows:
        value = _value(metric, fields)
        if value is not None:
            labels = tuple(label.read(fields.get(label.field, "")) for label in metric.labels)
            yield Measurement(metric, value, labels)


def canonical(event: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields under the catalogue's names."""
    if ALIASES.keys().isdisjoint(fields):
        return fields
    return {field_name(event, key): value for key, value in fields.items()} | {
        key: value for key, value in fields.items() if key not in ALIASES
    }


def error_type(metric: Metric, fields: Mapping[str, Any]) -> str:
    """OpenTelemetry's ``error.type``: the error's class, else the HTTP status; "" if nothing failed."""
    if not metric.errors:
        return ""
    status = _text(fields.get("status", ""))
    if failed := code(fields.get("error", "")):
        return failed
    if metric.event == "api.request":
        return status if _http_status(status) >= "500" else ""
    return UNKNOWN if status in ("error", "failure") else ""


def siblings(metric: Metric, labels: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The label values beside ``labels`` that are known to exist: every outcome, so that each starts at 0."""
    for place, label in enumerate(metric.labels):
        for value in label.values:
            plain = ("" if one.detail else given for one, given in zip(metric.labels, labels, strict=True))
            yield tuple(value if index == place else given for index, given in enumerate(plain))


def _value(metric: Metric, fields: Mapping[str, Any]) -> float | None:
    """The number of a measurement; None if there is none that can be one: nothing here is ever negative."""
    if any(fields.get(name) not in (None, False) for name in metric.unless):
        return None
    if metric.kind == "check":
        return float(fields["status"] == "success") if "status" in fields else None
    if metric.field == COUNT:
        return 1
    value = fields.get(metric.field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LARGEST:
        return None
    return value if metric.scale == 1 else value * metric.scale


class Bounded:
    """Lets at most ``limit`` values of each label pass; the rest become ``OTHER``."""

    def __init__(self, limit: int = LABEL_VALUES) -> None:
        self._limit = limit
        self._seen: dict[Label, set[str]] = {}

    def __call__(self, measured: Measurement) -> Measurement:
        """``measured`` with bounded labels."""
        pairs = zip(measured.metric.labels, measured.labels, strict=True)
        return measured._replace(labels=tuple(self._bounded(label, value) for label, value in pairs))

    def _bounded(self, label: Label, value: str) -> str:
        seen = self._seen.setdefault(label, set())
        if value in seen or not value:
            return value
        if len(seen) >= self._limit:
            return OTHER
        seen.add(value)
        return value
