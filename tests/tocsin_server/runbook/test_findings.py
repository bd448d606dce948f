"""Ranking causes from answers (promise 4 of the product: evidence with ranked likely causes)."""

from __future__ import annotations

from collections.abc import Mapping

from writing import changed, failed, http, rows, runbook

from tocsin_server.runbook.findings import meets_expectation, rank
from tocsin_server.runbook.model import Answer, RankedCause

REVOKED = rows("failed", "error n", ("invalid_grant", 3))
MANY = rows("failed", "error n", ("timeout", 300))
BOTH = rows("failed", "error n", ("invalid_grant", 300))
UP = http("status", 200, {"state": "ok"})
DOWN = http("status", 200, {"state": "major outage"})


def ranked(*answers: Answer) -> list[RankedCause]:
    return rank(runbook(), by_step(*answers))[1]


def by_step(*answers: Answer) -> Mapping[str, Answer]:
    return {answer.step: answer for answer in answers}


def test_a_finding_that_holds_supports_its_cause() -> None:
    (cause,) = ranked(REVOKED)
    assert (cause.cause, cause.title, cause.strength) == ("token-revoked", "Token revoked", "likely")
    assert cause.because == ("Which runs failed: error invalid_grant, n 3: Ask them.",)


def test_likely_stands_before_possible() -> None:
    assert [(c.cause, c.strength) for c in ranked(BOTH)] == [
        ("token-revoked", "likely"),
        ("provider-outage", "possible"),
    ]


def test_more_findings_stand_first() -> None:
    causes = ranked(BOTH, DOWN)
    assert [c.cause for c in causes] == ["provider-outage", "token-revoked"]
    assert (causes[0].strength, len(causes[0].because)) == ("likely", 2)


def test_what_is_ruled_out_is_removed() -> None:
    assert ranked(MANY, UP) == []
    assert [c.cause for c in ranked(BOTH, UP)] == ["token-revoked"]


def test_no_answer_supports_nothing_and_removes_nothing() -> None:
    verdicts, causes = rank(runbook(), {})
    assert causes == []
    assert {verdict.holds for verdict in verdicts} == {None}
    assert verdicts[0].reason == "failed: did not run"
    assert [c.cause for c in ranked(MANY, Answer("status", "skipped", reason="no"))] == ["provider-outage"]


def test_a_refused_connection_can_be_evidence() -> None:
    assert [c.cause for c in ranked(failed("status"))] == ["provider-outage"]


def test_otherwise_holds_when_all_others_of_its_step_are_false() -> None:
    def otherwise(answer: Answer) -> bool | None:
        verdicts, _ = rank(runbook(), by_step(answer))
        return next(v.holds for v in verdicts if v.finding.condition is None)

    assert otherwise(rows("failed", "error n", ("timeout", 3))) is True
    assert otherwise(REVOKED) is False
    assert otherwise(failed("failed")) is None
    assert otherwise(rows("failed", "error", ("timeout",))) is None
    assert otherwise(rows("failed", "error", ("invalid_grant",))) is False


def test_otherwise_can_name_a_cause() -> None:
    text = changed("- Otherwise: read", "- Otherwise: **possible** [Token revoked](#token-revoked). Read")
    _, (cause,) = rank(runbook(text), by_step(rows("failed", "error n", ("timeout", 3))))
    assert (cause.cause, cause.because) == ("token-revoked", ("Which runs failed: Read the errors above.",))


def test_what_good_looks_like() -> None:
    (step,) = runbook().verification
    assert meets_expectation(step, by_step(rows("recovered", "n", (2,)))) == (True, "")
    assert meets_expectation(step, by_step(rows("recovered", "n", (0,)))) == (False, "")
    assert meets_expectation(step, {}) == (None, "recovered: did not run")
