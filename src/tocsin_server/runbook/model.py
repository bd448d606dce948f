"""A runbook as data: what the Markdown says, and what running a step answered.

The convention is in docs/runbooks.md; :mod:`tocsin_server.runbook.parse` reads it, ``run`` executes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Kind = Literal["sql", "http", "sh"]
RunMode = Literal["auto", "ask", "never"]
Strength = Literal["likely", "possible", "rules out", "note"]
Status = Literal["ok", "failed", "skipped", "refused", "not_connected"]


@dataclass(frozen=True, slots=True)
class Input:
    """A parameter of the steps: where its value comes from (``labels.x``, ``incident.started_at``), or its
    default. Without both a step that needs it waits for a person.
    """

    name: str
    type: Literal["int", "str", "enum", "duration", "slug"]
    default: str | int | None = None
    source: str | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One executable block. ``connection`` names a connection of the settings (``events`` is built in).

    ``run`` is what the document asks for; what really may run is decided by the executor. ``writes``: the
    class computed from kind and verb. ``title`` is the heading above, ``section`` the H2 it stands under.
    """

    id: str
    kind: Kind
    connection: str
    body: str
    section: str
    title: str
    line: int
    sha256: str
    run: RunMode
    writes: bool
    timeout_s: float = 5.0
    max_rows: int = 50
    max_bytes: int = 16_384
    columns: tuple[str, ...] = ()
    expect: str = ""
    risk: Literal["low", "high"] = "low"
    needs: str = ""
    redact: Literal["strict", "standard"] = "standard"


class Condition(Protocol):
    """A parsed condition of a finding."""

    @property
    def text(self) -> str:
        """As written."""

    @property
    def steps(self) -> frozenset[str]:
        """Ids of the steps it looks at."""

    def evaluate(self, answers: Mapping[str, Answer]) -> tuple[bool | None, str]:
        """(verdict, reason): None is unknown, with the reason (a step that failed or did not run)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One item under **Findings**: what it means when the condition holds; no condition is ``Otherwise``.

    ``step`` is the step that it stands under; ``cause`` the anchor of a heading under Diagnosis, or empty.
    """

    step: str
    condition: Condition | None
    strength: Strength
    cause: str
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Cause:
    """An H3 under Diagnosis; ``actions`` are anchors of headings under Resolution."""

    anchor: str
    title: str
    text: str
    actions: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Action:
    """An H3 under Resolution: what to do, with its blocks (never run by themselves)."""

    anchor: str
    title: str
    text: str
    steps: tuple[Step, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Runbook:
    """One runbook. ``sections``: H2 title -> its Markdown; ``investigation`` and ``verification``: steps."""

    id: str
    file: str
    title: str
    service: str
    owner: str
    alerts: tuple[str, ...]
    last_reviewed: str
    review_every_us: int
    connections: tuple[str, ...]
    inputs: tuple[Input, ...]
    escalation: str
    budget_s: float
    source: str
    sha256: str
    sections: Mapping[str, str]
    investigation: tuple[Step, ...]
    verification: tuple[Step, ...]
    findings: tuple[Finding, ...]
    causes: tuple[Cause, ...]
    actions: tuple[Action, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """Every executable block, in the order of the document."""
        return (
            *self.investigation,
            *(s for action in self.actions for s in action.steps),
            *self.verification,
        )


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a server answered; header names in lower case, ``json`` None when the body is none."""

    status: int
    headers: Mapping[str, str]
    body: str
    json: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What one step found; already redacted. ``reason`` says why a step did not answer."""

    step: str
    status: Status
    reason: str = ""
    target: str = ""
    rendered: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    started_at: int | None = None
    duration_ms: float | None = None
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    http: HttpAnswer | None = None
    truncated: bool = False
    redactions: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding after the run: ``holds`` None means unknown, with the reason."""

    finding: Finding
    holds: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class RankedCause:
    """A likely cause: ``likely`` before ``possible``, then by the number of supporting findings."""

    cause: str
    title: str
    strength: Literal["likely", "possible"]
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A finished run: an answer per step, a verdict per finding, the causes best first."""

    runbook: str
    file_sha256: str
    started_at: int
    duration_ms: float
    answers: Mapping[str, Answer]
    verdicts: tuple[Verdict, ...]
    causes: tuple[RankedCause, ...]
