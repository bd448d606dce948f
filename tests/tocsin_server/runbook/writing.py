"""A small sound runbook as text, for tests that change one thing in it, and answers of its steps."""

from __future__ import annotations

from tocsin_server.runbook.model import Answer, HttpAnswer, Runbook
from tocsin_server.runbook.parse import parse

FILE = "docs/runbooks/SYNC_FAILURE.md"

GOOD = """\
---
runbook: 1
id: sync-failure
title: Sync failures
service: k12-core
owner: platform-oncall
alerts: [SyncFailures]
last_reviewed: 2026-02-16
review_every: 90d
connections: [core, core_ro]
inputs:
  since: {type: duration, default: 1h}
  integration_id: {type: int, from: labels.integration_id}
escalation: More than 10 failures in 1 hour, page the team lead
---
# Sync failure

## Symptoms
Rosters are out of date.

## Impact
Teachers see old class lists.

## Investigation

### 1. Which runs failed

```sql id=failed on=events rows=50 columns=error,n
SELECT error, count(*) AS n FROM events
WHERE name = 'sync.failed' AND ts > :as_of - :since AND ts <= :as_of
GROUP BY error
```

**Findings**

- If `failed.any(error ~ "invalid_grant|revoked")`: **likely** [Token revoked](#token-revoked). Ask them.
- If `failed.sum(n) > 100`: **possible** [Provider outage](#provider-outage).
- If `failed.rows = 0`: **note** nothing failed in this hour.
- Otherwise: read the errors above.

### 2. Is the provider up

```http id=status on=core timeout=2s bytes=4k
GET /status.json
Accept: application/json
```

**Findings**

- If `status.json.state != "ok" or not status.ok`: **likely** [Provider outage](#provider-outage).
- If `status.json.state = "ok"`: **rules out** [Provider outage](#provider-outage).

## Diagnosis

### Token revoked
Somebody changed a password. Then [queue it again](#queue-it-again).

### Provider outage
Wait, then [queue it again](#queue-it-again).

## Resolution

### Queue it again
Safe to repeat.

```http id=requeue on=core risk=low
POST /api/v1/integrations/:integration_id/sync

{"force": true}
```

## Verification

```sql id=recovered on=core_ro expect='recovered.first.n > 0'
SELECT count(*) AS n FROM sync_runs WHERE status = 'completed'
```

## Escalation
More than 10 failures in 1 hour: page the team lead.

## References
The [sync design](#sync-failure).
"""


def changed(old: str, new: str) -> str:
    """``GOOD`` with one place changed."""
    assert GOOD.count(old) == 1, f"{old!r} stands {GOOD.count(old)} times in the runbook"
    return GOOD.replace(old, new)


def line_of(text: str, part: str) -> int:
    """Line of the first occurrence."""
    return text[: text.index(part)].count("\n") + 1


def runbook(text: str = GOOD, file: str = FILE) -> Runbook:
    """The parsed runbook of a text without faults."""
    parsed, faults = parse(text, file)
    assert faults == []
    assert parsed is not None
    return parsed


def rows(step: str, columns: str, *values: tuple[object, ...], truncated: bool = False) -> Answer:
    """An answer of an SQL step."""
    return Answer(
        step, "ok", columns=tuple(columns.split()), rows=values, truncated=truncated, duration_ms=3.5
    )


def http(step: str, status: int, json: object = None, **headers: str) -> Answer:
    """An answer of an HTTP step; ``x_y`` is the header ``x-y``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    body = "<html>" if json is None else "{}"
    return Answer(step, "ok", http=HttpAnswer(status, named, body, json), duration_ms=12.5)


def failed(step: str, reason: str = "connection refused") -> Answer:
    """A step that ran and got no answer."""
    return Answer(step, "failed", reason=reason)
