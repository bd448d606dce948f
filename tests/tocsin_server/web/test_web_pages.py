"""The pages: status in words, every number a link to exactly its events, honest about what is not known."""

from __future__ import annotations

import csv
import html
import io
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import select
from website import NOW, Event, Site, flow, morning, running

from tocsin_server.errors import Fault
from tocsin_server.state import silences
from tocsin_server.state.tables import AlertState, AuditEntry, RunbookRun
from tocsin_server.web.pages import PAGES
from tocsin_server.web.params import parse_moment

ALL = [
    page.path.replace("{name}", "HighErrorRate").replace(
        "{id}", {"Incident": "1"}.get(page.title, "deployment-rollback")
    )
    for page in PAGES
]


def text(page: str) -> str:
    """What a person reads."""
    main = page[page.index("<main") : page.index("</main>")]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", main)).split())


def twin(path: str) -> str:
    return "/overview.json" if path == "/" else path + ".json"


# --- every page -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ALL)
def test_every_page_has_a_twin_with_the_same_data(outage: Site, path: str) -> None:
    data, shown = outage.json(twin(path)), text(outage.page(path))
    for said in _leaves(data):
        assert " ".join(str(said).split()) in shown, f"{path} does not show {said!r}"


def _leaves(value: Any) -> list[Any]:
    """The words of the data that its page must show: titles, sentences, names, counts."""
    kept = {"sentence", "title", "where", "value_text", "threshold_text", "q", "ago", "owner"}
    if isinstance(value, list):
        return [leaf for one in value for leaf in _leaves(one)]
    if not isinstance(value, dict):
        return []
    hidden = {
        "histogram",
        "quick",
        "findings",
        "causes_found",
        "sections",
        "unasked",
        "evidence",
        "runs",
        "rules_of",
    }
    nested = [leaf for key, one in value.items() if key not in hidden for leaf in _leaves(one)]
    mine = [
        one for key, one in value.items() if key in kept and isinstance(one, str) and one not in ("", "–")
    ]
    return [*(one for one in mine if len(one) < 160), *nested]


@pytest.mark.parametrize("path", ALL)
def test_every_link_of_a_page_works(outage: Site, path: str) -> None:
    page = outage.page(path)
    links = {
        html.unescape(link) for link in re.findall(r'(?:href|src)="([^"]*)"', page[page.index("<body") :])
    }
    for link in sorted(links)[:60]:
        if link.startswith("/"):
            assert outage.get(link.partition("#")[0], Accept="text/html")[0] == 200, link


@pytest.mark.parametrize("path", ALL)
def test_pages_hold_no_inline_script_or_style(outage: Site, path: str) -> None:
    page = outage.page(path)
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", page)
    assert page.count("<h1") == 1
    assert 'lang="en"' in page


def test_programs_that_ask_a_page_that_is_not_there_get_json(outage: Site) -> None:
    status, _, body = outage.get("/alerts/Nothing.json")
    assert (status, "error" in body) == (404, True)
    assert "Not here" in outage.get("/alerts/Nothing", Accept="text/html")[2]


def test_faults_of_files_are_shown_where_they_matter(tmp_path: Path) -> None:
    fault = Fault("ops/alerts/api.yaml", 12, "is not a duration", "write 5m")
    with running(tmp_path, evaluate=False, faults=[fault]) as site:
        assert "ops/alerts/api.yaml:12" in text(site.page("/"))
        assert site.json("/alerts.json")["faults"] == [str(fault)]


# --- overview -------------------------------------------------------------------------------------------


def test_the_first_sentence_says_what_is_broken_since_when_for_whom(outage: Site) -> None:
    data = outage.json("/overview.json")
    assert data["sentence"] == (
        "1 alert firing: High Error Rate (production, k12-core) since 08:03 UTC (7 min); 3 tenants affected."
    )
    assert data["level"] == "critical"
    assert data["incidents"][0]["cause"] == "Deploy regression"
    assert text(outage.page("/")).startswith("✖ 1 alert firing")


def test_every_number_is_a_link_to_exactly_its_events(outage: Site) -> None:
    data = outage.json("/overview.json")
    numbers = [(area["count"], area["url"]) for area in data["areas"] if area["last_heard"]]
    numbers += [(area["failed"], area["failed_url"]) for area in data["areas"] if area["failed"]]
    numbers += [(row["failed"], row["failed_url"]) for row in data["tenants"]["rows"]]
    numbers += [(row["total"], row["url"]) for row in data["tenants"]["rows"]]
    why = outage.json("/alerts/HighErrorRate.json")
    numbers += [
        (one["numbers"][name], url)
        for one, links in zip(why["why"]["instances"], why["links"], strict=True)
        for name, url in links.items()
    ]
    assert len(numbers) > 12
    for number, url in numbers:
        assert outage.json(url.replace("/explore?", "/explore.json?"))["matches"] == number, url


