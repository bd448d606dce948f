"""Runs the reading steps of a runbook: which may run, in order, within the budget, each with its own limits.

The engine decides what runs, from the kind of the step, its verb, its section and the connection's ``auto``;
the document can only lower that (runbook convention, "Who decides what runs").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tocsin_server import outbound
from tocsin_server.clock import Clock
from tocsin_server.config import Connection
from tocsin_server.errors import TocsinError
from tocsin_server.runbook import events, http
from tocsin_server.runbook.breaker import Breaker
from tocsin_server.runbook.evidence import digest
from tocsin_server.runbook.findings import rank
from tocsin_server.runbook.inputs import Values
from tocsin_server.runbook.model import Answer, Report, Runbook, Step
from tocsin_server.runbook.question import Found, NotAsked, Question
from tocsin_server.runbook.redact import Redactor

Phase = Literal["fire", "resolve", "manual"]

#: The connection that is always there: the product's own events.
EVENTS = "events"


@dataclass(frozen=True, slots=True)
class Tools:
    """What steps may reach: the events, the named connections of the settings, and nothing else.

    ``monotonic`` is the clock of budgets, in seconds.
    """

    connect: events.Connect
    connections: Mapping[str, Connection] = field(default_factory=dict)
    private_hosts: frozenset[str] = frozenset()
    request: http.Send = outbound.request
    breaker: Breaker = field(default_factory=Breaker)
    monotonic: Callable[[], float] = time.monotonic


def execute(
    runbook: Runbook,
    values: Values,
    tools: Tools,
    clock: Clock,
    *,
    as_of_us: int,
    phase: Phase = "fire",
    only: Collection[str] | None = None,
    dry_run: bool = False,
) -> Report:
    """Runs the runbook's reading steps in document order and ranks its causes; a failed step stops nothing.

    ``phase`` ``fire`` runs Investigation, ``resolve`` Verification too, both only what may run by itself;
    ``manual`` was asked for by a person, who may also name the steps (``only``). ``as_of_us`` is the instant
    that the steps look back from. ``dry_run`` renders every step and touches nothing.
    """
    started_at, started = clock(), tools.monotonic()
    run = _Run(runbook, values, tools, clock, as_of_us, phase, dry_run, started + runbook.budget_s)
    answers: dict[str, Answer] = {}
    for step in chosen(runbook, phase, only):
        answers[step.id] = run.answer(step, answers)
    verdicts, causes = rank(runbook, answers)
    duration_ms = (tools.monotonic() - started) * 1000
    return Report(
        runbook.id, runbook.sha256, started_at, duration_ms, answers, tuple(verdicts), tuple(causes)
    )


def chosen(runbook: Runbook, phase: Phase, only: Collection[str] | None = None) -> tuple[Step, ...]:
    """The steps that a run looks at, in document order. Raises TocsinError when ``only`` names none."""
    if only is None:
        return runbook.investigation if phase == "fire" else (*runbook.investigation, *runbook.verification)
    unknown = sorted(set(only) - {step.id for step in runbook.steps})
    if unknown:
        known = ", ".join(step.id for step in runbook.steps)
        raise TocsinError(f"{runbook.id} has no step {unknown[0]}; its steps are: {known}")
    return tuple(step for step in runbook.steps if step.id in only)


def permit(
    step: Step, connections: Mapping[str, Connection], allowed: Collection[str], by_itself: bool
) -> None:
    """Raises NotAsked unless ``step`` may run; ``allowed`` are the connections that the runbook declares."""
    if step.kind == "sh":
        raise NotAsked("not_connected", "Tocsin runs no commands; run it yourself and note the result")
    connection = None if step.kind == "sql" and step.connection == EVENTS else _connection(step, connections)
    if connection is not None and step.connection not in allowed:
        raise NotAsked("refused", f"connection {step.connection} is not among the runbook's connections")
    if step.run == "never":
        raise NotAsked("skipped", "the runbook says run=never")
    if not by_itself:
        return
    if step.run != "auto" or step.section not in ("Investigation", "Verification"):
        raise NotAsked("skipped", "waits for a person: the runbook asks first")
    if connection is not None and not connection.auto:
        raise NotAsked("skipped", f"waits for a person: connection {step.connection} has no `auto: true`")


def _connection(step: Step, connections: Mapping[str, Connection]) -> Connection:
    """The connection of a step that is not about events, if this kind of step can use it."""
    connection = connections.get(step.connection)
    if connection is None:
        reason = f"connection `{step.connection}` is not in tocsin.yaml: add it under connections"
        raise NotAsked("not_connected", reason)
    if (step.kind == "http") != (connection.http is not None):
        kind = "http" if connection.http is not None else "postgresql"
        raise NotAsked(
            "refused", f"connection {step.connection} is {kind}: a step of kind {step.kind} cannot use it"
        )
    if step.kind == "sql":
        raise NotAsked("not_connected", "databases are not asked by this release; run the statement yourself")
    return connection


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: what its steps share. ``deadline`` is in seconds of ``tools.monotonic``."""

    runbook: Runbook
    values: Values
    tools: Tools
    clock: Clock
    as_of_us: int
    phase: Phase
    dry_run: bool
    deadline: float

    def answer(self, step: Step, before: Mapping[str, Answer]) -> Answer:
        """The answer of one step, also when it is only why there is none."""
        redactor = Redactor(step.redact, events=step.kind == "sql" and step.connection == EVENTS)
        answer = Answer(step.id, "skipped")
        try:
            permit(step, self.tools.connections, self.runbook.connections, self.phase != "manual")
            self._check_needs(step, before)
            question = self._question(step, redactor)
            answer = replace(
                answer,
                target=question.target,
                rendered=question.rendered,
                parameters=question.parameters,
            )
            answer = self._asked(step, question, answer)
        except NotAsked as outcome:
            answer = replace(answer, status=outcome.status, reason=outcome.reason)
        answer = replace(answer, redactions=redactor.redactions)
        return replace(answer, sha256=digest(answer))

    def _check_needs(self, step: Step, before: Mapping[str, Answer]) -> None:
        needed = before.get(step.needs)
        if step.needs and not self.dry_run and (needed is None or needed.status != "ok"):
            raise NotAsked("skipped", f"needs step {step.needs}, which did not answer")

    def _question(self, step: Step, redactor: Redactor) -> Question:
        if step.kind == "sql":
            return events.question(step, self.values, self.as_of_us, self.tools.connect, redactor)
        url = self.tools.connections[step.connection].http or ""
        tools = self.tools
        return http.question(
            step, url, self.values, self.as_of_us, tools.request, tools.private_hosts, redactor
        )

    def _asked(self, step: Step, question: Question, answer: Answer) -> Answer:
        if self.dry_run:
            return replace(answer, reason="dry run: not asked")
        reason = self.tools.breaker.reason(step.connection, self.clock())
        if reason:
            return replace(answer, reason=reason)
        started = self.tools.monotonic()
        seconds = min(step.timeout_s, self.deadline - started)
        if seconds <= 0:
            return replace(answer, reason=f"the runbook's budget of {self.runbook.budget_s:g} s is used up")
        answer = replace(answer, started_at=self.clock())
        answer = self._outcome(step, question, answer, seconds)
        return replace(answer, duration_ms=round((self.tools.monotonic() - started) * 1000, 3))

    def _outcome(self, step: Step, question: Question, answer: Answer, seconds: float) -> Answer:
        try:
            found = question.ask(seconds)
        except outbound.RequestFailed as error:
            if error.failure == "refused_address":
                return replace(answer, status="refused", reason=str(error))
            self.tools.breaker.record(step.connection, False, self.clock())
            return replace(answer, status="failed", reason=str(error))
        except TocsinError as error:
            return replace(answer, status="failed", reason=str(error))
        if step.connection != EVENTS:
            self.tools.breaker.record(step.connection, True, self.clock())
        return _with(answer, found)


def _with(answer: Answer, found: Found) -> Answer:
    return replace(
        answer,
        status="ok",
        columns=found.columns,
        rows=found.rows,
        http=found.http,
        truncated=found.truncated,
    )
