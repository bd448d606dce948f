"""Forms that people send: small, urlencoded, read with bounds."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from tocsin_server.web.params import BadRequest

MAX_BYTES = 65_536
MAX_FIELDS = 50


async def form(request: Request) -> dict[str, str]:
    """The fields of a form, the last of a name wins. Raises BadRequest."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise BadRequest("the form is larger than 64 KiB: shorten the text")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise BadRequest("the form cannot be read: open the page again and retry") from None


def required(fields: dict[str, str], name: str, most: int) -> str:
    """A field's text without white space around it. Raises BadRequest when it is empty or too long."""
    text = fields.get(name, "").strip()
    if not text:
        raise BadRequest(f"`{name}` is empty: write something and send it again")
    if len(text) > most:
        raise BadRequest(f"`{name}` is longer than {most:,} characters: shorten it")
    return text
