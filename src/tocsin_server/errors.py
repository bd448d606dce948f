"""What Tocsin says when something is wrong: a fault in a file that people write, or an error that ends a
command.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


class TocsinError(Exception):
    """Ends a command with exit code 2. Its text is one line: what happened, where, and what to do next."""


class BusyError(TocsinError):
    """There is too much to do now; the same again in a moment will work."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault in a file that people write; ``line`` counts from 1 (for a missing key: the line of its
    parent).
    """

    file: str
    line: int
    message: str
    hint: str

    def __str__(self) -> str:
        """``file:line: message (hint)``, as compilers print it."""
        return f"{self.file}:{self.line}: {self.message}" + (f" ({self.hint})" if self.hint else "")

    def as_json(self) -> dict[str, str | int]:
        """The shape of ``tocsin check --json``."""
        return asdict(self)


class FaultsError(TocsinError):
    """A file cannot be used; carries every fault found, not only the first."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = sorted(faults)
        first = str(self.faults[0])
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        super().__init__(f"{first}{more}; `tocsin check` lists all faults")
