"""``docs/ORDER.md`` answers every line of the order, and everything that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| ([TFD][0-9.]+) \| (.+?) \| (.+?) \|$", re.MULTILINE)

#: The lines of the order and a word of each, so that none can vanish or change its meaning.
REQUIRED = {
    "T1.1": "`timestamp` (ISO 8601, ms), `level`, `message`, `service`, `environment`",
    "T1.2": "`request_id`, `method`, `path`, `status`, `duration_ms`",
    "T1.3": "`user_id`, `tenant_id`",
    "T1.4": "`controller`, `action`",
    "T2.1": "MetricsService.emit",
    "T2.2": "`api.request`",
    "T2.3": "`job.completed`",
    "T2.4": "`ai.invocation`",
    "T2.5": "`sync.run`",
    "T2.6": "`auth.login`",
    "T3.1": "JobInstrumentation",
    "T3.2": "Every job",
    "T4.1": "provider, model, tokens, duration_ms, status, task_type",
    "T5.1": "SYNC_FAILURE",
    "T5.2": "AI_GATEWAY_ERRORS",
    "T5.3": "DATABASE_ISSUES",
    "T5.4": "DEPLOYMENT_ROLLBACK",
    "T5.5": "AUTH_FAILURES",
    "T6.1": "High Error Rate: > 5% 5xx responses in 5 min; Critical",
    "T6.2": "Slow Responses: p95 latency > 2s for 5 min; Warning",
    "T6.3": "Job Queue Depth: > 100 pending jobs for 10 min; Warning",
    "T6.4": "AI Gateway Down: health check fails 3x; Critical",
    "T6.5": "Sync Failures: > 5 sync errors in 1 hour; Warning",
    "T6.6": "Disk Usage: > 80% database disk; Warning",
    "T6.7": "Auth Failures: > 20 failed logins in 5 min; Warning",
    "F1": "`apps/core/app/services/metrics_service.rb`",
    "F2": "`apps/core/app/jobs/concerns/job_instrumentation.rb`",
    "F3": "`docs/runbooks/SYNC_FAILURE.md`",
    "F4": "`docs/runbooks/AI_GATEWAY_ERRORS.md`",
    "F5": "`docs/runbooks/DATABASE_ISSUES.md`",
    "F6": "`docs/runbooks/DEPLOYMENT_ROLLBACK.md`",
    "F7": "`docs/runbooks/AUTH_FAILURES.md`",
    "F8": "`docs/ALERT_THRESHOLDS.md`",
    "F9": "`apps/core/config/environments/production.rb`",
    "F10": "`apps/core/app/jobs/application_job.rb`",
    "F11": "`apps/ai-gateway/app/main.py`",
    "D1": "structured JSON",
    "D2": "API requests, jobs, AI invocations, syncs, auth",
    "D3": "12 background jobs",
    "D4": "AI Gateway",
    "D5": "5 incident runbooks",
    "D6": "Alert threshold document",
    "D7": "All existing tests pass",
    "D8": "No lint violations",
}

#: What later issues bring; a row may wait for these and for nothing else.
TO_COME = {"the emitter's instrumentation", "the live server", "the reference platform"}

ROWS = [(name, says, where) for name, says, where in ROW.findall((ROOT / "docs/ORDER.md").read_text())]
REFERENCES = sorted({reference for _, _, where in ROWS for reference in re.findall(r"`([^`]+)`", where)})


def test_every_line_of_the_order_has_its_row_in_order() -> None:
    assert [name for name, _, _ in ROWS] == list(REQUIRED)


@pytest.mark.parametrize(("name", "says", "where"), ROWS, ids=[name for name, _, _ in ROWS])
def test_row_is_complete(name: str, says: str, where: str) -> None:
    assert REQUIRED[name] in says
    awaited = re.findall(r"in issue to come: ([^;|]+)", where)
    assert set(awaited) <= TO_COME
    assert awaited or "`" in where


@pytest.mark.parametrize("reference", REFERENCES)
def test_what_a_row_names_exists(reference: str) -> None:
    if reference.startswith("make "):
        assert f"\n{reference.removeprefix('make ')}:" in (ROOT / "Makefile").read_text()
        return
    path, _, test = reference.partition("::")
    assert (ROOT / path).exists(), f"docs/ORDER.md names {path}, which does not exist"
    if test:
        assert test in functions_of(ROOT / path)


def functions_of(path: Path) -> set[str]:
    """Names of the test functions in a file."""
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
