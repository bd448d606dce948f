"""URL paths without what identifies a person."""

from __future__ import annotations

import re

PATH_CHARS = 512
_SEGMENT = re.compile(r"[A-Za-z][A-Za-z_-]{0,39}[0-9]?")
_PLACEHOLDER = re.compile(r"(?::[A-Za-z_]\w*|\{[\w:.*]+\}|<[\w:]+>|\*\w*)(?:\(\.:format\))?")


def template_path(path: str) -> str:
    """A URL path without ids: ``/students/812/essay?x=1`` becomes ``/students/:id/essay``.

    Scheme, host, query string and fragment are cut. A segment stays if it is a plain word (letters, ``_``,
    ``-``, at most one last digit, up to 40 characters) or a placeholder (``:id``, ``{id}``, ``<int:pk>``,
    ``*``); every other segment, a percent-encoded one too, becomes ``:id``.
    """
    path = path[: 8 * PATH_CHARS]
    scheme, found, rest = path.partition("://")
    if found and scheme.isalpha():
        path = "/" + rest.partition("/")[2]
    path = path.partition("?")[0].partition("#")[0]
    return "/".join(map(template_segment, path.split("/")))[:PATH_CHARS]


def template_segment(segment: str) -> str:
    """One segment of a path: itself or ``:id``."""
    plain = not segment or _SEGMENT.fullmatch(segment) or _PLACEHOLDER.fullmatch(segment)
    return segment if plain and len(segment) <= 40 else ":id"
