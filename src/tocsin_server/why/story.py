"""What is known of one label set at one instant, as JSON and as sentences in the order in which one asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tocsin_server.clock import iso
from tocsin_server.evaluate import State
from tocsin_server.rules import Rule
from tocsin_server.rules.readings import Truth
from tocsin_server.why.measures import Measure


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known. Times in microseconds, UTC; ``longer``: the truth may be older than ``since_us``.

    ``fires_us``: when a pending instance fires if its condition goes on holding; ``ends_us``: when a firing
    one resolves if its condition does not hold again. Lists and ``silenced_by`` are JSON values.
    """

    truth: Truth
    measure: Measure
    since_us: int
    longer: bool
    state: State | None
    fires_us: int | None
    ends_us: int | None
    silent_because: str
    inhibited_by: list[dict[str, Any]]
    silenced_by: dict[str, Any] | None
    incident: int | None
    notifications: list[dict[str, Any]]
    transitions: list[dict[str, Any]]

    @property
    def stage(self) -> str:
        """``inactive``, ``pending`` or ``firing``."""
        if self.state is None:
            return "inactive"
        return "pending" if self.state.fired_at is None else "firing"

    def as_json(self) -> dict[str, Any]:
        """JSON values; times in ISO 8601."""
        state = self.state
        return {
            "truth": self.truth.name.lower(),
            "measured": self.measure.measured,
            "needed": self.measure.needed,
            "missing": self.measure.missing,
            "truth_since": iso(self.since_us),
            "truth_since_or_earlier": self.longer,
            "unknown_because": self.silent_because,
            "state": self.stage,
            "pending_since": None if state is None else iso(state.pending_at),
            "fires_at": _iso(self.fires_us),
            "firing_since": None if state is None else _iso(state.fired_at),
            "resolves_at": _iso(self.ends_us),
            "inhibited_by": self.inhibited_by,
            "silenced_by": self.silenced_by,
            "incident": self.incident,
            "notifications": self.notifications,
            "transitions": self.transitions,
        }


def story(rule: Rule, known: Known) -> Iterator[str]:
    """Sentences: what was measured, since when, what state that makes, who was told or why nobody was."""
    yield _measured(known)
    yield _state(known)
    if known.stage == "firing":
        yield from _firing(rule, known)


def _measured(known: Known) -> str:
    since = f"since {iso(known.since_us)}" + (" or earlier" if known.longer else "")
    if known.truth is Truth.UNKNOWN:
        because = f": {known.silent_because}" if known.silent_because else ""
        return f"UNKNOWN {since}{because}"
    return f"{known.measure}: {known.truth.name} {since}"


def _state(known: Known) -> str:
    state = known.state
    if state is None:
        return "inactive"
    if state.fired_at is None:
        fires = "" if known.fires_us is None else f", fires at {iso(known.fires_us)} if it goes on holding"
        frozen = "; its clock stands still while nothing is known" if known.truth is Truth.UNKNOWN else ""
        return f"pending since {iso(state.pending_at)}{fires}{frozen}"
    firing = f"firing since {iso(state.fired_at)}"
    if known.ends_us is not None:
        return f"{firing}, resolves at {iso(known.ends_us)} unless the condition holds again"
    return firing + ("; it stays so while nothing is known" if known.truth is Truth.UNKNOWN else "")


def _firing(rule: Rule, known: Known) -> Iterator[str]:
    if known.incident is not None:
        yield f"it belongs to incident {known.incident}"
    for source in known.inhibited_by:
        labels = " ".join(f"{name}={value}" for name, value in source["labels"].items())
        yield f"it is not sent while {source['alert']} fires ({labels})"
    if known.silenced_by is not None:
        silence = known.silenced_by
        yield (
            f"silenced by {silence['author']} until {silence['ends_at']} (silence {silence['id']}):"
            f" {silence['comment']}"
        )
    yield from (_notification(one) for one in known.notifications)
    if not (known.notifications or known.inhibited_by or known.silenced_by):
        yield f"nobody was told: no route leads severity {rule.severity} to a channel, or no server ran"


def _notification(one: dict[str, Any]) -> str:
    channel = one["channel"]
    if one["status"] == "waiting":
        return f"{channel} will be told at {one['due_at']}"
    attempts = one["attempts"]
    last = attempts[-1] if attempts else None
    tries = f"attempt {len(attempts)}" if attempts else "no attempt yet"
    if one["status"] == "delivered":
        return f"{channel} was told at {one['delivered_at']} ({one['reason']}, {tries}: {_answer(last)})"
    if one["status"] == "dead":
        return f"{channel} refused it for good ({tries}): {_answer(last)}"
    again = f", next at {one['next_try_at']}" if one["next_try_at"] else ""
    return f"{channel} is being told ({tries}{again})" + (f": {_answer(last)}" if last else "")


def _answer(attempt: dict[str, Any] | None) -> str:
    return "no answer" if attempt is None else f"it answered {attempt['answer']}"


def _iso(at_us: int | None) -> str | None:
    return None if at_us is None else iso(at_us)