def test_a_quiet_morning_is_said_to_be_quiet(tmp_path: Path) -> None:
    with running(tmp_path, morning(broken_from=NOW + 1)) as site:
        data = site.json("/overview.json")
        assert (data["sentence"], data["level"]) == ("No alert is firing.", "ok")
        assert data["incidents"] == []


def test_no_data_is_not_said_to_be_fine(tmp_path: Path) -> None:
    with running(tmp_path, evaluate=False) as site:
        data = site.json("/overview.json")
        assert data["level"] == "unknown"
        assert "Nothing was heard" in data["sentence"]
        assert all(area["state"] == "no data" and area["fill"] for area in data["areas"])
        assert all(drawn["empty"] and drawn["fill"] for drawn in data["charts"])
        shown = text(site.page("/"))
        assert '{"metric":"api.request"' in shown
        assert " 0 failed" not in shown
        assert "Nothing was heard in this time range" in text(site.page("/explore"))


def test_a_late_evaluation_is_said(tmp_path: Path) -> None:
    with running(tmp_path, morning(start=NOW - 60), evaluate=False) as site:
        data = site.json("/overview.json")
        assert "No rule has been evaluated yet" in data["sentence"]
        assert data["level"] == "unknown"


def test_gaps_and_the_incomplete_bucket_are_told(tmp_path: Path) -> None:
    events = [*morning(NOW - 3600, NOW - 1800), *morning(NOW - 600, NOW - 10)]
    with running(tmp_path, events, evaluate=False) as site:
        rate, ratio, _ = site.json("/overview.json?to=2026-11-23T08:09:40Z")["charts"]
        assert rate["incomplete"]
        values = rate["series"][0]["values"]
        assert values[35] is None
        assert values[10]
        assert ratio["series"][0]["values"][35] is None


def test_silenced_alerts_do_not_shout(tmp_path: Path) -> None:
    with running(tmp_path, morning()) as site:
        now = site.services.clock()
        with site.services.state.transaction() as session:
            silences.add(
                session,
                [silences.parse_matcher("alertname=HighErrorRate")],
                now,
                now + 3_600_000_000,
                "ana",
                "deploy goes back",
                now,
            )
        data = site.json("/overview.json")
        assert data["sentence"] == "No alert is firing. 1 firing but silenced."
        assert site.json("/alerts.json?state=silenced")["rules"][0]["alert"] == "HighErrorRate"


# --- alerts ---------------------------------------------------------------------------------------------


def test_the_alerts_page_has_one_state_and_one_sentence_per_rule(outage: Site) -> None:
    data = outage.json("/alerts.json")
    states = {rule["alert"]: rule["state"] for rule in data["rules"]}
    assert states["HighErrorRate"] == "firing"
    assert states["SlowResponses"] == "ok"
    assert states["AIGatewayDown"] == "unknown"
    assert sum(tile["count"] for tile in data["tiles"]) == len(data["rules"])
    assert all(rule["sentence"] for rule in data["rules"])
    firing = outage.json("/alerts.json?state=firing")["rules"]
    assert [rule["alert"] for rule in firing] == ["HighErrorRate"]


def test_an_alert_shows_its_value_against_the_threshold_and_its_episodes(outage: Site) -> None:
    data = outage.json("/alerts/HighErrorRate.json")
    values = data["chart"]["series"][0]["values"]
    assert data["chart"]["thresholds"][0]["value"] == 5
    assert values[-1] == pytest.approx(24.8, abs=0.1)
    assert values[0] is None
    assert [(one["fired_at"], one["resolved_at"]) for one in data["episodes"]] == [
        ("2026-11-23T08:03:00Z", None)
    ]


def test_why_answers_for_any_instant(outage: Site) -> None:
    before = outage.json("/alerts/HighErrorRate.json?at=2026-11-23T07:50:10Z")
    assert before["at"] == "2026-11-23T07:50:00Z"
    assert before["why"]["instances"][0]["truth"] == "false"
    assert "0 % of" in text(outage.page("/alerts/HighErrorRate?at=2026-11-23T07:50:10Z"))


