"""Rule files: the shipped catalogue, and every fault of a broken file with its line."""

from __future__ import annotations

from fractions import Fraction

import pytest
from histories import ALERTS, catalogue

from tocsin_server.errors import FaultsError
from tocsin_server.rules import KINDS, check_rules, load_catalogue, load_rules

MINUTE = 60_000_000
RUNBOOKS = (
    *("deployment-rollback", "database-issues", "ai-gateway-errors", "sync-failure"),
    *("auth-failures", "job-queue"),
)

VALID = """\
alerts:
  - alert: HighErrorRate
    title: High Error Rate
    severity: critical
    action: Check runbooks, consider rollback
    runbooks: [deployment-rollback, database-issues]
    when:
      ratio:
        event: api.request
        unless: {probe: true, path: [/up, /api/v1/health, /v1/health]}
        bad: {http_status: ">= 500"}
        above: 5%
        over: 5m
        min_total: 20
        min_bad: 5
    for: 0s
    keep_firing_for: 2m
    by: [service, environment]
"""


def faults_of(tmp_path, text: str) -> list[tuple[int, str, str]]:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    return [(fault.line, fault.message, fault.hint) for fault in check_rules([file], RUNBOOKS)]


def test_the_shipped_catalogue_has_no_faults():
    assert check_rules([ALERTS], RUNBOOKS) == []


def test_the_shipped_catalogue_is_the_seven_and_what_correctness_needs():
    assert {rule.alert for rule in catalogue()} == {
        *("HighErrorRate", "SlowResponses", "JobQueueDepth", "AIGatewayDown"),
        *("SyncFailures", "DiskUsage", "AuthFailures"),
        *("Watchdog", "LogsMissing", "SignalMissing"),
        *("AIProviderErrors", "DiskAlmostFull", "AuthThrottled", "JobMissing"),
    }
    meta = {rule.alert for rule in catalogue() if rule.meta}
    assert meta == {"Watchdog", "LogsMissing", "SignalMissing"}


def test_inhibitions_are_loaded():
    pairs = {
        (entry.source, target) for entry in load_catalogue([ALERTS]).inhibitions for target in entry.targets
    }
    assert {("HighErrorRate", "SlowResponses"), ("DiskAlmostFull", "DiskUsage")} < pairs


