"""Everything that people write, checked at once: alert rules and settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tocsin_server.config import check_settings
from tocsin_server.errors import Fault
from tocsin_server.resources import alert_rules
from tocsin_server.rules.load import check_rules

SETTINGS_NAME = "tocsin.yaml"


def check_paths(paths: Sequence[Path] | None) -> list[Fault]:
    """Faults of the given files and folders, sorted; by default of ``./tocsin.yaml`` and ``./ops`` or, where
    there is no ``./ops``, the shipped rules.

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
    return sorted(faults + (check_rules(rules) if rules else []))


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
