"""``sql on=events`` steps: one guarded SELECT over the events, its parameters bound, its answer bounded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import duckdb

from tocsin_server.errors import TocsinError
from tocsin_server.privacy import scrub_error
from tocsin_server.runbook.inputs import Value, Values
from tocsin_server.runbook.model import Step
from tocsin_server.runbook.question import Found, NotAsked, Question, redacted, used
from tocsin_server.runbook.redact import Redactor
from tocsin_server.sql import Limits, RefusedSQL, Result, guard, run

#: Opens a locked connection over the events, given the instant (µs) that is looked back from.
Connect = Callable[[int], AbstractContextManager[duckdb.DuckDBPyConnection]]


def question(step: Step, values: Values, as_of_us: int, connect: Connect, redactor: Redactor) -> Question:
    """The step as a question to the events.

    The statement never depends on a value: the guard writes ``:name`` as ``$name`` and DuckDB binds it.
    Raises NotAsked.
    """
    try:
        statement = guard(step.body)
    except RefusedSQL as error:
        raise NotAsked("refused", scrub_error(str(error))) from None
    names = _parameters(statement)
    parameters = used((name.lower() for name in names), values, as_of_us)
    bound = {name: parameters[name.lower()] for name in names}
    return Question(
        target="events",
        rendered=step.body.strip(),
        parameters=redacted(parameters, redactor),
        ask=lambda seconds: _ask(step, statement, bound, as_of_us, connect, redactor, seconds),
    )


def _parameters(statement: str) -> set[str]:
    """The names that the statement binds, as it writes them."""
    (parsed,) = duckdb.extract_statements(statement)
    names = set(parsed.named_parameters)
    if any(name.isdigit() for name in names):
        raise NotAsked("refused", "a parameter without a name has no value; write `:name` of an input")
    return names


def _ask(
    step: Step,
    statement: str,
    bound: Mapping[str, Value],
    as_of_us: int,
    connect: Connect,
    redactor: Redactor,
    seconds: float,
) -> Found:
    try:
        with connect(as_of_us) as connection:
            result = run(connection, statement, Limits(seconds=seconds, rows=step.max_rows), bound)
    except (TocsinError, duckdb.Error) as error:  # DuckDB quotes values in its messages
        raise TocsinError(scrub_error(str(error))) from None
    columns, raw = _picked(step, result)
    rows = redactor.rows(columns, raw)
    kept = fitting(rows, step.max_bytes)
    return Found(columns, kept, truncated=result.truncated or redactor.cut or len(kept) < len(rows))


def _picked(step: Step, result: Result) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """The columns that the step keeps: those it names, else all."""
    names = step.columns or tuple(result.columns)
    lacking = [name for name in names if name not in result.columns]
    if lacking:
        raise TocsinError(f"the answer has no column {lacking[0]}; correct `columns=` of the step")
    places = [result.columns.index(name) for name in names]
    return names, [tuple(row[place] for place in places) for row in result.rows]


def fitting(rows: Sequence[tuple[Any, ...]], max_bytes: int) -> tuple[tuple[Any, ...], ...]:
    """The first rows whose JSON is no longer than ``max_bytes`` together."""
    kept, size = [], 0
    for row in rows:
        size += len(json.dumps(row, ensure_ascii=False).encode())
        if size > max_bytes:
            break
        kept.append(row)
    return tuple(kept)
