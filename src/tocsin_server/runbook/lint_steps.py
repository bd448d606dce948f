"""Lint of what runs: steps, their statements, and the conditions that look at their answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from tocsin_server.config import Connection
from tocsin_server.errors import Fault
from tocsin_server.runbook import conditions, statements
from tocsin_server.runbook.blocks import RUNNING_SECTIONS
from tocsin_server.runbook.conditions import Expression
from tocsin_server.runbook.expressions import Reference, columns
from tocsin_server.runbook.http import read_request
from tocsin_server.runbook.model import Finding, Kind, Runbook, Step
from tocsin_server.runbook.question import AS_OF, NotAsked
from tocsin_server.sql import RefusedSQL, guard
from tocsin_server.yamlfile import did_you_mean

_OF_HTTP = frozenset(("status", "json", "header"))
_OF_ANY = frozenset(("ok", "ms"))


def parameters(step: Step) -> frozenset[str]:
    """The inputs that a step names."""
    if step.kind == "sql":
        return statements.parameters(step.body)
    try:
        return read_request(step.body).parameters if step.kind == "http" else frozenset()
    except NotAsked:
        return frozenset()


def steps(runbook: Runbook, rows_named: Collection[str]) -> Iterator[Fault]:
    """Faults of each block; ``rows_named`` are the ids of those that say how many rows they may answer."""
    inputs = {one.name for one in runbook.inputs} | {AS_OF}
    for place, step in enumerate(runbook.steps):
        said = list(_needs(step, runbook.steps[:place]))
        said += _connected(step, runbook.connections)
        for name in sorted(parameters(step) - inputs):
            hint = "declare it under `inputs`" if len(inputs) == 1 else did_you_mean(name, inputs)
            said.append(f"`:{name}` is no input; {hint}")
        if step.kind == "sql" and step.section in RUNNING_SECTIONS:
            said += statements.problems(step.body, step.connection == "events", step.id in rows_named)
        said += _refused(step)
        for text in said:
            message, _, hint = text.partition("; ")
            yield Fault(runbook.file, step.line, f"block `{step.id}`: {message}", hint)


def _needs(step: Step, before: tuple[Step, ...]) -> Iterator[str]:
    if step.needs and step.needs not in {other.id for other in before}:
        yield f"needs=`{step.needs}` is no block above it; {did_you_mean(step.needs, [s.id for s in before])}"


def _connected(step: Step, allowed: tuple[str, ...]) -> Iterator[str]:
    if step.connection and step.connection != "events" and step.connection not in allowed:
        hint = "add it to `connections` of the front matter"
        yield f"connection `{step.connection}` is not one of the runbook's; {hint}"


def _refused(step: Step) -> Iterator[str]:
    """What the guard of the events says; the executor would say it in the middle of an incident."""
    if step.kind != "sql" or step.connection != "events":
        return
    try:
        guard(step.body)
    except RefusedSQL as error:
        yield str(error)


def connections(runbook: Runbook, known: Mapping[str, Connection]) -> Iterator[tuple[str, str, str]]:
    """(connection, message, hint) for each one of the runbook that the settings lack or have otherwise."""
    kinds: dict[str, set[Kind]] = {}
    for step in runbook.steps:
        kinds.setdefault(step.connection, set()).add(step.kind)
    for name in runbook.connections:
        connection = known.get(name)
        if name == "events":
            continue
        if connection is None:
            yield (
                name,
                f"connection `{name}` is not in the settings",
                "add it under `connections` of tocsin.yaml",
            )
        elif kinds.get(name, set()) - {"http" if connection.http else "sql"}:
            other = "an http" if connection.http else "a postgresql"
            yield name, f"`{name}` is {other} connection in the settings", "its blocks are of the other kind"


# --- conditions -----------------------------------------------------------------------------------------


def findings(runbook: Runbook) -> Iterator[Fault]:
    """Faults of the conditions, and of the place of ``Otherwise``."""
    known = {step.id: step for step in runbook.steps}
    for step in runbook.steps:
        if step.expect:
            yield from _looks(conditions.parse(step.expect), known, runbook.file, step.line)
    for finding in runbook.findings:
        if isinstance(finding.condition, Expression):
            yield from _looks(finding.condition, known, runbook.file, finding.line)
    yield from _otherwise(runbook)


def _looks(expression: Expression, known: Mapping[str, Step], file: str, line: int) -> Iterator[Fault]:
    for reference in expression.references:
        step = known.get(reference.step)
        if step is None:
            yield Fault(
                file, line, f"there is no step `{reference.step}`", did_you_mean(reference.step, known)
            )
            continue
        answers = _OF_ANY if step.kind == "sh" else _OF_ANY | _OF_HTTP
        fits = reference.member in answers if step.kind != "sql" else reference.member not in _OF_HTTP
        if not fits:
            hint = "rows, columns: sql; status, json, header: http; ok, ms: both"
            yield Fault(
                file, line, f"`{step.id}` is a {step.kind} step and has no `{reference.member}`", hint
            )
        missing = sorted(_columns(reference) - set(step.columns)) if step.columns else []
        if fits and missing:
            hint = did_you_mean(missing[0], step.columns)
            yield Fault(file, line, f"`{step.id}` keeps no column `{missing[0]}`", hint)


def _columns(reference: Reference) -> set[str]:
    if reference.where is not None:
        return columns(reference.where)
    of_column = reference.member in ("first", "sum", "min", "max")
    return {str(part) for part in reference.path} if of_column else set()


def _otherwise(runbook: Runbook) -> Iterator[Fault]:
    by_step: dict[str, list[Finding]] = {}
    for finding in runbook.findings:
        by_step.setdefault(finding.step, []).append(finding)
    for of_step in by_step.values():
        for place, finding in enumerate(of_step):
            if finding.condition is None and (len(of_step) == 1 or place < len(of_step) - 1):
                hint = "write it once, as the last item below findings with a condition"
                yield Fault(
                    runbook.file, finding.line, "`Otherwise` is not the last of several findings", hint
                )
