"""The one error that the emitter raises, and only from ``configure``."""

from __future__ import annotations

from collections.abc import Sequence


class ConfigurationError(ValueError):
    """Settings are wrong. Its text is one line that names every fault and what to write instead."""

    def __init__(self, faults: Sequence[str]) -> None:
        """``faults`` name the wrong settings, each with what to write instead."""
        self.faults = tuple(faults)
        count = "1 setting is" if len(faults) == 1 else f"{len(faults)} settings are"
        super().__init__(f"{count} wrong: " + "; ".join(faults))
