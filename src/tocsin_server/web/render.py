"""Data to HTML: Jinja2 with autoescape, and Markdown without HTML.

What comes from telemetry is text everywhere: escaped, its invisible characters shown (row I11), its length
capped (row I13). The one place that marks HTML as safe is :func:`markdown`, whose input is a runbook.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from tocsin_server.visible import visible
from tocsin_server.web.charts import segments, top_of

#: Characters of a text that a page shows before "show more", and at most.
SHOWN, CAPPED = 500, 20_000
TITLE = 160
_FOLDER = Path(__file__).parent
_ALLOWED_LINK = re.compile(r"(https?://|mailto:|/(?!/)|#|[\w./-]+(#[\w-]*)?$)", re.IGNORECASE)
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def page(template: str, data: Mapping[str, Any], **about: Any) -> str:
    """The HTML of a page. ``about``: what every page needs besides its data (see base.html)."""
    return _environment().get_template(template).render(data=data, **about)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tocsin_server.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": lambda value: visible(str(value)),
        "title_text": title_text,
        "shown": lambda value: visible(str(value))[:SHOWN],
        "rest": lambda value: visible(str(value))[SHOWN:CAPPED],
        "beyond": lambda value: max(0, len(str(value)) - CAPPED),
        "clock": clock_time,
        "day": day,
        "epoch": epoch,
        "markdown": markdown,
        "grouped": lambda number: "–" if number is None else f"{number:,}",
        "figure": figure,
        "path_part": lambda value: quote(str(value), safe=""),
    }
    environment.globals |= {"top_of": top_of, "segments": segments, "asset": asset_url}
    return environment


def title_text(value: object) -> str:
    """A title: one line, capped."""
    text = visible(" ".join(str(value).split()))
    return text if len(text) <= TITLE else text[:TITLE] + "…"


def clock_time(text: str) -> str:
    """``07:55:12`` of an ISO time, with its milliseconds if it has any."""
    return text.partition("T")[2].rstrip("Z")


def day(text: str) -> str:
    """``2026-11-23 07:55:12`` of an ISO time."""
    return text.replace("T", " ").rstrip("Z")


def epoch(text: str) -> float:
    """Seconds since the epoch of an ISO time."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def figure(value: float | int | None) -> str:
    """A number of a chart's table; a gap is a dash, which is not zero."""
    if value is None:
        return "–"
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    )


def markdown(text: str) -> Markup:
    """Markdown as HTML: raw HTML in it stays text, links lead to http, https, mailto or this site only."""
    return Markup(_markdown().render(_visible_lines(_FRONT_MATTER.sub("", text))))  # noqa: S704  # html is off


@functools.cache
def _markdown() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table").disable("image")
    reader.validateLink = lambda url: bool(_ALLOWED_LINK.match(url))  # type: ignore[method-assign]  # its hook
    return reader


def _visible_lines(text: str) -> str:
    return "\n".join(visible(line.replace("\t", "    ")) for line in text.splitlines())


@functools.cache
def asset_url(name: str) -> str:
    """The address of a static file, new when its content is."""
    path = _FOLDER / "static" / name
    version = hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.exists() else "missing"
    return f"/static/{name}?v={version}"
