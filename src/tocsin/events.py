"""The event catalogue: what each event is and which fields it has.

Pure data, shared with the server, which reads it to type columns, to check that an alert's input exists, and
to write ``docs/events.md``. To add an event, add one :class:`EventType` to ``EVENTS``. A missing field never
rejects an event, and an event or a field that is not listed goes along unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

#: How a field is stored: text, 64-bit integer, double, boolean. A text field may be written as a number.
FieldType = Literal["text", "integer", "number", "boolean"]

#: A JSON scalar, as fields hold it.
Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event. ``in_order``: the order's own lines carry it; the rest is what we add."""

    name: str
    type: FieldType
    meaning: str
    unit: str = ""
    in_order: bool = False


@dataclass(frozen=True, slots=True)
class EventType:
    """One event: its fields in the order in which they are printed, and one example of them.

    ``flat`` events carry their fields at the top level of the line, all others under ``tags``.
    ``success``, ``failure`` and ``duration`` are what :func:`tocsin.timed` writes: the two values of
    ``status`` (None: leave it to the caller) and the name of the field that takes the milliseconds.
    """

    name: str
    meaning: str
    fields: tuple[Field, ...]
    example: Mapping[str, Scalar]
    flat: bool = False
    success: str | None = "success"
    failure: str | int = "error"
    duration: str = "duration_ms"

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the fields, in printing order."""
        return tuple(field.name for field in self.fields)


def _text(name: str, meaning: str, *, in_order: bool = False) -> Field:
    return Field(name, "text", meaning, in_order=in_order)


def _integer(name: str, unit: str, meaning: str, *, in_order: bool = False) -> Field:
    return Field(name, "integer", meaning, unit, in_order)


def _number(name: str, unit: str, meaning: str, *, in_order: bool = False) -> Field:
    return Field(name, "number", meaning, unit, in_order)


def _boolean(name: str, meaning: str) -> Field:
    return Field(name, "boolean", meaning)


def _status(meaning: str, *, in_order: bool = True) -> Field:
    return _text("status", meaning, in_order=in_order)


def _duration(meaning: str, *, in_order: bool = True) -> Field:
    return _number("duration_ms", "ms", meaning, in_order=in_order)


_REQUEST_ID = _text("request_id", "correlates the lines of one request")
_TENANT_ID = _text("tenant_id", "the district; not a person")
_JOB_ID = _text("job_id", "the background job's id")
_ERROR = _text("error", "class of the error")
_PROVIDER = _text("provider", "openai, anthropic, …", in_order=True)
_MODEL = _text("model", "AI model", in_order=True)
_TOKENS = _integer("tokens", "tokens", "tokens used, prompt and completion", in_order=True)
_TASK_TYPE = "lesson_plan, assessment, …"

_TYPES = (
    EventType(
        "api.request",
        "One answered HTTP request. An exception that escaped is status 500.",
        (
            _REQUEST_ID,
            _text("method", "HTTP method", in_order=True),
            _text("path", "path without query string"),
            _text("route", "the framework's own route template"),
            _integer("status", "", "HTTP status code", in_order=True),
            _duration("time until the answer was complete"),
            _text("user_id", "pseudonym, `u_` and 16 hex digits"),
            _TENANT_ID,
            _text("controller", "the code that answered", in_order=True),
            _text("action", "its method", in_order=True),
            _boolean("streaming", "answered as a stream"),
            _boolean("probe", "a health probe, not a person"),
            _ERROR,
        ),
        {
            "request_id": "6f1c0b52d94e4a7e",
            "method": "GET",
            "path": "/api/v1/courses/7",
            "route": "/api/v1/courses/:id",
            "status": 200,
            "duration_ms": 42.6,
            "user_id": "u_3fa94c0d1b7e8a25",
            "tenant_id": 7,
            "controller": "CoursesController",
            "action": "show",
        },
        success=None,
        failure=500,
    ),
    EventType(
        "job.completed",
        "One attempt of a background job, finished or failed.",
        (
            _text("job_class", "the job's class", in_order=True),
            _status("success or error"),
            _text("error", "class of the error", in_order=True),
            _duration("run time of this attempt"),
            _JOB_ID,
            _text("queue", "the queue it waited in"),
            _integer("attempt", "", "1 for the first run"),
            _number("wait_ms", "ms", "time between enqueuing and start"),
            _TENANT_ID,
            _REQUEST_ID,
        ),
        {
            "job_class": "ClassroomRosterSyncJob",
            "status": "error",
            "error": "TimeoutError",
            "duration_ms": 1830.0,
            "job_id": "b7e2c1f0a9d8",
            "queue": "default",
            "attempt": 2,
            "wait_ms": 12.5,
            "tenant_id": 7,
            "request_id": "6f1c0b52d94e4a7e",
        },
    ),
    EventType(
        "ai.invocation",
        "One AI generation as the core application sees it, the gateway's time included.",
        (
            _PROVIDER,
            _MODEL,
            _TOKENS,
            _duration("from the call until the answer was complete"),
            _status("success or error"),
            _text("invocation_id", "the application's id of the generation"),
            _text("task_type", _TASK_TYPE),
            _text("mode", "sync, async or stream"),
            _integer("prompt_tokens", "tokens", "tokens of the prompt"),
            _integer("completion_tokens", "tokens", "tokens of the completion"),
            _boolean("estimated", "the token counts are estimates"),
            _ERROR,
        ),
        {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "tokens": 812,
            "duration_ms": 1204,
            "status": "success",
            "invocation_id": "4711",
            "task_type": "lesson_plan",
            "mode": "sync",
            "prompt_tokens": 512,
            "completion_tokens": 300,
            "estimated": False,
        },
    ),
    EventType(
        "ai.request",
        "One request of the AI gateway to a provider.",
        (
            _PROVIDER,
            _MODEL,
            _TOKENS,
            _duration("from the provider call until its answer was complete"),
            _status("success or error"),
            _text("task_type", _TASK_TYPE, in_order=True),
            _REQUEST_ID,
            _number("ttft_ms", "ms", "time to the first token of a stream"),
            _text("error_source", "caller, safety, provider or gateway"),
            _ERROR,
            _integer("http_status", "", "HTTP status that the provider answered"),
            _TENANT_ID,
            _integer("prompt_tokens", "tokens", "tokens of the prompt"),
            _integer("completion_tokens", "tokens", "tokens of the completion"),
            _boolean("estimated", "the token counts are estimates"),
        ),
        {
            "provider": "openai",
            "model": "gpt-4o-mini",
            "tokens": 812,
            "duration_ms": 1204,
            "status": "success",
            "task_type": "lesson_plan",
        },
        flat=True,
    ),
    EventType(
        "sync.run",
        "One run of an integration sync.",
        (
            _text("provider", "google_classroom, oneroster, …", in_order=True),
            _status("success, partial or error"),
            _integer(
                "records_processed", "records", "records seen; the order prints `record_count`", in_order=True
            ),
            _text("run_id", "the application's id of the run"),
            _JOB_ID,
            _text("sync_type", "course_sync, roster_sync, grade_passback, …"),
            _text("direction", "push, pull or bidirectional"),
            _integer("records_succeeded", "records", "records written"),
            _integer("records_failed", "records", "records that failed"),
            _duration("run time", in_order=False),
            _TENANT_ID,
            _ERROR,
        ),
        {
            "provider": "oneroster",
            "status": "partial",
            "records_processed": 240,
            "run_id": "981",
            "job_id": "b7e2c1f0a9d8",
            "sync_type": "oneroster_user_sync",
            "direction": "pull",
            "records_succeeded": 238,
            "records_failed": 2,
            "duration_ms": 15320.4,
            "tenant_id": 7,
        },
    ),
    EventType(
        "auth.login",
        "One attempt to log in.",
        (
            _text("provider", "google, saml, password, …", in_order=True),
            _status("success, failure, throttled or cancelled"),
            _text("reason", "why it failed: invalid_grant, expired_assertion, …"),
            _TENANT_ID,
            _text("client_network", "hashed network prefix, `n_` and 16 hex digits"),
        ),
        {
            "provider": "google",
            "status": "failure",
            "reason": "invalid_grant",
            "tenant_id": 7,
            "client_network": "n_91c5d20e7f3ab648",
        },
        failure="failure",
    ),
    EventType(
        "job.queue",
        "State of one queue at one instant.",
        (
            _text("queue", "the queue"),
            _integer("depth", "jobs", "jobs that wait"),
            _number("oldest_age_s", "s", "age of the job that waits longest"),
        ),
        {"queue": "default", "depth": 42, "oldest_age_s": 3.2},
    ),
    EventType(
        "health.check",
        "One health check of a service.",
        (
            _text("target", "what was checked"),
            _status("success or failure", in_order=False),
            _text("reason", "why it failed: timeout, http_status, …"),
            _integer("http_status", "", "HTTP status that the target answered"),
            _number("latency_ms", "ms", "time until the answer"),
        ),
        {
            "target": "ai-gateway",
            "status": "failure",
            "reason": "http_status",
            "http_status": 503,
            "latency_ms": 31.7,
        },
        failure="failure",
        duration="latency_ms",
    ),
    EventType(
        "db.disk",
        "Size of one database volume at one instant.",
        (
            _text("volume", "which volume"),
            _integer("used_bytes", "bytes", "bytes used"),
            _integer("capacity_bytes", "bytes", "bytes that it holds"),
        ),
        {"volume": "core-postgres", "used_bytes": 41_875_931_136, "capacity_bytes": 53_687_091_200},
    ),
    EventType(
        "log.heartbeat",
        "The emitter's sign of life.",
        (
            _number("uptime_s", "s", "time since the process started"),
            _integer("dropped", "lines", "lines that the emitter could not write since then"),
        ),
        {"uptime_s": 3600.0, "dropped": 0},
    ),
    EventType(
        "deploy",
        "A deploy marker.",
        (
            _text("service", "the service that was deployed"),
            _text("version", "the version deployed"),
            _text("git_sha", "its commit"),
            _status("success or error", in_order=False),
        ),
        {"service": "k12-core", "version": "2026.11.2", "git_sha": "8a38277", "status": "success"},
    ),
)

#: Event name -> its type.
EVENTS: dict[str, EventType] = {event.name: event for event in _TYPES}

#: Names under which other emitters print a catalogued field. Read them with :func:`field_name`.
ALIASES: dict[str, str] = {
    "record_count": "records_processed",
    "error_type": "error",
    "user": "user_id",
    "total_tokens": "tokens",
    "latency_ms": "duration_ms",
}


def field_name(event: str, key: str) -> str:
    """The catalogue's name of ``key`` in a line of ``event``.

    An alias gives way to a field of that name: `latency_ms` is `duration_ms`, but not in `health.check`.
    """
    alias = ALIASES.get(key)
    return key if alias is None or key in _OWN_FIELDS.get(event, ()) else alias


_OWN_FIELDS = {name: frozenset(event.field_names) for name, event in EVENTS.items()}
