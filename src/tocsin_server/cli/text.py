"""What the commands about an installation print for people; hostile text is made visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tocsin_server.visible import visible

_STYLES = {"firing": "bold red", "pending": "yellow", "unknown": "magenta", "silenced": "cyan", "ok": "green"}
_SEVERITY = {"critical": "bold red", "warning": "yellow", "info": "cyan"}


def status_text(about: Mapping[str, Any]) -> RenderableType:
    """Whether the server is healthy, and what is wrong."""
    verdict = Text("healthy", "green") if about["healthy"] else Text("not healthy", "bold red")
    facts = Table.grid(padding=(0, 2))
    facts.add_row("data", Text(visible(about["data"])))
    facts.add_row("running since", about["started_at"] if about["running"] else "not running")
    facts.add_row("rules evaluated", about["evaluated_at"] or "never")
    told = about["notifications"]
    facts.add_row("notifications", f"{told['undelivered']} undelivered, {told['dead']} given up")
    problems = [Text(f"  {visible(problem)}", "yellow") for problem in about["problems"]]
    return Group(Text.assemble(f"Tocsin {about['version']}: ", verdict), *problems, facts)


def alerts_text(board: Mapping[str, Any]) -> RenderableType:
    """The state of every rule, the ones that fire first."""
    table = _table("state", "alert", "condition", "now")
    for rule in board["rules"]:
        state = Text(rule["state"], _STYLES.get(rule["state"], ""))
        table.add_row(state, Text(rule["alert"]), Text(visible(rule["sentence"])), Text(_now(rule)))
    return table


def _now(rule: Mapping[str, Any]) -> str:
    found = [
        " ".join(f"{visible(k)}={visible(v)}" for k, v in one["labels"].items()) + f" {one['state']}"
        for one in rule.get("instances", ())
    ]
    return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def incidents_text(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line an incident."""
    if not found:
        return Text("no incident")
    table = _table("#", "severity", "status", "opened", "title", "affected")
    for one in found:
        table.add_row(
            str(one["id"]),
            Text(one["severity"], _SEVERITY.get(one["severity"], "")),
            one["status"] + (" DRILL" if one["drill"] else ""),
            one["opened_at"],
            Text(visible(one["title"])),
            _affected(one),
        )
    return table


def _affected(one: Mapping[str, Any]) -> str:
    tenants = (one.get("tenants") or {}).get("count")
    return "" if tenants is None else f"{tenants} tenant{'' if tenants == 1 else 's'}"


def runbooks_text(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line a runbook."""
    table = _table("runbook", "title", "alerts", "steps", "reviewed")
    for one in found:
        alerts = ", ".join(one["alerts"])
        table.add_row(
            one["runbook"], Text(visible(one["title"])), alerts, str(len(one["steps"])), one["last_reviewed"]
        )
    return table


def runbook_text(report: Mapping[str, Any]) -> RenderableType:
    """What each step found, and the likely causes."""
    table = _table("step", "kind", "status", "ms", "rows", "")
    for step in report["steps"]:
        took = "" if step["ms"] is None else f"{step['ms']:.0f}"
        about = step.get("reason") or step.get("target") or ""
        table.add_row(
            step["id"], step["kind"], step["status"], took, _count(step.get("rows")), Text(visible(about))
        )
    return Group(table, Text(), *causes(report["causes"]))


def causes(ranked: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """The causes, best first, each with its reasons."""
    if not ranked:
        return [Text("no cause found: read the runbook")]
    lines: list[RenderableType] = []
    for cause in ranked:
        lines.append(Text(f"{cause['strength']}: {visible(cause.get('title') or cause['cause'])}", "bold"))
        lines += [Text(f"  because {visible(reason)}") for reason in cause["because"]]
    return lines


def drill_text(report: Mapping[str, Any]) -> RenderableType:
    """How far the drill came."""
    facts = Table.grid(padding=(0, 2))
    for name, value in report.items():
        said = "; ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
        facts.add_row(name.replace("_", " "), Text(visible(said)))
    verdict = (
        Text("the drill went through", "green") if report["ok"] else Text("the drill failed", "bold red")
    )
    return Group(verdict, facts)


def silences_text(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line a silence."""
    if not found:
        return Text("no silence")
    table = _table("#", "state", "matchers", "until", "author", "comment")
    for one in found:
        matchers = visible(", ".join(one["matchers"]))
        author, comment = (visible(str(one[name])) for name in ("author", "comment"))
        table.add_row(
            str(one["id"]), one["state"], Text(matchers), one["ends_at"], Text(author), Text(comment)
        )
    return table


def _count(rows: Any) -> str:
    return str(len(rows)) if isinstance(rows, list) else "" if rows is None else str(rows)


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for number, name in enumerate(columns):
        table.add_column(name, no_wrap=number < 2)
    return table
