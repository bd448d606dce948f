"""docs/ALERT_THRESHOLDS.md: current, and in the order's words."""

from __future__ import annotations

from histories import ALERTS

from tocsin_server.export.thresholds import main, render
from tocsin_server.rules import load_catalogue

PAGE = ALERTS.parents[1] / "docs" / "ALERT_THRESHOLDS.md"

ORDER = """\
| High Error Rate | > 5% 5xx responses in 5 min | Critical | Check runbooks, consider rollback |
| Slow Responses | p95 latency > 2s for 5 min | Warning | Investigate slow queries |
| Job Queue Depth | > 100 pending jobs for 10 min | Warning | Check Sidekiq, scale workers |
| AI Gateway Down | Health check fails 3x | Critical | Check provider status |
| Sync Failures | > 5 sync errors in 1 hour | Warning | Check integration configs |
| Disk Usage | > 80% database disk | Warning | Run VACUUM, archive old data |
| Auth Failures | > 20 failed logins in 5 min | Warning | Check for brute force, verify OAuth |
"""


def test_the_page_is_current():
    hint = "run: python -m tocsin_server.export.thresholds --write docs/ALERT_THRESHOLDS.md"
    assert main(["--check", str(PAGE), str(ALERTS)]) == 0, hint


def test_the_order_is_there_word_for_word():
    assert ORDER in render(load_catalogue([ALERTS]).rules)


def test_conditions_are_written_from_the_rules():
    rules = load_catalogue([ALERTS]).rules
    changed = [
        rule.model_copy(
            update={
                "when": rule.when.model_copy(update={"count": rule.condition.model_copy(update={"above": 7})})
            }
        )
        if rule.alert == "AuthFailures"
        else rule
        for rule in rules
    ]
    assert "| > 7 failed logins in 5 min |" in render(changed)


def test_stale_and_missing_pages_are_found(tmp_path, capsys):
    page = tmp_path / "page.md"
    assert main(["--check", str(page), str(ALERTS)]) == 1
    assert main(["--write", str(page), str(ALERTS)]) == 0
    assert main(["--check", str(page), str(ALERTS)]) == 0
    page.write_text("old")
    assert main(["--check", str(page), str(ALERTS)]) == 1
    assert "is stale" in capsys.readouterr().err
    assert main([]) == 2
