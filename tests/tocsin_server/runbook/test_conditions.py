from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from writing import failed, http, rows

from tocsin_server.runbook import conditions
from tocsin_server.runbook.compare import FALSE, TRUE, Truth, both, compare, either, negated
from tocsin_server.runbook.model import Answer, Condition

ANSWERS: Mapping[str, Answer] = {
    "runs": rows("runs", "n msg who", (1, "429 quota", None), (2, None, "x"), ("3", "fine", "y")),
    "none": rows("none", "n"),
    "cut": rows("cut", "n", (1,), (2,), truncated=True),
    "db-pool": rows("db-pool", "used size", (19, Decimal("20.0"))),
    "page": http(
        "page",
        200,
        {"a": [{"b": None}], "state": "ok", "share": 0.1, "odd key": 1, "up": True},
        x_frame="DENY",
    ),
    "plain": http("plain", 500),
    "down": failed("down"),
    "asked": Answer("asked", "skipped", reason="waits for a person: input id"),
}


def verdict(text: str) -> tuple[bool | None, str]:
    return conditions.parse(text).evaluate(ANSWERS)


@pytest.mark.parametrize(
    "text",
    [
        "runs.rows = 3",
        "runs.rows != 4 and runs.rows < 4 and runs.rows <= 3 and runs.rows > -1 and runs.rows >= 2.5",
        'runs.any(msg ~ "429|quota")',
        'runs.any(msg ~ "(?i)QUOTA$")',
        "runs.all(n > 0)",
        'runs.any(n = 2 and who = "x")',
        "runs.any(who = null)",
        "runs.sum(n) = 6",
        "runs.min(n) = 1 and runs.max(n) = 3",
        "runs.count(n >= 2) = 2",
        'runs.first.msg ~ "^429"',
        "none.rows = 0 and none.sum(n) = 0 and none.first.n = null and not none.any(n = 1)",
        "db-pool.first.used >= 19 and db-pool.first.used < db-pool.first.size",
        "page.ok and page.status = 200 and page.ms < 100",
        "not plain.ok and plain.status = 500",
        "runs.ok",
        'page.json.state = "ok" and page.json.up',
        "page.json.a[0].b = null",
        "page.json.a[7] = null and page.json.missing.deeper = null",
        'page.json["odd key"] = 1 and page.json != null',
        "page.json.share = 0.1",
        'page.header.X-Frame = "DENY" and page.header.x-missing = null',
        "not (runs.rows = 0 or none.rows = 1)",
        "true and not false",
        'runs.rows = "3"',
    ],
)
def test_holds(text: str) -> None:
    assert verdict(text) == (True, "")
    assert verdict(f"not ({text})") == (False, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("down.rows = 0", "down: connection refused"),
        ("not (down.rows = 0)", "down: connection refused"),
        ("asked.ok", "asked: waits for a person: input id"),
        ("missing.rows = 0", "missing: did not run"),
        ("runs.first.nope = null", "runs: there is no column nope"),
        ("none.any(nope = 1)", "none: there is no column nope"),
        ("none.all(n = 1)", "none: there are no rows"),
        ("none.max(n) > 1", "none: there are no rows"),
        ('page.json.missing = "x"', "page: there is no json.missing"),
        ('page.json.a[9].b = "x"', "page: there is no json.a[9]"),
        ('page.header.x-missing ~ "x"', "page: there is no header x-missing"),
        ("plain.json.state = null", "plain: the answer is not JSON"),
        ("page.rows = 0", "page: an HTTP answer has no rows"),
        ("runs.status = 200", "runs: has no HTTP answer, so no status"),
        ("page.json.state", "page: a text is neither true nor false"),
        ("page.json.state < 5", "page: a text and a number cannot be compared with <"),
        ("page.json.a = 1", "page: a list and a number cannot be compared with ="),
        ("page.json.up = 1", "page: true or false and a number cannot be compared with ="),
        ('page.json.share ~ "0"', "page: ~ needs a text on its left"),
        ("runs.any(msg > 5)", "runs: msg: a text and a number cannot be compared with >"),
        ("runs.sum(msg) > 5", "runs: sum needs a column of numbers"),
        ("runs.ms < 1 and down.ms < 1", ""),
    ],
)
def test_what_cannot_be_looked_at_is_unknown_with_its_reason(text: str, reason: str) -> None:
    assert verdict(text) == ((None, reason) if reason else (False, ""))


def test_ok_is_false_for_a_step_that_ran_and_failed() -> None:
    assert verdict("down.ok") == (False, "")


