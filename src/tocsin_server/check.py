"""Everything that people write, checked at once: alert rules, runbooks and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

from tocsin_server.config import Connection, check_settings, load_settings
from tocsin_server.errors import Fault, FaultsError
from tocsin_server.resources import alert_rules, runbooks
from tocsin_server.rules.load import check_rules, load_rules
from tocsin_server.runbook.load import check_runbooks, load_runbooks

SETTINGS_NAME = "tocsin.yaml"


def check_paths(paths: Sequence[Path] | None, today: date) -> list[Fault]:
    """Faults of the given files and folders, sorted; by default of ``./tocsin.yaml``, ``./ops`` or, where
    there is no ``./ops``, the shipped rules, and the runbooks.

    A folder stands for the rule files in it or in its ``alerts``, and for its ``tocsin.yaml``. Duplicate
    alert names are found across all files of one call.
    """
    chosen = (
        list(paths) if paths is not None else [p for p in (Path(SETTINGS_NAME), Path("ops")) if p.exists()]
    )
    settings = [p for path in chosen for p in _settings(path)]
    rules = [p for path in chosen for p in _rules(path)]
    if paths is None and not rules:
        rules = [alert_rules()]
    faults = [fault for path in settings for fault in check_settings(path)]
    if paths is not None:
        return sorted(faults + (check_rules(rules) if rules else []))
    known = list(load_runbooks(runbooks_folder())[0])
    return sorted(faults + check_rules(rules, known) + runbook_faults(None, today))


def runbooks_folder() -> Path:
    """``./docs/runbooks`` if there is one, else the shipped runbooks."""
    local = Path("docs/runbooks")
    return local if local.is_dir() else runbooks()


def runbook_faults(folders: Sequence[Path] | None, today: date) -> list[Fault]:
    """Faults of runbooks: each on its own, against the alert rules and, if there are settings, against their
    connections.
    """
    local = Path("ops/alerts")
    linked = _linked(local if local.is_dir() else alert_rules())
    connections = _connections()
    chosen = folders or [runbooks_folder()]
    return sorted({f for folder in chosen for f in check_runbooks(folder, linked, connections, today)})


def _linked(rules: Path) -> Mapping[str, list[str]]:
    """Alert -> its runbooks; while the rules have faults of their own, what the runbooks themselves say."""
    try:
        return {rule.alert: list(rule.runbooks) for rule in load_rules([rules])}
    except FaultsError:
        books = load_runbooks(runbooks_folder())[0].values()
        return {alert: [one.id for one in books if alert in one.alerts] for b in books for alert in b.alerts}


def _connections() -> Mapping[str, Connection] | None:
    try:
        return load_settings().connections or None
    except FaultsError:
        return None


def _settings(path: Path) -> list[Path]:
    if path.is_dir():
        inside = path / SETTINGS_NAME
        return [inside] if inside.exists() else []
    return [path] if path.name == SETTINGS_NAME else []


def _rules(path: Path) -> list[Path]:
    if not path.is_dir():
        return [] if path.name == SETTINGS_NAME else [path]
    for folder in (path / "alerts", path / "ops" / "alerts"):
        if folder.is_dir():
            return [folder]
    return [] if (path / SETTINGS_NAME).exists() else [path]