def test_the_documented_shape_loads(tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text(VALID)
    (rule,) = load_rules([file])
    assert (rule.for_us, rule.keep_us, rule.by) == (
        0,
        2 * MINUTE,
        {"service": "service", "environment": "environment"},
    )
    condition = rule.condition
    assert type(condition) is KINDS["ratio"]
    assert (condition.above, condition.over, condition.min_total) == (Fraction(1, 20), 5 * MINUTE, 20)


def test_load_rules_raises_all_faults(tmp_path):
    file = tmp_path / "rules.yaml"
    file.write_text(VALID.replace("severity: critical", "severity: fatal").replace("over: 5m", "over: 5x"))
    with pytest.raises(FaultsError) as caught:
        load_rules([file])
    assert [fault.line for fault in caught.value.faults] == [4, 13]


CASES = {
    "unknown key": (
        "        min_bad: 5",
        "        min_bda: 5",
        15,
        "unknown key `min_bda`",
        "did you mean `min_bad`?",
    ),
    "unknown key of an alert": (
        "    for: 0s",
        "    four: 0s",
        16,
        "unknown key `four`",
        "did you mean `for`?",
    ),
    "unknown kind": ("      ratio:", "      ration:", 8, "unknown key `ration`", "did you mean `ratio`?"),
    "missing event": ("        event: api.request\n", "", 8, "`event` is missing", "known: "),
    "missing severity": ("    severity: critical\n", "", 2, "`severity` is missing", ""),
    "severity": ("critical", "fatal", 4, "`severity`: Input should be 'critical'", ""),
    "bad duration": ("over: 5m", "over: 5 minutes", 13, "`5 minutes` is not a duration", "write 30s"),
    "number as duration": ("over: 5m", "over: 300", 13, "`300` is not a duration", "write 30s"),
    "sexagesimal": ("over: 5m", "over: 5:00", 13, "`5:00` is not a duration", "write 30s"),
    "window not in steps": ("over: 5m", "over: 100s", 13, "100s is not a multiple of 30s", "every 30s"),
    "window too short": ("over: 5m", "over: 30s", 13, "30s is too short", "at least two evaluations"),
    "for not in steps": ("for: 0s", "for: 45s", 16, "45s is not a multiple of 30s", "every 30s"),
    "useless for": ("for: 0s", "for: 5m", 16, "`for: 5m` is useless with the window `over: 5m`", "remembers"),
    "above 100%": ("above: 5%", "above: 500%", 12, "must be at least 0% and below 100%, not 5.0", "write 5%"),
    "above 5": ("above: 5%", "above: 5", 12, "must be at least 0% and below 100%, not 5.0", "write 5%"),
    "negative": ("above: 5%", "above: -5%", 12, "must be at least 0% and below 100%", "write 5%"),
    "no number": ("above: 5%", "above: five", 12, "neither a number nor a percentage", "write 5%"),
    "not a number": ("above: 5%", "above: .nan", 12, "neither a number nor a percentage", "write 5%"),
    "decimals": ("above: 5%", "above: 5.00000001%", 12, "too many decimals", "write 5%"),
    "text count": ("min_total: 20", 'min_total: "20"', 14, "must be a whole number", ""),
    "negative count": ("min_total: 20", "min_total: -1", 14, "greater than or equal to 0", ""),
    "minimums swapped": (
        "min_total: 20",
        "min_total: 2",
        15,
        "`min_bad` is greater than `min_total`",
        "swap",
    ),
    "misspelt event": (
        "api.request",
        "api.requests",
        9,
        "no source sends `api.requests`",
        "did you mean `api.request`?",
    ),
    "misspelt field": (
        "{http_status",
        "{http_statsu",
        11,
        "no field `http_statsu`",
        "did you mean `http_status`?",
    ),
    "misspelt label": ("[service, env", "[servcie, env", 18, "no field `servcie`", "did you mean `service`?"),
    "label twice": ("[service, environment]", "[service, service]", 18, "names a label twice", "keep one"),
    "impossible matcher": ('">= 500"', "server error", 11, "`http_status` is a number", "correct"),
    "empty matcher": ('{http_status: ">= 500"}', "{}", 11, "is empty", "write at least one"),
    "unknown runbook": (
        "[deployment-rollback,",
        "[deploy-rollback,",
        6,
        "no runbook `deploy-rollback`",
        "did you mean",
    ),
    "bad name": ("alert: HighErrorRate", "alert: High Error Rate", 2, "should match pattern", ""),
    "duplicate key": ("    for: 0s", "    for: 0s\n    for: 1m", 17, "duplicate key `for`", "line 16"),
    "hysteresis above": (
        "    for: 0s",
        "    resolve_threshold: 6%",
        16,
        "is not below `above`",
        "less than 5%",
    ),
    "empty kind": (
        VALID[VALID.index("        event") : VALID.index("    for:")],
        "",
        8,
        "`ratio` is empty",
        "keys",
    ),
    "alerts is a mapping": (
        VALID,
        "alerts:\n  HighErrorRate: {}\n",
        1,
        "`alerts`: must be a list",
        "",
    ),
    "no alerts": (VALID, "alerts: []\n", 1, "is empty", "write at least one"),
    "a list": (VALID, "- alert: X\n", 1, "a rule file is a mapping", "start with `alerts:`"),
    "empty": (VALID, "", 1, "the file is empty", ""),
}


@pytest.mark.parametrize(("old", "new", "line", "message", "hint"), CASES.values(), ids=CASES)
def test_fault(tmp_path, old, new, line, message, hint):
    found = faults_of(tmp_path, VALID.replace(old, new, 1))
    assert [fault[0] for fault in found] == [line], found
    assert message in found[0][1]
    assert hint in found[0][2]


def test_all_faults_of_one_alert_at_once(tmp_path):
    text = VALID.replace("above: 5%", "above: 5x").replace("min_bad", "min_bda").replace("for: 0s", "for: 5m")
    text = (
        text.replace("api.request", "api.requets")
        .replace("title:", "titel:")
        .replace("rollback, d", "rollback, x-d")
    )
    assert [fault[0] for fault in faults_of(tmp_path, text)] == [3, 6, 9, 12, 15, 16]


def test_two_kinds_are_a_fault(tmp_path):
    other = "    when:\n      count: {event: api.request, above: 5, over: 5m}\n"
    (fault,) = faults_of(tmp_path, VALID.replace("    when:\n", other))
    assert fault[:2] == (9, "a second condition under `when`")


def test_no_kind_is_a_fault(tmp_path):
    text = "alerts:\n  - alert: X\n    severity: info\n    when: {}\n"
    (fault,) = faults_of(tmp_path, text)
    assert fault[:2] == (4, "`when` holds no condition")


def test_the_same_alert_in_two_files_is_a_fault(tmp_path):
    (tmp_path / "a.yaml").write_text(VALID)
    (tmp_path / "b.yml").write_text(VALID)
    (fault,) = check_rules([tmp_path])
    assert (fault.file, fault.line) == (str(tmp_path / "b.yml"), 2)
    assert f"the first is in {tmp_path / 'a.yaml'}:2" in fault.hint


def test_faults_of_every_file_are_reported(tmp_path):
    (tmp_path / "a.yaml").write_text("alerts: [")
    (tmp_path / "b.yaml").write_text(VALID.replace("5%", "5x"))
    (tmp_path / "c.yaml").write_bytes(b"\xff")
    assert [fault.file.rsplit("/", 1)[1] for fault in check_rules([tmp_path])] == [
        "a.yaml",
        "b.yaml",
        "c.yaml",
    ]


def test_an_inhibition_of_an_unknown_alert_is_a_fault(tmp_path):
    text = VALID + "inhibit:\n  - source: HighErrorRate\n    targets: [HighErorRate]\n    equal: [service]\n"
    (tmp_path / "a.yaml").write_text(text)
    (fault,) = check_rules([tmp_path])
    assert (fault.line, fault.message) == (21, "no alert `HighErorRate`")


def test_an_empty_folder_is_a_fault(tmp_path):
    (fault,) = check_rules([tmp_path])
    assert "holds no rule files" in fault.message


def test_a_teams_own_events_and_fields_are_allowed(tmp_path):
    text = VALID.replace("api.request", "library.checkout").replace("{http_status", "{shelf_row")
    assert faults_of(tmp_path, text) == []


SQL_RULE = """\
alerts:
  - alert: Odd
    severity: info
    when:
      sql:
        query: SELECT
"""


def test_sql_must_answer_with_the_labels_and_value(tmp_path):
    query = "SELECT service AS svc, servce FROM events"
    (fault,) = faults_of(tmp_path, SQL_RULE.replace("query: SELECT", f'query: "{query}"'))
    assert (fault[0], "servce" in fault[1]) == (6, True)
    query = "SELECT service, true AS fires FROM events WHERE ts <= :now"
    found = faults_of(tmp_path, SQL_RULE.replace("query: SELECT", f'query: "{query}"'))
    assert [fault[1] for fault in found] == [
        "`query`: there is no column `environment`",
        "`query`: there is no column `value`",
    ]


@pytest.mark.parametrize(
    "query", ["DROP TABLE events", "SELECT 1; SELECT 2", "SELECT * FROM read_csv('x')", "SELECT now()", ""]
)
def test_sql_is_guarded(tmp_path, query):
    (fault,) = faults_of(tmp_path, SQL_RULE.replace("query: SELECT", f'query: "{query}"'))
    assert fault[0] == 6
    assert "refused" in fault[1]
