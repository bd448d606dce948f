"""A school platform on an ordinary morning, as events: what the faults happen in.

Everything is synthetic. Tenants are numbers, users are random pseudonyms; nothing here was recorded. The
numbers are a small platform's: half a request a second, a sync a minute, some failures everywhere, and two
deploys that harm nobody.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from tocsin_server.clock import SECOND_US

CORE, GATEWAY, WEB = "k12-core", "k12-ai-gateway", "k12-web"
TENANTS = range(1, 9)
GIB = 1 << 30

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Emission:
    """One event that a service prints: when (µs), its name, who prints it, its fields."""

    at_us: int
    name: str
    service: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class Stream:
    """Events of one name: one each ``every_s`` seconds, ``steady`` to the second or scattered between."""

    name: str
    service: str
    every_s: float
    make: Callable[[Random, int], Fields]
    steady: bool = False


def stream(one: Stream, from_us: int, until_us: int, rng: Random, service: str = "") -> Iterator[Emission]:
    """The events of a stream with ``from_us < at_us <= until_us``, in order."""
    every_us = round(one.every_s * SECOND_US)
    for index in range(max(0, until_us - from_us) // every_us):
        late = 1.0 if one.steady else 0.1 + 0.8 * rng.random()
        at_us = from_us + round((index + late) * every_us)
        yield Emission(at_us, one.name, service or one.service, one.make(rng, index))


def repeatable(*seed: object) -> Random:
    """Random numbers that are the same for the same seed."""
    return Random(" ".join(map(str, seed)))  # noqa: S311 - nothing is secret here


def healthy(from_us: int, until_us: int, seed: int, thinned: float = 1.0) -> Iterator[Emission]:
    """The ordinary morning, sorted by time; ``thinned`` stretches the time between requests and jobs."""
    streams = [
        stream(_thinned(one, thinned), from_us, until_us, repeatable(seed, number))
        for number, one in enumerate(STREAMS)
    ]
    deploys = (
        Emission(from_us + minute * 60 * SECOND_US, "deploy", service, deploy(service, version))
        for minute, service, version in ((2, WEB, "2026.11.4"), (4, CORE, "2026.11.7"))
    )
    return heapq.merge(*streams, (e for e in deploys if e.at_us <= until_us), key=lambda e: e.at_us)


def _thinned(one: Stream, factor: float) -> Stream:
    return one if one.steady else Stream(one.name, one.service, one.every_s * factor, one.make)


# --- single events --------------------------------------------------------------------------------------

#: (weight, method, route, controller, action)
_ROUTES = (
    (30, "GET", "/api/v1/courses/:id", "api/v1/courses", "show"),
    (14, "GET", "/api/v1/courses", "api/v1/courses", "index"),
    (12, "GET", "/api/v1/assignments/:id", "api/v1/assignments", "show"),
    (9, "POST", "/api/v1/submissions", "api/v1/submissions", "create"),
    (9, "GET", "/api/v1/gradebook", "api/v1/gradebooks", "show"),
    (8, "GET", "/api/v1/me", "api/v1/sessions", "show"),
    (7, "GET", "/api/v1/notifications", "api/v1/notifications", "index"),
    (6, "PATCH", "/api/v1/unit_plans/:id", "api/v1/unit_plans", "update"),
    (5, "GET", "/api/v1/unit_plans/:id", "api/v1/unit_plans", "show"),
)
_WEIGHTS = [route[0] for route in _ROUTES]
_STATUSES = (*(200,) * 60, *(304,) * 8, *(201,) * 6, *(404,) * 3, 401, 422)
#: (job class, queue, milliseconds)
JOBS = (
    ("ClassroomRosterSyncJob", "default", 4000),
    ("AiGenerationJob", "default", 2500),
    ("CreateCourseFolderJob", "default", 900),
    ("PdfExportJob", "low", 3000),
    ("DistributeAssignmentJob", "default", 1800),
    ("ActionMailer::MailDeliveryJob", "mailers", 300),
    ("QtiExportJob", "low", 700),
)
#: (provider, model), as often as it is asked.
MODELS = (
    *(("openai", "gpt-4o-mini"),) * 13,
    *(("openai", "gpt-4o"),) * 2,
    *(("anthropic", "claude-3-5-haiku"),) * 3,
    *(("anthropic", "claude-3-5-sonnet"),) * 2,
)


def _hex16(rng: Random) -> str:
    return f"{rng.getrandbits(64):016x}"


def network(number: int) -> str:
    """The hashed prefix of one school's network."""
    return f"n_{number:016x}"


def request(rng: Random, index: int) -> Fields:
    """An answered request; one in 300 fails and one in 200 is slow, as everywhere."""
    _, method, route, controller, action = rng.choices(_ROUTES, _WEIGHTS)[0]
    broken = index % 300 == 150
    return {
        "request_id": _hex16(rng),
        "method": method,
        "route": route,
        "status": 500 if broken else rng.choice(_STATUSES),
        "duration_ms": 2400.0 if index % 200 == 77 else round(rng.lognormvariate(4.2, 0.6), 1),
        "user_id": f"u_{rng.randrange(400):016x}",
        "tenant_id": rng.choice(TENANTS),
        "controller": controller,
        "action": action,
        **({"error": "NoMethodError"} if broken else {}),
    }