def test_a_rule_whose_query_fails_does_not_take_the_page_down(tmp_path: Path) -> None:
    broken = """
alerts:
  - alert: Broken
    severity: warning
    when: {sql: {query: "SELECT CAST(message AS INTEGER) AS value FROM events", above: 1}}
    by: []
"""
    with running(tmp_path, morning(NOW - 120), more_rules=broken, evaluate=False) as site:
        rule = next(rule for rule in site.json("/alerts.json")["rules"] if rule["alert"] == "Broken")
        assert (rule["state"], bool(rule["failure"])) == ("unknown", True)
        assert "fails" in text(site.page("/alerts/Broken"))


def test_heartbeats_of_the_alerting_are_no_trouble(tmp_path: Path) -> None:
    with running(tmp_path, morning(broken_from=NOW + 1)) as site:
        with site.services.state.reading() as session:
            assert session.scalars(select(AlertState).where(AlertState.alert == "Watchdog")).all()
        assert site.json("/overview.json")["alerts"] == []


# --- incidents and runbooks -----------------------------------------------------------------------------


def test_an_incident_shows_what_was_found(outage: Site) -> None:
    data = outage.json("/incidents/1.json")
    assert data["sentence"] == "Open for 7 min; 1 alert firing; 3 tenants affected."
    assert data["incident"]["causes"][0]["title"] == "Deploy regression"
    shown = text(outage.page("/incidents/1"))
    for said in (
        "Deploy regression",
        "What was deployed",
        "2026.11.2",
        "NoMethodError",
        "steps could not be asked",
    ):
        assert said in shown


def test_people_acknowledge_note_and_resolve(tmp_path: Path) -> None:
    with running(tmp_path, morning()) as site:
        assert site.post("/incidents/1/acknowledge")[1]["location"] == "/incidents/1"
        note = urlencode({"text": "rolled <b>back</b>\u202e"})
        assert site.post("/incidents/1/note", note)[0] == 303
        assert site.post("/incidents/1/note", "text=+")[0] == 400
        shown = text(site.page("/incidents/1"))
        assert "local works on it" in shown
        assert "rolled <b>back</b>\\u202e" in shown
        assert site.post("/incidents/1/resolve")[0] == 303
        assert site.post("/incidents/1/resolve")[0] == 400
        assert site.post("/incidents/99/resolve")[0] == 400
        assert site.json("/incidents.json?status=resolved")["incidents"][0]["id"] == 1
        with site.services.state.reading() as session:
            actions = [
                (row.who, row.action) for row in session.scalars(select(AuditEntry).order_by(AuditEntry.id))
            ]
        assert actions == [("local", f"incident.{name}") for name in ("acknowledge", "note", "resolve")]


def test_evidence_at_fire_stands_beside_evidence_at_resolve(tmp_path: Path) -> None:
    with running(tmp_path, morning()) as site:
        site.post("/incidents/1/resolve")
        flow(site.services)
        pairs = site.json("/incidents/1.json")["asked"]
        assert all(pair["fire"] and pair["resolve"] for pair in pairs[:2])
        assert "when it resolved" in text(site.page("/incidents/1"))


def test_an_incident_is_exported_as_one_file(outage: Site) -> None:
    status, headers, markdown = outage.get("/incidents/1.md")
    assert (status, headers["content-disposition"]) == (200, 'attachment; filename="incident-1.md"')
    assert "Deploy regression" in markdown
    _, headers, document = outage.get("/incidents/1.html")
    assert headers["content-disposition"] == 'attachment; filename="incident-1.html"'
    assert "Deploy regression" in document
    assert not re.search(r'<script|(?:src|href)="(?!https?://|#|mailto:|/|[\w.-]+\.md)', document)


def test_a_runbook_says_its_steps_its_review_and_its_last_run(outage: Site) -> None:
    data = outage.json("/runbooks/deployment-rollback.json")
    assert data["run"]["causes"][0]["title"] == "Deploy regression"
    assert data["review_age"] == "today"
    assert not data["review_overdue"]
    answered = {step["id"] for step in data["steps"] if step["answer"] and step["answer"]["status"] == "ok"}
    assert {"deploys", "regression"} <= answered
    assert "rolls back" in text(outage.page("/runbooks/deployment-rollback")) or "Roll back" in text(
        outage.page("/runbooks/deployment-rollback")
    )


def test_a_person_can_ask_for_a_run(tmp_path: Path) -> None:
    with running(tmp_path, evaluate=False) as site:
        assert site.post("/runbooks/deployment-rollback/run")[0] == 303
        assert site.post("/runbooks/nothing/run")[0] == 404
        with site.services.state.reading() as session:
            run = session.scalars(select(RunbookRun)).one()
            assert (run.phase, run.status, run.requested_by) == ("manual", "pending", "local")
            assert session.scalars(select(AuditEntry)).one().action == "runbook.run"


