"""Other roads out, beside the lines: an open set. An exporter is a callable that takes one redacted record.

    {"metric": "api.request", "fields": {…}, "timestamp": "…Z", "service": …, "environment": …}
    {"level": "INFO", "message": "sync started", "fields": {…}, "timestamp": "…Z", …}

``fields`` are plain JSON values, redacted as in the line. It is called by the emitter's own thread and may
raise: the failure is counted and the emitter goes on. If it has a method ``flush``, that is called after each
batch of records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Exporter = Callable[[dict[str, Any]], object]
