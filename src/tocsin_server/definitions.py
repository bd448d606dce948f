"""The definitions that people write, as a running server has them: alert rules and runbooks.

Files are read again when they change. A change with faults is not taken: what was loaded last goes on, and
the faults are shown until the files are correct.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tocsin_server.errors import Fault, FaultsError
from tocsin_server.rules.load import Catalogue, load_catalogue
from tocsin_server.runbook.load import load_runbooks
from tocsin_server.runbook.model import Runbook

#: File -> (modification time in ns, size): what tells that it changed.
_Signature = dict[str, tuple[int, int]]


@dataclass
class Definitions:
    """Rules of one folder and runbooks of another. A file with faults is left out at first: a server that is
    started again after a bad edit watches what it can. Raises FaultsError when no rule is left.
    """

    rules_folder: Path
    runbooks_folder: Path
    catalogue: Catalogue = field(init=False)
    runbooks: Mapping[str, Runbook] = field(init=False, default_factory=dict)
    _rule_faults: list[Fault] = field(init=False, default_factory=list)
    _runbook_faults: list[Fault] = field(init=False, default_factory=list)
    _seen: _Signature = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._seen = self._signature()
        self.catalogue, self._rule_faults = _sound(self.rules_folder)
        self._load_runbooks()

    @property
    def faults(self) -> list[Fault]:
        """Of the files as they are now; empty when everything written is in force."""
        return [*self._rule_faults, *self._runbook_faults]

    def refresh(self) -> bool:
        """Reads the files again if they changed; answers whether they did."""
        now = self._signature()
        if now == self._seen:
            return False
        self._seen = now
        try:
            self.catalogue, self._rule_faults = load_catalogue([self.rules_folder]), []
        except FaultsError as error:
            self._rule_faults = error.faults
        self._load_runbooks()
        return True

    def _load_runbooks(self) -> None:
        loaded, self._runbook_faults = load_runbooks(self.runbooks_folder)
        self.runbooks = {**self.runbooks, **loaded} if self._runbook_faults else loaded

    def _signature(self) -> _Signature:
        files = (*self.rules_folder.rglob("*.y*ml"), *self.runbooks_folder.glob("*.md"))
        found: _Signature = {}
        for path in files:
            try:
                stat = path.stat()
            except OSError:
                continue  # removed this moment: the next look sees that
            found[str(path)] = (stat.st_mtime_ns, stat.st_size)
        return found


def _sound(folder: Path) -> tuple[Catalogue, list[Fault]]:
    """The rules of the files without faults, and the faults of the others."""
    try:
        return load_catalogue([folder]), []
    except FaultsError as error:
        whole = Catalogue([], [])
        for path in sorted(folder.rglob("*.y*ml")):
            with suppress(FaultsError):
                one = load_catalogue([path])
                known = {rule.alert for rule in whole.rules}
                whole.rules.extend(rule for rule in one.rules if rule.alert not in known)
                whole.inhibitions.extend(one.inhibitions)
        if not whole.rules:
            raise
        return whole, error.faults
