"""Transitions become incidents, runbook runs and news for the notifier, each exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from histories import SECOND
from transitions import CATALOGUE, CORE, GATEWAY, Flow

from tocsin_server import incident
from tocsin_server.rules import Catalogue
from tocsin_server.state.tables import (
    AlertTransition,
    Incident,
    IncidentAlert,
    NotificationGroup,
    RunbookRun,
    TimelineEntry,
)


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Flow]:
    made = Flow(tmp_path)
    yield made
    made.close()


# --- firing ---------------------------------------------------------------------------------------------


def test_a_firing_alert_opens_an_incident(flow: Flow) -> None:
    flow.fires("HighErrorRate", CORE, 600)
    assert flow.step(603) == 1
    one = flow.incident()
    assert (one.title, one.severity, one.environment, one.status, one.opened_at) == (
        "High Error Rate: k12-core (production)",
        "critical",
        "production",
        "open",
        600 * SECOND,
    )
    (entry,) = flow.rows(TimelineEntry)
    assert entry.text == (
        "High Error Rate (environment production, service k12-core) fired: "
        "12.4% (> 5% 5xx responses in 5 min)"
    )
    assert flow.runs() == [("deployment-rollback", "fire"), ("database-issues", "fire")]
    run = flow.rows(RunbookRun)[0]
    assert (run.status, run.as_of, run.created_at, run.labels) == (
        "pending",
        600 * SECOND,
        603 * SECOND,
        CORE,
    )
    assert flow.told() == [("HighErrorRate", "firing")]
    assert flow.rows(NotificationGroup)[0].members[0]["incident_id"] == one.id


def test_every_transition_is_consumed_once(flow: Flow) -> None:
    flow.fires("HighErrorRate", CORE, 600)
    assert (flow.step(603), flow.step(604)) == (1, 0)
    assert [row.handled_at for row in flow.rows(AlertTransition)] == [603 * SECOND]


def test_a_step_that_fails_has_not_happened(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    flow.fires("HighErrorRate", CORE, 600)

    def fails(*_arguments: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr("tocsin_server.incident.consume.observe_all", fails)
        with pytest.raises(OSError, match="disk full"):
            flow.step(603)
    assert flow.rows(Incident) == []
    assert flow.step(604) == 1
    assert flow.kinds() == ["opened"]


def test_pending_inactive_and_superseded_concern_nobody(flow: Flow) -> None:
    flow.fires("HighErrorRate", CORE, 600, superseded=True)
    flow.resolves("HighErrorRate", CORE, 900, superseded=True)
    assert flow.step(1000) == 2
    assert (flow.rows(Incident), flow.told()) == ([], [])


def test_a_meta_rule_is_told_and_opens_no_incident(flow: Flow) -> None:
    flow.fires("LogsMissing", {"service": "k12-core"}, 600)
    flow.fires("RuleEvaluationFailing", {"rule": "X"}, 600)
    flow.step(603)
    assert flow.rows(Incident) == []
    assert flow.told() == [("LogsMissing", "firing"), ("RuleEvaluationFailing", "firing")]
    assert flow.rows(NotificationGroup)[0].members[0]["incident_id"] is None


def test_a_title_holds_no_invisible_character(flow: Flow) -> None:
    flow.fires("AIGatewayDown", {**GATEWAY, "target": "ai-gateway\x1b[31m\u202e" + "x" * 400}, 600)
    flow.step(603)
    title = flow.incident().title
    assert title.isprintable()
    assert len(title) < 300


# --- joining --------------------------------------------------------------------------------------------


def test_a_related_alert_joins_and_raises_the_severity(flow: Flow) -> None:
    flow.fires("DiskUsage", {**CORE, "volume": "data"}, 600)
    flow.step(603)
    flow.fires("HighErrorRate", CORE, 660)
    flow.step(663)
    assert flow.incident().severity == "critical"
    assert flow.kinds() == ["opened", "joined", "escalated"]
    assert flow.runs() == [("database-issues", "fire"), ("deployment-rollback", "fire")]


def test_a_common_runbook_relates_alerts_of_different_services(flow: Flow) -> None:
    flow.fires("AuthFailures", {"environment": "production"}, 600)
    flow.fires("AuthThrottled", {"environment": "production"}, 600)
    flow.fires("SlowResponses", CORE, 600)
    flow.fires("DiskUsage", {**GATEWAY, "volume": "a"}, 600)
    flow.step(603)
    assert [row.title for row in flow.rows(Incident)] == [
        "Auth Failures (production)",
        "Slow Responses: k12-core (production)",
    ]


@pytest.mark.parametrize(
    "labels", [{**CORE, "environment": "staging"}, {"service": "other", "environment": "production"}]
)
def test_another_environment_or_nothing_in_common_is_another_incident(
    flow: Flow, labels: dict[str, str]
) -> None:
    flow.fires("JobQueueDepth", labels, 600)
    flow.fires("HighErrorRate", CORE, 600)
    flow.step(603)
    assert len(flow.rows(Incident)) == 2


def test_a_drill_and_the_real_thing_never_meet(flow: Flow) -> None:
    flow.fires("HighErrorRate", CORE, 600)
    flow.fires("HighErrorRate", CORE, 600, drill="d1")
    flow.step(603)
    assert [row.drill for row in flow.rows(Incident)] == ["", "d1"]
    flow.resolves("HighErrorRate", CORE, 900, drill="d1")
    flow.step(903)
    assert [row.status for row in flow.rows(Incident)] == ["open", "resolved"]
    assert sorted(group.drill for group in flow.rows(NotificationGroup)) == [""]


# --- resolving ------------------------------------------------------------------------------------------


def test_the_incident_is_over_with_its_last_alert(flow: Flow) -> None:
    flow.fires("HighErrorRate", CORE, 600)
    flow.fires("SlowResponses", CORE, 630)
    flow.step(633)
    flow.resolves("HighErrorRate", CORE, 1500, fired=600)
    flow.step(1503)
    assert flow.incident().status == "open"
    flow.resolves("SlowResponses", CORE, 1800, fired=630)
    flow.step(1803)
    one = flow.incident()
    assert (one.status, one.resolved_at, one.resolved_by) == ("resolved", 1800 * SECOND, None)
    assert [row.resolved_at for row in flow.rows(IncidentAlert)] == [1500 * SECOND, 1800 * SECOND]
    assert flow.kinds()[-3:] == ["alert_resolved", "alert_resolved", "resolved"]
    assert flow.runs()[2:] == [("deployment-rollback", "resolve"), ("database-issues", "resolve")]
    assert flow.rows(RunbookRun)[2].as_of == 1800 * SECOND


def test_a_resolve_tells_of_the_episode_that_was_told(flow: Flow) -> None:
    flow.fires("HighErrorRate", CORE, 600)
    flow.step(603)
    with flow.state.transaction() as session:
        group = session.get_one(NotificationGroup, ("oncall", flow.rows(NotificationGroup)[0].group_key))
        group.sent = group.members
    flow.resolves("HighErrorRate", CORE, 3000, fired=2000)
    flow.step(3003)
    (group,) = flow.rows(NotificationGroup)
    assert (group.members[0]["fired_at"], group.members[0]["resolved_at"]) == (600 * SECOND, 3000 * SECOND)


def test_firing_again_within_15_min_reopens(flow: Flow) -> None:
    flow.fires("HighErrorRate", CORE, 600)
    flow.resolves("HighErrorRate", CORE, 900, fired=600)
    flow.step(903)
    flow.fires("HighErrorRate", CORE, 1800)
    flow.step(1803)
    one = flow.incident()
    assert (one.status, one.resolved_at) == ("open", None)
    assert flow.kinds() == ["opened", "alert_resolved", "resolved", "reopened"]
    assert flow.runs().count(("database-issues", "fire")) == 2
    assert [row.resolved_at for row in flow.rows(IncidentAlert)] == [900 * SECOND, None]


def test_firing_again_later_is_a_new_incident(flow: Flow) -> None:
    flow.fires("HighErrorRate", CORE, 600)
    flow.resolves("HighErrorRate", CORE, 900, fired=600)
    flow.fires("HighErrorRate", CORE, 1801)
    flow.step(1803)
    assert [row.status for row in flow.rows(Incident)] == ["resolved", "open"]


def test_runbooks_run_once_per_phase_within_15_min(flow: Flow) -> None:
    flow.fires("AuthFailures", {"environment": "production"}, 600)
    flow.step(603)
    flow.fires("AuthThrottled", {"environment": "production"}, 900)
    flow.step(903)
    assert flow.runs() == [("auth-failures", "fire")]
    flow.resolves("AuthThrottled", {"environment": "production"}, 1500, fired=900)
    flow.fires("AuthThrottled", {"environment": "production"}, 1530)
    flow.step(1533)
    assert flow.runs() == [("auth-failures", "fire")] * 2


def test_an_episode_that_ended_and_began_again_in_a_catch_up(flow: Flow) -> None:
    flow.fires("SyncFailures", {"environment": "production"}, 600)
    flow.step(603)
    flow.resolves("SyncFailures", {"environment": "production"}, 900, fired=600, superseded=True)
    flow.fires("SyncFailures", {"environment": "production"}, 3000)
    flow.step(3003)
    assert [row.resolved_at for row in flow.rows(IncidentAlert)] == [900 * SECOND, None]
    assert flow.incident().status == "open"


def test_alerts_of_a_rule_that_is_gone_resolve_everywhere(flow: Flow) -> None:
    flow.fires("HighErrorRate", CORE, 600)
    flow.fires("LogsMissing", {"service": "x"}, 600)
    flow.step(603)
    with flow.state.transaction() as session:
        for row in flow.rows(NotificationGroup):
            group = session.get_one(NotificationGroup, (row.channel, row.group_key))
            group.sent = group.members
    flow.catalogue = Catalogue([], [])
    flow.resolves("HighErrorRate", CORE, 630, fired=600)
    flow.resolves("LogsMissing", {"service": "x"}, 630, fired=600)
    flow.step(633)
    assert flow.incident().status == "resolved"
    assert flow.told() == [("HighErrorRate", "resolved"), ("LogsMissing", "resolved")]


# --- inhibition -----------------------------------------------------------------------------------------


def test_an_inhibited_alert_joins_but_is_not_told(flow: Flow) -> None:
    flow.fires("SlowResponses", CORE, 600)
    flow.fires("HighErrorRate", CORE, 600)
    flow.step(603)
    assert flow.told() == [("HighErrorRate", "firing")]
    assert "inhibited" in flow.kinds()
    (entry,) = flow.rows(TimelineEntry, kind="inhibited")
    assert "Slow Responses" in entry.text
    assert "while High Error Rate (environment production, service k12-core) fires" in entry.text


def test_what_was_inhibited_is_told_when_the_source_resolves(flow: Flow) -> None:
    flow.fires("HighErrorRate", CORE, 600)
    flow.fires("SlowResponses", CORE, 600)
    flow.step(603)
    flow.resolves("HighErrorRate", CORE, 900, fired=600)
    flow.step(903)
    assert flow.told() == [("SlowResponses", "firing")]


@pytest.mark.parametrize("fields", [{"drill": "d1"}, {}])
def test_inhibition_needs_equal_labels_and_no_drill(flow: Flow, fields: dict[str, str]) -> None:
    flow.fires("HighErrorRate", CORE if fields else GATEWAY, 600)
    flow.fires("SlowResponses", CORE, 600, **fields)
    flow.step(603)
    assert ("SlowResponses", "firing") in flow.told()


def test_a_source_about_the_alerting_itself_inhibits_and_releases(flow: Flow) -> None:
    flow.fires("LogsMissing", {"service": "k12-core"}, 600)
    flow.fires("HighErrorRate", CORE, 630)
    flow.step(633)
    assert flow.told() == [("LogsMissing", "firing")]
    flow.resolves("LogsMissing", {"service": "k12-core"}, 900, fired=600)
    flow.step(903)
    assert ("HighErrorRate", "firing") in flow.told()


def test_E11_a_storm_is_one_incident_in_batches(flow: Flow) -> None:
    for i in range(520):
        flow.fires("DiskUsage", {**CORE, "volume": f"v{i}"}, 600)
    assert [flow.step(603), flow.step(603), flow.step(603)] == [500, 20, 0]
    assert len(flow.rows(IncidentAlert)) == 520
    assert flow.incident().severity == "warning"
    assert flow.runs() == [("database-issues", "fire")]
    assert incident.step(flow.state, CATALOGUE, [], 700 * SECOND) == 0