def test_an_unknown_part_does_not_hide_what_the_rest_decides() -> None:
    assert verdict("down.rows = 0 or page.ok") == (True, "")
    assert verdict("down.rows = 0 and not page.ok") == (False, "")
    assert verdict("page.ok and down.rows = 0") == (None, "down: connection refused")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cut.rows > 1", True),
        ("cut.rows >= 2", True),
        ("cut.rows = 0", False),
        ("cut.rows < 2", False),
        ("1 < cut.rows", True),
        ("cut.rows = 2", None),
        ("cut.rows > 5", None),
        ("cut.any(n = 2)", True),
        ("cut.any(n = 7)", None),
        ("cut.all(n = 1)", False),
        ("cut.all(n > 0)", None),
        ("cut.count(n > 0) >= 2", True),
        ("cut.sum(n) > 1", None),
        ("cut.first.n = 1", True),
    ],
)
def test_an_answer_that_was_cut_claims_nothing_about_the_rest(text: str, expected: bool | None) -> None:
    assert verdict(text)[0] is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "character 1: expected a step's id, a number, a text, true, false or null, found the end"),
        ("runs.n = 1", "character 6: expected one of rows, ok, status, ms, json, header"),
        ("runs.rows", "character 10: expected a comparison, found the end"),
        ("runs.rows >", "character 12: expected a step's id"),
        (
            "runs.rows == 1",
            "character 12: expected a step's id, a number, a text, true, false or null, found `=`",
        ),
        ("runs.rows = 1 runs.ok", "character 15: expected `and`, `or` or the end, found `runs`"),
        ("(runs.ok", "character 9: expected `)`, found the end"),
        ('runs.any(msg ~ "(")', "character 16: the regular expression: missing )"),
        ('runs.any(msg ~ "(?=x)")', "character 16: the regular expression: invalid perl operator"),
        (f'runs.any(msg ~ "{"a" * 201}")', "it has 201 characters, 200 are allowed"),
        ("runs.any(msg ~ who)", "expected a regular expression in quotes, found `who`"),
        ("runs.any(page.ok)", "character 14: expected `)`, found `.`"),
        ("runs.sum(and)", "expected a column of the step, found `and`"),
        ("page.json[-1] = 2", "expected a place from 0 or a member's name in quotes"),
        ('page.json.a = "x', "character 15: did not expect a text that is not closed"),
        ("runs.rows = “3”", "character 13: did not expect `“`"),
        ("not " * 40 + "runs.ok", "at most 32 levels"),
        ("runs.ok or " * 100 + "runs.ok", "has 1107 characters; 1000 are allowed"),
    ],
)
def test_faults_say_where_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        conditions.parse(text)
    assert message in str(error.value)


def test_a_condition_knows_its_text_and_its_steps() -> None:
    text = 'a.rows > 1 and not (b.ok or c.any(x ~ "y") or d.json.x = e.first.y)'
    condition: Condition = conditions.parse(text)
    assert condition.text == text
    assert condition.steps == {"a", "b", "c", "d", "e"}


def test_a_hostile_answer_cannot_slow_a_regular_expression() -> None:
    answer = {"x": rows("x", "msg", ("a" * 100_000 + "!",))}
    assert conditions.parse(r'x.any(msg ~ "(a|a)*b|(a+)+c|.*d.*e.*f")').evaluate(answer) == (False, "")


def test_hostile_text_in_an_answer_is_only_text() -> None:
    for value in ("\ud800 429", "\0 429", '"); DROP TABLE events; -- 429', "429" * 10_000):
        assert conditions.parse('x.any(msg ~ "429")').evaluate({"x": rows("x", "msg", (value,))}) == (
            True,
            "",
        )


words = st.sampled_from(
    [
        "runs",
        ".",
        "rows",
        "any",
        "json",
        "(",
        ")",
        "[",
        "]",
        "and",
        "or",
        "not",
        "=",
        "~",
        '"a"',
        "1",
        " ",
        "null",
    ]
)


@given(st.one_of(st.text(max_size=80), st.lists(words, max_size=30).map("".join)))
def test_any_text_is_a_condition_or_a_value_error(text: str) -> None:
    try:
        condition = conditions.parse(text)
    except ValueError:
        return
    verdict, reason = condition.evaluate(ANSWERS)
    assert (verdict is None) == bool(reason)


cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(max_size=5),
    st.dates(),
    st.lists(st.integers(), max_size=1),
)
signs = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])


@given(cells, cells, signs)
def test_any_two_values_compare_or_are_unknown(left: object, right: object, sign: str) -> None:
    verdict, reason = compare(sign, left, right)
    assert (verdict is None) == bool(reason)
    opposite = {"=": "!=", "<": ">=", ">": "<="}.get(sign)
    if opposite and verdict is not None:
        assert compare(opposite, left, right)[0] is not verdict


@given(
    st.lists(cells, max_size=4),
    st.sampled_from(["any(c = 1)", "all(c < 2)", 'any(c ~ "a")', "count(c != 3) > 0"]),
)
def test_any_cells_give_a_verdict_or_a_reason(values: list[object], member: str) -> None:
    answers = {"s": rows("s", "c", *((value,) for value in values))}
    verdict, reason = conditions.parse(f"s.{member}").evaluate(answers)
    assert (verdict is None) == bool(reason)


truths = st.sampled_from([TRUE, FALSE, (None, "s: why")])


@given(truths, truths, truths)
def test_kleenes_laws(a: Truth, b: Truth, c: Truth) -> None:
    assert negated(negated(a)) == a
    assert both([a, b])[0] == both([b, a])[0]
    assert negated(both([a, b]))[0] == either([negated(a), negated(b)])[0]
    assert both([a, either([b, c])])[0] == either([both([a, b]), both([a, c])])[0]
    assert both([a, both([b, c])]) == both([both([a, b]), c]) == both([a, b, c])
    assert both([a, TRUE]) == a == either([a, FALSE])
    assert both([a, FALSE]) == FALSE
    assert either([a, TRUE]) == TRUE
