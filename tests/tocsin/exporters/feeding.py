"""Events as the emitter gives them to exporters: redacted, one batch after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tocsin.config import Settings
from tocsin.emitter import Emitter, use
from tocsin.exporters import Exporter
from tocsin.testing import TEST_KEY, ListSink

#: Synthetic people and secrets, where a careless application would put them.
CANARIES = {
    "user_id": "maya.lopez@example.org",
    "tenant_id": 7,
    "student_name": "Maya Lopez",
    "token": "sk-canary-0123456789abcdef",
    "error": "no grade for 'Maya Lopez' (maya.lopez@example.org)",
    "client_ip": "203.0.113.77",
}
#: What a line may keep, because no rule can tell it from anything else, and a metric must not.
MORE_CANARIES = {
    "path": "/students/Maya-Lopez/grades",
    "request_id": "req-maya-lopez",
    "error": "no grade for Maya Lopez",
    "reason": "Maya Lopez is unknown",
}
TRACES = ("maya", "lopez", "sk-canary", "203.0.113")


@contextmanager
def feeding(*exporters: Exporter) -> Iterator[ListSink]:
    """What is emitted inside the block goes to the exporters, in this thread."""
    sink = ListSink()
    settings = Settings(service="k12-core", environment="test", pseudonym_key=TEST_KEY)
    before = use(Emitter(settings, sink, exporters=exporters, background=False))
    try:
        yield sink
    finally:
        use(before)
