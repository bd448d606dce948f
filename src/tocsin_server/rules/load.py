"""Reads rule files strictly: every fault of every file at once, with its line and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tocsin_server.errors import Fault, FaultsError
from tocsin_server.rules.checks import CHECKS, alerts
from tocsin_server.rules.rule import Inhibition, Rule, RuleFile
from tocsin_server.yamlfile import Document, Location, did_you_mean, load_yaml


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The rules and inhibitions of a set of files."""

    rules: list[Rule]
    inhibitions: list[Inhibition]


def load_rules(paths: Iterable[Path | str]) -> list[Rule]:
    """Every rule of the files, or of all ``*.yaml`` below a folder. Raises FaultsError with all faults."""
    return load_catalogue(paths).rules


def load_catalogue(paths: Iterable[Path | str]) -> Catalogue:
    """Rules and inhibitions of the files. Raises FaultsError with all faults."""
    loaded, faults = _read([Path(path) for path in paths], None)
    if faults:
        raise FaultsError(faults)
    return Catalogue(
        [rule for file in loaded for rule in file.alerts],
        [entry for file in loaded for entry in file.inhibit],
    )


def check_rules(paths: Iterable[Path | str], runbooks: Sequence[str] | None = None) -> list[Fault]:
    """All faults of the files, sorted; ``runbooks`` are the ids that exist (None: not checked)."""
    return _read([Path(path) for path in paths], runbooks)[1]


def _read(paths: Sequence[Path], runbooks: Sequence[str] | None) -> tuple[list[RuleFile], list[Fault]]:
    files, faults = _files(paths)
    documents: list[Document] = []
    loaded: list[RuleFile] = []
    for path in files:
        document, found = load_yaml(path)
        faults += found
        if document.data is not None:
            documents.append(document)
            faults += _typed(document, loaded)
            faults += [fault for check in CHECKS for fault in check(document)]
    faults += _names(documents, whole=any(path.is_dir() for path in paths))
    if runbooks is not None:
        faults += [fault for document in documents for fault in _runbooks(document, runbooks)]
    return loaded, sorted(set(faults))


def _files(paths: Sequence[Path]) -> tuple[list[Path], list[Fault]]:
    files: list[Path] = []
    faults: list[Fault] = []
    for path in paths:
        found = sorted((*path.rglob("*.yaml"), *path.rglob("*.yml"))) if path.is_dir() else [path]
        if not found:
            faults.append(Fault(str(path), 1, "holds no rule files", "give a folder with *.yaml files"))
        files += [file for file in found if file not in files]
    return files, faults


def _typed(document: Document, loaded: list[RuleFile]) -> list[Fault]:
    if not isinstance(document.data, dict):
        hint = "start with `alerts:` and a list below it"
        return [document.fault((), "a rule file is a mapping", hint)]
    try:
        loaded.append(RuleFile.model_validate(document.data))
    except ValidationError as error:
        return document.faults_of(error, RuleFile)
    return []


# --- across files ---------------------------------------------------------------------------------------


def _names(documents: list[Document], whole: bool) -> list[Fault]:
    first: dict[str, str] = {}
    faults: list[Fault] = []
    for document in documents:
        for location, alert in alerts(document):
            name, place = alert.get("alert"), (*location, "alert")
            if isinstance(name, str) and name in first:
                hint = f"the first is in {first[name]}; rename one"
                faults.append(document.fault(place, f"duplicate alert `{name}`", hint))
            elif isinstance(name, str):
                first[name] = f"{document.file}:{document.line_of(place)}"
    if whole:
        faults += [fault for document in documents for fault in _inhibitions(document, set(first))]
    return faults


def _inhibitions(document: Document, alerts: set[str]) -> Iterator[Fault]:
    entries = document.data.get("inhibit") if isinstance(document.data, dict) else None
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        targets = entry.get("targets") if isinstance(entry, dict) else None
        named: list[tuple[Location, Any]] = (
            [(("source",), entry.get("source"))] if isinstance(entry, dict) else []
        )
        named += [
            (("targets", i), name) for i, name in enumerate(targets if isinstance(targets, list) else [])
        ]
        for key, name in named:
            if isinstance(name, str) and name not in alerts:
                place = ("inhibit", index, *key)
                yield document.fault(place, f"no alert `{name}`", did_you_mean(name, alerts))


def _runbooks(document: Document, runbooks: Sequence[str]) -> Iterator[Fault]:
    for location, alert in alerts(document):
        named = alert.get("runbooks")
        for index, name in enumerate(named if isinstance(named, list) else []):
            if isinstance(name, str) and name not in runbooks:
                place = (*location, "runbooks", index)
                yield document.fault(place, f"no runbook `{name}`", did_you_mean(name, runbooks))
