"""Static files: a fixed table of names. A path is looked up in it and never joined to a folder (row I18)."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

_FOLDER = Path(__file__).parent / "static"
_SCRIPT, _STYLE = "text/javascript; charset=utf-8", "text/css; charset=utf-8"

#: Name -> media type. ``vendor/`` is filled from npm when the package is built.
STATIC: dict[str, str] = {
    "tocsin.css": _STYLE,
    "theme.js": _SCRIPT,
    "tocsin.js": _SCRIPT,
    "charts.js": _SCRIPT,
    "icon.svg": "image/svg+xml",
    "vendor/htmx.min.js": _SCRIPT,
    "vendor/uPlot.iife.min.js": _SCRIPT,
    "vendor/uPlot.min.css": _STYLE,
}


async def static(request: Request) -> Response:
    """One file of the table. Without the vendor files the pages work, without charts' zoom and refresh."""
    name = request.path_params["name"]
    if name not in STATIC or not (_FOLDER / name).is_file():
        return PlainTextResponse("There is no such file.\n", 404)
    headers = {"cache-control": "private, max-age=31536000, immutable"}
    return FileResponse(_FOLDER / name, media_type=STATIC[name], headers=headers)
