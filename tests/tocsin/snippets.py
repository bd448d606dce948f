"""The code in the documentation, for the tests that run it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"


def code(page: str, language: str = "python") -> list[str]:
    """The fenced blocks of one language in ``docs/PAGE``, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def run(page: str, block: int, **names: Any) -> dict[str, Any]:
    """Runs one Python block of a page, with ``names`` there beforehand; returns what it has defined."""
    namespace = {"__name__": "snippet", **names}
    exec(compile(code(page)[block], f"docs/{page} block {block}", "exec"), namespace)
    return namespace
