"""``docs/ALERT_THRESHOLDS.md``, written from the rules: the order's table, and what we add to it.

Run ``python -m tocsin_server.export.thresholds --write docs/ALERT_THRESHOLDS.md`` after a change of
``ops/alerts``; ``--check`` exits 1 when the page is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tocsin_server.durations import format_duration
from tocsin_server.rules import Catalogue, Inhibition, Rule, load_catalogue

#: The order's table, by title, in its sequence.
ORDERED = (
    "High Error Rate",
    "Slow Responses",
    "Job Queue Depth",
    "AI Gateway Down",
    "Sync Failures",
    "Disk Usage",
    "Auth Failures",
)

_INTRO = """\
<!-- Generated from ops/alerts by `python -m tocsin_server.export.thresholds`: change the rules, not this. -->

# Alert thresholds

How rules are written and evaluated: [alerts.md](alerts.md). `>` is strict; a window is
`T - window < ts <= T`; rules are evaluated every 30 s.
"""
_USAGE = (
    "usage: python -m tocsin_server.export.thresholds --check|--write docs/ALERT_THRESHOLDS.md [ops/alerts]"
)


def render(rules: Sequence[Rule], inhibitions: Sequence[Inhibition] = ()) -> str:
    """The whole page, in Markdown."""
    ordered = [rule for title in ORDERED for rule in rules if rule.title == title]
    others = sorted((rule for rule in rules if rule not in ordered), key=lambda rule: (rule.meta, rule.alert))
    parts = [_INTRO, _summary(ordered)]
    if others:
        parts += ["## Rules that the order does not list\n", _summary(others)]
    parts += ["## In full\n", *(_details(rule) for rule in (*ordered, *others))]
    if inhibitions:
        parts += ["## Inhibitions\n", _inhibitions(inhibitions)]
    return "\n".join(parts)


def _summary(rules: Iterable[Rule]) -> str:
    rows = [
        (rule.title or rule.alert, _words(rule), rule.severity.capitalize(), rule.action) for rule in rules
    ]
    return _table(("Alert", "Condition", "Severity", "Action"), rows)


def _words(rule: Rule) -> str:
    return rule.condition.words(rule.subject, rule.for_us)


def _details(rule: Rule) -> str:
    labels = [name if name == field else f"{name} (= {field})" for name, field in rule.by.items()]
    facts = [
        ("Condition", rule.condition.exactly()),
        ("Minimum", rule.condition.minimum()),
        ("Held before firing (`for`)", format_duration(rule.for_us)),
        ("Kept after (`keep_firing_for`)", format_duration(rule.keep_us)),
        ("Stays until at most (`resolve_threshold`)", _threshold(rule)),
        ("One instance per", ", ".join(labels) or "one in all"),
        ("Runbooks", ", ".join(f"`{runbook}`" for runbook in rule.runbooks)),
        ("About the alerting itself (`meta`)", "yes" if rule.meta else ""),
    ]
    lines = [f"- {name}: {text}" for name, text in facts if text]
    return "\n".join([f"### {rule.alert}\n", *lines, ""])


def _threshold(rule: Rule) -> str:
    return "" if rule.resolve_threshold is None else f"{float(rule.resolve_threshold):g}"


def _inhibitions(inhibitions: Iterable[Inhibition]) -> str:
    rows = [(entry.source, ", ".join(entry.targets), ", ".join(entry.equal)) for entry in inhibitions]
    return _table(("While this fires", "these are not sent", "when these labels are equal"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return (
        "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
        + "\n"
    )


def main(arguments: Sequence[str]) -> int:
    """``--check PAGE [RULES]`` or ``--write PAGE [RULES]``; the exit code."""
    if len(arguments) not in (2, 3) or arguments[0] not in ("--check", "--write"):
        print(_USAGE, file=sys.stderr)
        return 2
    page = Path(arguments[1])
    catalogue: Catalogue = load_catalogue([Path(arguments[2] if len(arguments) == 3 else "ops/alerts")])
    text = render(catalogue.rules, catalogue.inhibitions)
    if arguments[0] == "--write":
        page.write_text(text, encoding="utf-8")
        return 0
    if page.is_file() and page.read_text(encoding="utf-8") == text:
        return 0
    print(f"{page} is stale: run `python -m tocsin_server.export.thresholds --write {page}`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
