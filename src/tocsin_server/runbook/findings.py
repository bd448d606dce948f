"""Findings: what an answer means. They are read from a list under a step, and ranked after the run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import get_args

from tocsin_server.errors import Fault
from tocsin_server.privacy import head
from tocsin_server.runbook import conditions
from tocsin_server.runbook.compare import Truth, either, negated
from tocsin_server.runbook.markdown import Fence, Passage, Text
from tocsin_server.runbook.model import Answer, Cause, Finding, RankedCause, Runbook, Step, Strength, Verdict

MAX_CHARS = 2_000

_STRENGTHS: dict[str, Strength] = {strength: strength for strength in get_args(Strength)}
_HEADED = re.compile(r"\*\*Findings:?\*\*:?")
_MEANS = (
    r"(?:\*\*(?P<strength>likely|possible|rules out|note)\*\*)?\s*"
    r"(?:\[(?P<title>[^\]]+)\]\(#(?P<cause>[^)\s]+)\))?(?P<text>.*)"
)
_IF = re.compile(r"If (?P<ticks>`+)(?P<condition>.+?)(?P=ticks):\s+" + _MEANS)
_OTHERWISE = re.compile(r"Otherwise:\s+" + _MEANS)
#: Of a row in a reason.
_ROW_CHARS = 240
_LEADING_NUMBER = re.compile(r"\d+\.\s+")
_SHAPE = "write - If `step.rows > 0`: **likely** [Cause](#cause). Text"


# --- reading --------------------------------------------------------------------------------------------


def read(passage: Passage, steps: Sequence[Step], file: str) -> tuple[list[Finding], list[Fault]]:
    """The findings of a passage whose blocks are ``steps``; a list belongs to the last block above it."""
    findings: list[Finding] = []
    faults: list[Fault] = []
    seen: set[int] = set()
    for index, part in enumerate(passage.parts):
        if isinstance(part, Text) and not part.item and _HEADED.fullmatch(part.markdown):
            items = _items(passage.parts[index + 1 :])
            seen |= {item.line for item in items}
            step = _step_above(part.line, steps)
            faults += _headed_faults(part, step, items, file)
            for item in items:
                finding, found = _finding(item, step, file)
                findings += finding
                faults += found
    return findings, faults + list(_unheaded(passage, seen, file))


def _items(parts: Sequence[Fence | Text]) -> list[Text]:
    return [p for p in takewhile(lambda p: isinstance(p, Text) and p.item, parts) if isinstance(p, Text)]


def _step_above(line: int, steps: Sequence[Step]) -> str:
    return next((step.id for step in reversed(steps) if step.line < line), "")


def _headed_faults(heading: Text, step: str, items: Sequence[Text], file: str) -> Iterator[Fault]:
    if not items:
        yield Fault(file, heading.line, "no list stands under **Findings**", _SHAPE)
    elif not step:
        yield Fault(file, heading.line, "no block with an id stands above **Findings**", "move it under one")


def _unheaded(passage: Passage, seen: set[int], file: str) -> Iterator[Fault]:
    for part in passage.parts:
        if (
            isinstance(part, Text)
            and part.item
            and part.line not in seen
            and part.markdown.startswith("If `")
        ):
            yield Fault(
                file, part.line, "a finding stands outside **Findings**", "write **Findings** above its list"
            )


def _finding(item: Text, step: str, file: str) -> tuple[list[Finding], list[Fault]]:
    found = None
    if len(item.markdown) <= MAX_CHARS:
        found = _IF.fullmatch(item.markdown) or _OTHERWISE.fullmatch(item.markdown)
    if found is None:
        return [], [Fault(file, item.line, f"`{item.markdown[:60]}` is not a finding", _SHAPE)]
    words = found.groupdict()
    faults = [Fault(file, item.line, *problem) for problem in _incomplete(words)]
    condition = None
    try:
        condition = conditions.parse(words["condition"].strip()) if "condition" in words else None
    except ValueError as error:
        hint = "the language is in docs/runbooks.md"
        return [], [*faults, Fault(file, item.line, f"the condition cannot be read: {error}", hint)]
    text = words["text"].strip().removeprefix(".").strip()
    return [
        Finding(
            step, condition, _STRENGTHS.get(words["strength"], "note"), words["cause"] or "", text, item.line
        )
    ], faults


def _incomplete(words: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """A strength without a cause says nothing; a condition without a strength neither."""
    if words["strength"] in ("likely", "possible", "rules out") and not words["cause"]:
        yield f"`{words['strength']}` names no cause", "link a heading under Diagnosis: [Cause](#cause)"
    if not words["strength"] and ("condition" in words or words["cause"]):
        yield "the finding has no strength", "write **likely**, **possible**, **rules out** or **note**"


# --- ranking --------------------------------------------------------------------------------------------


def rank(runbook: Runbook, answers: Mapping[str, Answer]) -> tuple[list[Verdict], list[RankedCause]]:
    """A verdict for each finding in the order of the document, and the causes, best first.

    Likely stands before possible, then the number of supporting findings decides, then the document. A
    finding that ``rules out`` removes its cause; one that is unknown neither supports nor removes.
    """
    verdicts = [Verdict(f, *_truth(f, runbook.findings, answers)) for f in runbook.findings]
    holding = [verdict.finding for verdict in verdicts if verdict.holds]
    out = {finding.cause for finding in holding if finding.strength == "rules out"}
    titles = {step.id: _LEADING_NUMBER.sub("", step.title) for step in runbook.steps}
    because = {f: _reason(titles[f.step], f, answers) for f in holding if f.cause}
    causes = [_ranked(cause, because) for cause in runbook.causes if cause.anchor not in out]
    supported = [cause for cause in causes if cause.because]
    return verdicts, sorted(supported, key=lambda c: (c.strength != "likely", -len(c.because)))


def _truth(finding: Finding, findings: Sequence[Finding], answers: Mapping[str, Answer]) -> Truth:
    if finding.condition is not None:
        return finding.condition.evaluate(answers)
    others = [f.condition for f in findings if f.step == finding.step and f.condition is not None]
    return negated(either(condition.evaluate(answers) for condition in others))


def _ranked(cause: Cause, because: Mapping[Finding, str]) -> RankedCause:
    support = [f for f in because if f.cause == cause.anchor and f.strength in ("likely", "possible")]
    likely = any(finding.strength == "likely" for finding in support)
    reasons = tuple(because[finding] for finding in support)
    return RankedCause(cause.anchor, cause.title, "likely" if likely else "possible", reasons)


def _reason(title: str, finding: Finding, answers: Mapping[str, Answer]) -> str:
    """Read half awake: what the step asks, what it found, and what the finding says."""
    found = _found(finding, answers)
    return ": ".join(part for part in (title, found, finding.text) if part)


def _found(finding: Finding, answers: Mapping[str, Answer]) -> str:
    """What alone makes the condition hold: the first such row, or the status of an HTTP answer."""
    answer = answers.get(finding.step)
    if answer is None or finding.condition is None:
        return ""
    if answer.http is not None:
        return f"HTTP {answer.http.status}"
    for row in answer.rows:
        if finding.condition.evaluate({**answers, finding.step: replace(answer, rows=(row,))})[0]:
            cells = zip(answer.columns, row, strict=False)
            shown = ", ".join(f"{name} {cell}" for name, cell in cells if cell is not None)
            return head(shown, _ROW_CHARS).rstrip(",")
    return ""


def meets_expectation(step: Step, answers: Mapping[str, Answer]) -> tuple[bool | None, str]:
    """(verdict, reason): whether a step that has ``expect=`` answered what it calls good."""
    return conditions.parse(step.expect).evaluate(answers)
