"""Markdown to a runbook: front matter, sections, steps, findings, causes and actions, with every fault.

The convention is in docs/runbooks.md. What links where is checked by :mod:`tocsin_server.runbook.lint`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from tocsin_server.clock import SECOND_US
from tocsin_server.errors import Fault
from tocsin_server.runbook import findings, front
from tocsin_server.runbook.blocks import read_step
from tocsin_server.runbook.markdown import Fence, Passage, outline
from tocsin_server.runbook.model import Action, Cause, Finding, Runbook, Step

MAX_CHARS = 200_000


@dataclass(slots=True)
class _Body:
    """What the Markdown below the front matter holds."""

    sections: dict[str, str]
    steps: list[Step] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def parse(text: str, file: str) -> tuple[Runbook | None, list[Fault]]:
    """The runbook in ``text`` and all its faults, by line; ``file`` is its name in them.

    Without a readable front matter there is no runbook. One that comes with faults serves to find more of
    them (:func:`tocsin_server.runbook.lint.lint`); only a runbook without faults may run.
    """
    if len(text) > MAX_CHARS:
        return None, [Fault(file, 1, f"has more than {MAX_CHARS:,} characters", "split the runbook")]
    source = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    yaml, markdown = front.split(source)
    matter, _, faults = front.read(yaml, file)
    body = _body(markdown, matter.budget if matter else front.Budget(), file)
    runbook = _runbook(matter, body, source, file) if matter else None
    return runbook, sorted({*faults, *body.faults})


def _runbook(matter: front.FrontMatter, body: _Body, source: str, file: str) -> Runbook:
    return Runbook(
        id=matter.id,
        file=file,
        title=matter.title,
        service=matter.service,
        owner=matter.owner,
        alerts=tuple(matter.alerts),
        last_reviewed=matter.last_reviewed,
        review_every_us=matter.review_every,
        connections=tuple(matter.connections),
        inputs=matter.declared(),
        escalation=matter.escalation,
        budget_s=matter.budget.total / SECOND_US,
        source=source,
        sha256=hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest(),
        sections=body.sections,
        investigation=tuple(step for step in body.steps if step.section == "Investigation"),
        verification=tuple(step for step in body.steps if step.section == "Verification"),
        findings=tuple(body.findings),
        causes=tuple(body.causes),
        actions=tuple(body.actions),
    )


def _body(markdown: str, budget: front.Budget, file: str) -> _Body:
    document = outline(markdown)
    body = _Body(document.sections())
    passages = document.passages
    actions = {p.heading.anchor for p in passages if p.heading.level == 3 and p.section == "Resolution"}
    for passage in passages:
        steps = _steps(passage, budget, file, body)
        if passage.section in ("Investigation", "Verification"):
            found, faults = findings.read(passage, steps, file)
            body.findings += found
            body.faults += faults
        if passage.heading.level == 3 and passage.section == "Diagnosis":
            body.causes.append(_cause(passage, actions))
        if passage.heading.level == 3 and passage.section == "Resolution":
            body.actions.append(_action(passage, steps))
        body.faults += _hidden(passage, file)
    return body


def _steps(passage: Passage, budget: front.Budget, file: str, body: _Body) -> list[Step]:
    steps: list[Step] = []
    for fence in passage.fences:
        step, faults = read_step(fence, passage, budget, file)
        body.faults += faults
        if step is not None:
            body.faults += _misplaced(step, passage, body.steps, file)
            steps.append(step)
            body.steps.append(step)
    return steps


def _misplaced(step: Step, passage: Passage, before: Sequence[Step], file: str) -> list[Fault]:
    faults = []
    first = next((other for other in before if other.id == step.id), None)
    if first is not None:
        hint = f"the first is in line {first.line}; rename one"
        faults.append(Fault(file, step.line, f"duplicate block `{step.id}`", hint))
    if passage.section not in ("Investigation", "Resolution", "Verification"):
        hint = "move it under Investigation, Resolution or Verification, or remove `id=`"
        faults.append(Fault(file, step.line, f"block `{step.id}` stands where nothing runs", hint))
    elif passage.section == "Resolution" and passage.heading.level != 3:
        hint = "write a heading with `###` above it"
        faults.append(Fault(file, step.line, f"block `{step.id}` belongs to no action", hint))
    return faults


def _cause(passage: Passage, actions: set[str]) -> Cause:
    targets = dict.fromkeys(link.target.removeprefix("#") for link in passage.links if link.target[:1] == "#")
    heading = passage.heading
    linked = tuple(target for target in targets if target in actions)
    return Cause(heading.anchor, heading.text, passage.markdown, linked, heading.line)


def _action(passage: Passage, steps: Sequence[Step]) -> Action:
    heading = passage.heading
    return Action(heading.anchor, heading.text, passage.markdown, tuple(steps), heading.line)


def _hidden(passage: Passage, file: str) -> list[Fault]:
    """What a page shows must be what Tocsin reads: in an HTML comment a block would run unseen."""
    return [
        Fault(file, part.line, "an HTML comment hides text from readers", "remove it")
        for part in passage.parts
        if not isinstance(part, Fence) and "<!--" in part.markdown
    ]
