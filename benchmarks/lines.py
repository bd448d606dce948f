"""Canonical lines of a school day: the three shapes of the wire format, seeded, with synthetic people."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import orjson

#: A Monday that lies in the past wherever this runs: a live source would correct times in the future.
DAY = "2025-09-15"
SECOND_MS = 1000
HOUR_MS = 3600 * SECOND_MS
_OPENS_MS, _CLOSES_MS = 7 * HOUR_MS, 17 * HOUR_MS

_TENANTS = 40
_RESOURCES = (
    "courses",
    "assignments",
    "submissions",
    "quizzes",
    "gradebooks",
    "messages",
    "standards",
    "templates",
)
_METHODS = (
    ("GET", "show", 200),
    ("GET", "show", 200),
    ("GET", "show", 200),
    ("PATCH", "update", 200),
    ("POST", "publish", 201),
)
_JOBS = (
    ("AiGenerationJob", "ai"),
    ("ClassroomRosterSyncJob", "sync"),
    ("NotificationDigestJob", "default"),
    ("PdfExportJob", "exports"),
)
_MODELS = (
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4o"),
    ("anthropic", "claude-sonnet"),
    ("mistral", "mistral-small"),
)
_TASKS = ("lesson_plan", "assessment", "feedback", "rubric")
_MESSAGES = (
    "sync started",
    "sync finished",
    "cache miss, reading from the database",
    "token refreshed",
    "digest queued",
    "upload stored",
)

Line = dict[str, Any]


class Person(NamedTuple):
    """Somebody with an account: a pseudonym and the district that it belongs to."""

    user_id: str
    tenant_id: int


class School:
    """The people, and one maker a kind of line. Times are milliseconds of :data:`DAY`, UTC."""

    def __init__(self, seed: int = 7, people: int = 5000) -> None:
        self.random = Random(seed)
        self.people = [
            Person(f"u_{self.random.getrandbits(64):016x}", 1 + number % _TENANTS) for number in range(people)
        ]

    def request_id(self) -> str:
        """Half of them UUIDs, as Rails makes them, half 16 hex digits."""
        text = f"{self.random.getrandbits(128):032x}"
        if text[0] < "8":
            return text[:16]
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def api_request(self, at_ms: int, status: int = 0, duration_ms: float = 0.0) -> Line:
        """One answered request; ``status`` and ``duration_ms`` are usual ones unless given."""
        random = self.random
        person = random.choice(self.people)
        resource = random.choice(_RESOURCES)
        method, action, answer = random.choice(_METHODS)
        member = f"/api/v1/{resource}/{random.randrange(1, 20_000)}"
        suffix = "/publish" if action == "publish" else ""
        return metric(
            "api.request",
            {
                "request_id": self.request_id(),
                "method": method,
                "path": member + suffix,
                "route": f"/api/v1/{resource}/:id{suffix}",
                "status": status or self._status(answer),
                "duration_ms": duration_ms or round(random.lognormvariate(3.6, 0.8), 1),
                "user_id": person.user_id,
                "tenant_id": person.tenant_id,
                "controller": resource.capitalize() + "Controller",
                "action": action,
            },
            at_ms,
        )

    def _status(self, usual: int) -> int:
        luck = self.random.random()
        return usual if luck > 0.03 else 404 if luck > 0.015 else 422 if luck > 0.003 else 500

    def job_completed(self, at_ms: int) -> Line:
        random = self.random
        job_class, queue = random.choice(_JOBS)
        failed = random.random() < 0.02
        tags = {
            "job_class": job_class,
            "status": "error" if failed else "success",
            "error": "TimeoutError" if failed else None,
            "duration_ms": round(random.lognormvariate(6, 1), 1),
            "job_id": f"{random.getrandbits(48):012x}",
            "queue": queue,
            "attempt": 1 + failed,
            "wait_ms": round(random.expovariate(0.02), 1),
            "tenant_id": 1 + random.randrange(_TENANTS),
        }
        return metric(
            "job.completed", {name: value for name, value in tags.items() if value is not None}, at_ms
        )

    def ai_request(self, at_ms: int) -> Line:
        """The gateway's flat event."""
        random = self.random
        provider, model = random.choice(_MODELS)
        return {
            "metric": "ai.request",
            "provider": provider,
            "model": model,
            "tokens": random.randrange(80, 3000),
            "duration_ms": random.randrange(200, 6000),
            "status": "error" if random.random() < 0.01 else "success",
            "task_type": random.choice(_TASKS),
            "timestamp": timestamp(at_ms),
            "service": "k12-ai-gateway",
        }

    def log_line(self, at_ms: int) -> Line:
        random = self.random
        return {
            "timestamp": timestamp(at_ms),
            "level": "WARN" if random.random() < 0.05 else "INFO",
            "message": random.choice(_MESSAGES),
            "service": "k12-core",
            "environment": "production",
            "request_id": self.request_id(),
            "tenant_id": 1 + random.randrange(_TENANTS),
        }

    def lines(self, count: int) -> Iterator[Line]:
        """``count`` lines in the order of time: 70 % requests, 15 % log lines, 10 % jobs, 5 % AI."""
        makers: tuple[Callable[[int], Line], ...] = (
            self.api_request,
            self.log_line,
            self.job_completed,
            self.ai_request,
        )
        times = sorted(self.random.randrange(_OPENS_MS, _CLOSES_MS) for _ in range(count))
        for at_ms, make in zip(times, self.random.choices(makers, (70, 15, 10, 5), k=count), strict=True):
            yield make(at_ms)


def metric(name: str, tags: Line, at_ms: int, service: str = "k12-core") -> Line:
    """A metric event's line, before it is encoded."""
    return {
        "metric": name,
        "tags": tags,
        "timestamp": timestamp(at_ms),
        "service": service,
        "environment": "production",
    }


def timestamp(at_ms: int) -> str:
    """ISO 8601, UTC, milliseconds."""
    seconds, ms = divmod(at_ms, SECOND_MS)
    return f"{DAY}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}Z"


def write(path: Path, lines: Iterator[Line]) -> None:
    """Writes the lines as compact JSON, one a line."""
    with path.open("wb") as file:
        while block := list(islice(lines, 10_000)):
            file.write(b"\n".join(map(orjson.dumps, block)) + b"\n")
