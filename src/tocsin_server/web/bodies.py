"""Request bodies of lines: decompressed within bounds, and brought to one line an event.

Reliability table 3.2 and row I1: 10 MiB as sent, 50 MiB inflated, at most 100 times as large once a megabyte
came out, one encoding only. The bodies of all requests together are bounded too, so that a burst is told to
come again instead of filling the memory.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass

MAX_SENT_BYTES = 10 << 20
MAX_INFLATED_BYTES = 50 << 20
MAX_RATIO = 100
RATIO_FROM_BYTES = 1 << 20
_STEP_BYTES = 1 << 18
_ZSTD_BYTES = 1 << 9


@dataclass
class BodyError(Exception):
    """The body cannot be taken; ``status`` is the HTTP status that says so."""

    status: int
    message: str


async def read(chunks: AsyncIterator[bytes]) -> bytes:
    """The body as sent. Raises BodyError (413) when it is too large."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_SENT_BYTES:
            raise BodyError(413, f"the body is larger than {MAX_SENT_BYTES >> 20} MiB; send smaller batches")
    return bytes(body)


def inflate(body: bytes, encoding: str) -> bytes:
    """The body without its Content-Encoding. Raises BodyError when it is damaged, too large, or is not one
    of identity, gzip, deflate and zstd.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    steps = _ENCODINGS.get(name)
    if steps is None:
        known = ", ".join(_ENCODINGS)
        raise BodyError(415, f"Content-Encoding {encoding[:40]!r} is not known; use one of {known}, or none")
    whole = bytearray()
    try:
        for step in steps(body):
            whole += step
            if len(whole) > MAX_INFLATED_BYTES:
                raise BodyError(413, f"the body inflates to more than {MAX_INFLATED_BYTES >> 20} MiB")
            if len(whole) > RATIO_FROM_BYTES and len(whole) > MAX_RATIO * len(body):
                raise BodyError(413, f"the body inflates more than {MAX_RATIO} times; send it uncompressed")
    except (zlib.error, EOFError):
        raise BodyError(400, f"the body is not whole {name} data; send it again") from None
    return bytes(whole)


def _zlib_steps(wbits: int) -> Callable[[bytes], Iterator[bytes]]:
    def steps(body: bytes) -> Iterator[bytes]:
        while body:  # gzip members may follow each other
            inflater = zlib.decompressobj(wbits)
            while body and not inflater.eof:
                yield inflater.decompress(body, _STEP_BYTES)
                body = inflater.unconsumed_tail or inflater.unused_data
                if not body and not inflater.eof:
                    yield inflater.flush(_STEP_BYTES)
                    if not inflater.eof:
                        raise EOFError

    return steps


def _zstd_steps(body: bytes) -> Iterator[bytes]:
    import zstandard

    context = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    while body:
        inflater = context.decompressobj()
        while body and not inflater.eof:  # 4 bytes can become 128 KiB, so few are given at once
            try:
                step = inflater.decompress(body[:_ZSTD_BYTES])
            except zstandard.ZstdError:
                raise EOFError from None
            yield step
            body = body[_ZSTD_BYTES:] if not inflater.eof else inflater.unused_data + body[_ZSTD_BYTES:]
        if not inflater.eof:
            raise EOFError


_ENCODINGS: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "gzip": _zlib_steps(31),
    "deflate": _zlib_steps(15),
    "zstd": _zstd_steps,
}


def lines(body: bytes) -> bytes:
    """NDJSON of a body that is NDJSON, a JSON array, or one JSON object (also over several lines).

    Raises BodyError (400) for an array that is no JSON: nobody could say which of its events are whole.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    start = body.lstrip()[:1]
    if start == b"[":
        try:
            return b"".join(_line(item) for item in json.loads(body))
        except (ValueError, RecursionError):
            raise BodyError(
                400, "the body begins as a JSON array but is none; send one object a line"
            ) from None
    if start == b"{" and b"\n" in body.strip() and not _first_line_is_json(body):
        try:
            return _line(json.loads(body))
        except (ValueError, RecursionError):
            return body  # lines, the first of which is broken: each is judged on its own
    return body


def _first_line_is_json(body: bytes) -> bool:
    try:
        json.loads(body.lstrip().partition(b"\n")[0])
    except (ValueError, RecursionError):
        return False
    return True


def _line(value: object) -> bytes:
    """One line; ASCII, so that a lone surrogate stays what it was."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