def job(rng: Random, index: int) -> Fields:
    """One attempt of a background job; one in 70 fails and is tried again later."""
    job_class, queue, milliseconds = JOBS[index % len(JOBS)]
    failed = index % 70 == 33
    return {
        "job_class": job_class,
        "status": "error" if failed else "success",
        **({"error": "Net::ReadTimeout"} if failed else {}),
        "duration_ms": round(milliseconds * rng.uniform(0.6, 1.5), 1),
        "job_id": _hex16(rng),
        "queue": queue,
        "attempt": 1,
        "tenant_id": rng.choice(TENANTS),
    }


def sync(rng: Random, index: int) -> Fields:
    """A run of an integration; one in 45 fails. Odd tenants use Google Classroom, even ones OneRoster."""
    tenant = rng.choice(TENANTS)
    google = tenant % 2 == 1
    failed = index % 45 == 20
    return {
        "provider": "google_classroom" if google else "oneroster",
        "status": "error" if failed else "success",
        **({"error": "Net::ReadTimeout"} if failed else {}),
        "records_processed": 0 if failed else rng.randrange(20, 400),
        "run_id": str(rng.randrange(10**5)),
        "sync_type": "roster_sync" if google else "oneroster_user_sync",
        "direction": "pull",
        "tenant_id": tenant,
        "integration_id": 30 + tenant,
    }


def login(rng: Random, index: int) -> Fields:
    """A login; one in 20 fails, each for another reason."""
    failed = index % 20 == 9
    tenant = rng.choice(TENANTS)
    reasons = ("tenant_not_found", "user_not_found", "invalid_state", "email_missing")
    return {
        "provider": "google" if tenant % 2 else "saml",
        "status": "failure" if failed else "success",
        **({"reason": reasons[index // 20 % len(reasons)]} if failed else {}),
        "tenant_id": tenant,
        "client_network": network(tenant),
    }


def ai_request(rng: Random, index: int) -> Fields:
    """A request of the gateway to a provider; one in 60 fails."""
    provider, model = rng.choice(MODELS)
    failed = index % 60 == 31
    trouble = {"status": "error", "http_status": 502, "error_source": "provider", "error": "ReadTimeout"}
    return {
        "provider": provider,
        "model": model,
        "tokens": rng.randrange(200, 2000),
        "duration_ms": round(rng.lognormvariate(7.2, 0.4), 1),
        "task_type": rng.choice(("lesson_plan", "assessment", "rewrite")),
        "request_id": _hex16(rng),
        "tenant_id": rng.choice(TENANTS),
        **(trouble if failed else {"status": "success", "http_status": 200}),
    }


def _invocation(rng: Random, index: int) -> Fields:
    provider, model = rng.choice(MODELS)
    prompt, completion = rng.randrange(100, 900), rng.randrange(100, 900)
    return {
        "provider": provider,
        "model": model,
        "tokens": prompt + completion,
        "duration_ms": round(rng.lognormvariate(7.3, 0.4), 1),
        "status": "success",
        "task_type": "lesson_plan",
        "mode": ("sync", "async", "stream")[index % 3],
        "prompt_tokens": prompt,
        "completion_tokens": completion,
    }


def _queue(rng: Random, index: int) -> Fields:
    queue = ("default", "mailers", "low")[index % 3]
    return {"queue": queue, "depth": rng.randrange(8), "oldest_age_s": round(rng.uniform(0, 6), 1)}


def _health(rng: Random, _index: int) -> Fields:
    latency = round(rng.uniform(8, 40), 1)
    return {"target": "ai-gateway", "status": "success", "http_status": 200, "latency_ms": latency}


def _disk(_rng: Random, index: int) -> Fields:
    used_bytes = 110 * GIB + index * (1 << 20)
    return {"volume": "core-postgres", "used_bytes": used_bytes, "capacity_bytes": 200 * GIB}


def _heartbeat(_rng: Random, index: int) -> Fields:
    return {"uptime_s": 7200.0 + 60 * index, "dropped": 0}


def deploy(service: str, version: str, status: str = "success", **fields: Any) -> Fields:
    """A deploy marker."""
    return {"service": service, "version": version, "git_sha": "8a38277", "status": status, **fields}


#: One line per kind of event: how often it is printed, and by whom.
STREAMS = (
    Stream("api.request", CORE, 2, request),
    Stream("job.completed", CORE, 5, job),
    Stream("sync.run", CORE, 60, sync),
    Stream("auth.login", CORE, 15, login),
    Stream("ai.request", GATEWAY, 8, ai_request),
    Stream("ai.invocation", CORE, 8, _invocation),
    Stream("job.queue", CORE, 10, _queue, steady=True),
    Stream("health.check", GATEWAY, 30, _health, steady=True),
    Stream("db.disk", CORE, 60, _disk, steady=True),
    Stream("log.heartbeat", CORE, 60, _heartbeat, steady=True),
    Stream("log.heartbeat", GATEWAY, 60, _heartbeat, steady=True),
)
