"""An answer as it is stored and printed: plain JSON, and the hash that says it was not changed since."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tocsin_server.runbook.model import Answer, Report, Runbook, Verdict


def record(answer: Answer) -> dict[str, Any]:
    """Everything of an answer that is stored, as JSON values; without the hash."""
    http = answer.http and {
        "status": answer.http.status,
        "headers": dict(answer.http.headers),
        "body": answer.http.body,
    }
    return {
        "step": answer.step,
        "target": answer.target,
        "rendered": answer.rendered,
        "parameters": dict(answer.parameters),
        "status": answer.status,
        "reason": answer.reason,
        "started_at": answer.started_at,
        "duration_ms": answer.duration_ms,
        "columns": list(answer.columns),
        "rows": [list(row) for row in answer.rows],
        "http": http,
        "truncated": answer.truncated,
        "redactions": answer.redactions,
    }


def digest(answer: Answer) -> str:
    """SHA-256 over the canonical JSON of :func:`record`: sorted keys, no spaces, UTF-8."""
    return canonical_sha256(record(answer))


def canonical_sha256(stored: dict[str, Any]) -> str:
    """The hash of a stored record, for whoever checks it later."""
    text = json.dumps(stored, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def finding(verdict: Verdict) -> dict[str, Any]:
    """A verdict as evidence keeps it; ``verdict`` is None when it is unknown, ``reason`` says why."""
    found = verdict.finding
    return {
        "condition": found.condition.text if found.condition else "otherwise",
        "verdict": verdict.holds,
        "reason": verdict.reason,
        "strength": found.strength,
        "text": found.text,
        "cause": found.cause,
    }


def causes(report: Report) -> list[dict[str, Any]]:
    """The ranking, best first."""
    return [
        {"cause": c.cause, "title": c.title, "strength": c.strength, "because": list(c.because)}
        for c in report.causes
    ]


def as_json(runbook: Runbook, report: Report) -> dict[str, Any]:
    """The shape of ``tocsin runbook run --json``."""
    kinds = {step.id: step.kind for step in runbook.steps}
    steps = []
    for answer in report.answers.values():
        stored = record(answer)
        step = {"id": stored.pop("step"), "kind": kinds[answer.step], "ms": stored.pop("duration_ms")}
        verdicts = [finding(v) for v in report.verdicts if v.finding.step == answer.step]
        steps.append({**step, **stored, "findings": verdicts, "sha256": answer.sha256})
    return {"runbook": report.runbook, "steps": steps, "causes": causes(report)}
