"""What a person reads in the terminal: the books of a load, the doctor's diagnosis, the episodes of a
backtest, why an alert was what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tocsin_server.backtest import Episode, Report
from tocsin_server.clock import iso
from tocsin_server.doctor import Diagnosis
from tocsin_server.load import Books
from tocsin_server.query import Labels
from tocsin_server.visible import visible
from tocsin_server.why import Nearest

_STATE = {"firing": "bold red", "pending": "yellow", "inactive": "green"}
_SEVERITY = {"critical": "bold red", "warning": "yellow", "info": "cyan"}


def books_text(books: Books, seconds: float) -> str:
    """One line on what became of the lines."""
    if not books.bytes:
        return "nothing new: these bytes are loaded already"
    rate = f"{books.lines / seconds:,.0f} lines/s" if seconds else ""
    fates = {
        "events": books.events.total(),
        "logs": books.logs,
        "rejected": books.rejected,
        "duplicates": books.duplicates,
        "blank": books.blank,
    }
    became = ", ".join(f"{count:,} {name}" for name, count in fates.items())
    return f"{books.lines:,} lines: {became} ({books.bytes / 1e6:,.1f} MB, {seconds:.1f} s, {rate})"


def diagnosis_text(diagnosis: Diagnosis) -> RenderableType:
    """What was understood, which alerts could work, and lines that need a look."""
    books = diagnosis.books
    understood = books.events.total() + books.logs
    share = 100 * understood / books.lines if books.lines else 0.0
    head = Text(
        f"{understood:,} of {books.lines:,} lines understood ({share:.1f} %), {books.rejected:,} rejected"
    )
    dialects = ", ".join(f"{visible(name)} {count:,}" for name, count in books.dialects.most_common())
    events = ", ".join(f"{visible(name)} {count:,}" for name, count in books.events.most_common(12))
    facts = Table.grid(padding=(0, 2))
    facts.add_row("dialects", Text(dialects or "none"))
    facts.add_row("events", Text(events or "none"))
    alerts = Table(box=None, padding=(0, 2, 0, 0))
    alerts.add_column("alert")
    alerts.add_column("could it fire on these lines?")
    for name, readiness in diagnosis.alerts.items():
        ready = (
            Text("yes", "green") if readiness.ready else Text("no: " + "; ".join(readiness.missing), "yellow")
        )
        alerts.add_row(visible(name), ready)
    parts: list[RenderableType] = [head, facts, Text(), alerts]
    if diagnosis.examples:
        parts.append(Text("\nlines that were rejected, for example:"))
        parts += [
            Text(f"  {visible(e.source)} byte {e.position}: {e.reason}: {visible(e.text)}")
            for e in diagnosis.examples
        ]
    return Group(*parts)


def report_text(report: Report, nearest: Sequence[Nearest], severities: Mapping[str, str]) -> RenderableType:
    """Which alerts fired and when; for the silent ones, how near they came."""
    if report.from_us is None or report.to_us is None:
        return Text("no events: load some with `tocsin ingest FILE`, or name the files")
    head = Text(
        f"{report.evaluations:,} evaluations from {_time(report.from_us)} to {_time(report.to_us)} UTC"
    )
    parts: list[RenderableType] = [head, Text()]
    same_day = _time(report.from_us)[:10] == _time(report.to_us)[:10]
    shown = _time_of_day if same_day else _time
    if report.episodes:
        fired = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("alert that fired", "labels", "value"):
            fired.add_column(name, no_wrap=name != "labels")
        for name in ("fired", "resolved"):
            fired.add_column(name, no_wrap=True)
        for episode in report.episodes:
            fired.add_row(*_episode(episode, severities.get(episode.alert, ""), shown))
        parts += [fired, Text()]
    if nearest:
        silent = Table(box=None, padding=(0, 2, 0, 0))
        silent.add_column("alert that did not", no_wrap=True)
        silent.add_column("condition")
        silent.add_column("why")
        for one in nearest:
            silent.add_row(visible(one.alert), Text(one.condition), Text(_why(one, shown)))
        parts.append(silent)
    return Group(*parts)


def explained_text(explained: Mapping[str, Any]) -> RenderableType:
    """What :func:`tocsin_server.why.explain` found, one block per label set."""
    head = Text.assemble(
        (visible(explained["alert"]), f"bold {_SEVERITY.get(explained['severity'], '')}"),
        f" at {explained['at']}: {explained['condition']}",
    )
    rule = Table.grid(padding=(0, 2))
    rule.add_row("exactly", Text(visible(explained["exactly"])))
    if explained["minimum"]:
        rule.add_row("at least", Text(explained["minimum"]))
    for name, key in (("must hold for", "for"), ("keeps firing", "keep_firing_for")):
        if explained[key] != "0s":
            rule.add_row(name, Text(explained[key]))
    parts: list[RenderableType] = [head, rule]
    parts += [_instance(instance) for instance in explained["instances"]]
    if explained["more_instances"]:
        parts.append(Text(f"and {explained['more_instances']:,} more label sets"))
    parts += [Text(visible(explained[key]), "yellow") for key in ("nothing", "error") if explained[key]]
    return Group(*parts)


def _instance(instance: Mapping[str, Any]) -> RenderableType:
    state = Text(instance["state"].upper(), _STATE[instance["state"]])
    labels = _labels(tuple(instance["labels"].items()))
    parts: list[RenderableType] = [Text.assemble("\n", state, f"  {labels}")]
    parts += [Text(f"  {visible(sentence)}") for sentence in instance["story"]]
    changes = [f"{change['to']} {change['at'][11:]}" for change in instance["transitions"]]
    if changes:
        parts.append(Text(f"  within an hour: {', '.join(changes)}"))
    return Group(*parts)


def _episode(episode: Episode, severity: str, shown: Callable[[int], str]) -> list[RenderableType]:
    resolved = "still firing" if episode.resolved_at is None else shown(episode.resolved_at)
    return [
        Text(visible(episode.alert), _SEVERITY.get(severity, "")),
        Text(_labels(episode.labels)),
        "" if episode.value is None else f"{episode.value:.4g}",
        shown(episode.fired_at),
        resolved,
    ]


def _why(nearest: Nearest, shown: Callable[[int], str]) -> str:
    if nearest.at_us is None or nearest.value is None:
        return nearest.reason
    numbers = ", ".join(f"{name} {number:,}" for name, number in nearest.numbers)
    measured = f"{nearest.value:.4g}" + (f" ({numbers})" if numbers else "")
    return f"{nearest.reason}: at most {measured} at {shown(nearest.at_us)}"


def _labels(labels: Labels) -> str:
    return " ".join(f"{visible(name)}={visible(value)}" for name, value in labels)


def _time_of_day(at_us: int) -> str:
    return _time(at_us)[11:]


def _time(at_us: int) -> str:
    return iso(at_us).replace("T", " ").removesuffix("Z")
