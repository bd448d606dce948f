"""Hostile text in a Markdown document: it may say anything, it may not become anything.

No markup, link, image, HTML, table cell or heading of its own comes out of telemetry (rows I11 and I12 of the
reliability bar); what is invisible is written as an escape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tocsin_server.notify.wording import cut
from tocsin_server.visible import visible

MAX_CELL_CHARACTERS = 200
_MARKUP = re.compile(r"[\\`*_\[\]<|~&#$]")
_BLOCK = re.compile(r"^(?=[-+=>])|^(\d+)(?=[.)](?:\s|$))")


def text(value: object, limit: int = MAX_CELL_CHARACTERS) -> str:
    """``value`` on one line as Markdown that renders as exactly these characters."""
    plain = cut(visible(str(value)).strip(), limit)
    escaped = _MARKUP.sub(lambda found: "\\" + found[0], plain).replace("://", ":\\//")
    return _BLOCK.sub(lambda found: (found[1] or "") + "\\", escaped.replace("www.", "www\\."))


def cell(value: object) -> str:
    """One value of a table; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return text(f"{value:.6g}")
    return text("true" if value is True else "false" if value is False else value)


def table(columns: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table; cells are escaped."""
    lines = [columns, *rows]
    head, *body = ("| " + " | ".join(map(cell, line)) + " |" for line in lines)
    return [head, "|" + " --- |" * len(columns), *body]


def fence(code: str, limit: int = 4000) -> list[str]:
    """The lines of a code block that nothing inside can end."""
    lines = [visible(line) for line in cut(code, limit).splitlines()]
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    marks = "`" * max(3, longest + 1)
    return [marks + "text", *lines, marks]