def test_a_channel_can_be_tested_and_never_shows_its_secret(outage: Site) -> None:
    assert outage.post("/deliveries/test", "channel=nobody")[0] == 400
    assert outage.post("/deliveries/test", "channel=oncall")[0] == 303
    page = outage.page("/deliveries")
    assert "oncall@example.org" in page
    assert "SMTP_URL" not in page


# --- explore --------------------------------------------------------------------------------------------

RANGE = "from=2026-11-23T07:10:00Z&to=2026-11-23T08:10:00Z"


def test_explore_filters_counts_and_pages(outage: Site) -> None:
    data = outage.json(f"/explore.json?{RANGE}&where=name%3Dapi.request")
    assert data["matches"] == 1799
    assert sum(bar["count"] for bar in data["histogram"]["bars"]) == 1799
    seen = [row["event"]["event_id"] for row in data["rows"]]
    for _ in range(20):
        if not data["older_url"]:
            break
        data = outage.json(data["older_url"].replace("/explore?", "/explore.json?"))
        seen += [row["event"]["event_id"] for row in data["rows"]]
    assert len(seen) == len(set(seen)) == 1799
    times = [row["event"]["ts"] for row in data["rows"]]
    assert times == sorted(times, reverse=True)


def test_a_bar_of_the_histogram_leads_to_its_events(outage: Site) -> None:
    bar = next(
        bar
        for bar in outage.json(f"/explore.json?{RANGE}&q=nomethoderror")["histogram"]["bars"]
        if bar["count"]
    )
    assert outage.json(bar["url"].replace("/explore?", "/explore.json?"))["matches"] == bar["count"]


def test_lines_around_a_line_and_all_lines_of_a_request(outage: Site) -> None:
    row = outage.json(f"/explore.json?{RANGE}&where=status%3Derror")["rows"][0]
    request = outage.json(row["links"]["request"].replace("/explore?", "/explore.json?"))
    assert {one["event"]["name"] for one in request["rows"]} == {"api.request", "log"}
    around = outage.json(row["links"]["around"].replace("/explore?", "/explore.json?"))
    ids = [one["event"]["event_id"] for one in around["rows"]]
    assert row["event"]["event_id"] in ids
    assert len(ids) > 20
    assert {one["event"].get("source") for one in around["rows"]} == {"web.log"}
    assert outage.get(f"/explore?{RANGE}&around=nothing", Accept="text/html")[0] == 404


def test_lines_around_a_line_are_those_of_its_source_in_the_order_of_the_file(tmp_path: Path) -> None:
    lines: list[Event] = [
        {
            "t": NOW - 60 + (i * 7) % 11,
            "name": "log",
            "message": f"{source} {i}",
            "source": source,
            "event_id": f"{source}:{i:015d}",
        }
        for source in ("a.log", "b.log")
        for i in range(60)
    ]
    with running(tmp_path, lines, evaluate=False) as site:
        data = site.json("/explore.json?" + urlencode({"around": f"a.log:{30:015d}"}))
        assert [row["sentence"] for row in data["rows"]] == [f"a.log {i}" for i in range(50, 9, -1)]


def test_I14_exports_hold_every_match_and_no_formula(tmp_path: Path) -> None:
    lines: list[Event] = [
        {"t": NOW - 9, "name": "log", "message": "=cmd()", "source": "a"} for _ in range(250)
    ]
    with running(tmp_path, lines, evaluate=False) as site:
        rows = list(csv.DictReader(io.StringIO(site.get("/explore/export.csv")[2])))
        assert [row["message"] for row in rows] == ["'=cmd()"] * 250
        assert len(site.json("/explore/export.json?q=CMD")) == 250
        assert site.json("/explore/export.json?q=nothing") == []


@pytest.mark.parametrize(
    "query", ["where=x", "where=http_status%3E%3Dabc", "from=now&to=now-1h", "older=x", "unless=attrs%3D1"]
)
def test_I16_what_cannot_be_asked_is_said_calmly(outage: Site, query: str) -> None:
    status, _, body = outage.get(f"/explore?{query}", Accept="text/html")
    assert status == 400
    assert "Traceback" not in body
    assert "Catalog" not in body


def test_parse_of_the_shown_instant_is_stable(outage: Site) -> None:
    shown = outage.json("/overview.json")["range"]
    assert parse_moment(shown["to"], 0) - parse_moment(shown["from"], 0) == 3_600_000_000
