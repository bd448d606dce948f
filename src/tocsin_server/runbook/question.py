"""What the two kinds of step that Tocsin asks, events and HTTP, have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tocsin_server.runbook.inputs import Value, Values, instant, shown
from tocsin_server.runbook.model import HttpAnswer, Status
from tocsin_server.runbook.redact import Redactor

#: Every step may use the instant that it looks back from, in SQL as a timestamptz.
AS_OF = "as_of"


class NotAsked(Exception):  # noqa: N818 - it is an outcome of a step, not an error
    """A step that is not asked, with the status and the reason of its answer."""

    def __init__(self, status: Status, reason: str) -> None:
        self.status: Status = status
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Found:
    """What came back, redacted."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    http: HttpAnswer | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A step ready to be asked. ``target``, ``rendered`` and ``parameters`` are shown and stored; ``ask``
    takes the seconds that it may last and raises TocsinError when there is no answer.
    """

    target: str
    rendered: str
    parameters: Mapping[str, Any]
    ask: Callable[[float], Found]


def used(names: Iterable[str], values: Values, as_of_us: int) -> dict[str, Value]:
    """The parameters that a step names. Raises NotAsked when one has no value or is none of the inputs."""
    names = sorted(set(names))
    known: dict[str, Value] = {**values.known, AS_OF: instant(as_of_us)}
    unknown = [name for name in names if name not in known and name not in values.missing]
    if unknown:
        raise NotAsked("refused", f"`:{unknown[0]}` is no input of this runbook; declare it under inputs")
    reason = values.why_missing(names)
    if reason:
        raise NotAsked("skipped", reason)
    return {name: known[name] for name in names}


def redacted(parameters: Mapping[str, Value], redactor: Redactor) -> dict[str, Any]:
    """Parameters as they are shown: a person may have typed anything."""
    return {
        name: shown(value) if name == AS_OF else redactor.value(name, shown(value))
        for name, value in parameters.items()
    }
