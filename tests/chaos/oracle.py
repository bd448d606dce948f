"""What is sent, and what therefore must be stored: every line has a name of its own, and a payload that
follows from the name, so that what is missing, repeated, changed or forged can be told from the store alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from tocsin_server.clock import real_clock

#: Lines of one HTTP batch besides the broken, the blank and the repeated one.
PLAIN_LINES = 60
_LETTERS = str.maketrans("0123456789", "ghijklmnop")


def payload(name: str) -> str:
    """The name with a text of 12 to 131 characters that only this name has. Digits become letters, so that
    the server takes nothing for personal data.
    """
    name = name.translate(_LETTERS)
    digest = hashlib.blake2b(name.encode(), digest_size=6).digest()
    return f"{name} {digest.hex().translate(_LETTERS)}{'z' * (digest[0] % 120)}"


def is_genuine(stored: str) -> bool:
    """Whether a stored text is one that could have been sent, unchanged."""
    return stored == payload(stored.partition(" ")[0])


@dataclass(frozen=True, slots=True)
class Batch:
    """One request: its key, its bytes, and what must come of it. ``stored``: the texts of its events;
    ``dead``: the refused lines; ``answer``: what the sender must be told.
    """

    key: str
    data: bytes
    stored: list[str]
    dead: list[bytes]
    answer: dict[str, Any]


def http_batch(client: str, number: int) -> Batch:
    """Log lines and requests, a broken line, a blank one, and an event with an id of its own, which the next
    batch of the client holds again.
    """
    name = f"{client}-{number}"
    logs = [payload(f"{name}-{n}") for n in range(0, PLAIN_LINES, 2)]
    requests = [payload(f"{name}-{n}") for n in range(1, PLAIN_LINES, 2)]
    broken = b'{"broken":"%s' % payload(f"{name}-broken").encode()
    own = [owned(client, n) for n in range(max(0, number - 1), number + 1)]
    lines = [*map(_log, logs), *map(_request, requests), broken, b"", *map(_own, own)]
    kept = [*logs, *requests, own[-1]]
    answer = {
        "received": len(lines) - 1,
        "stored": len(kept),
        "duplicates": len(own) - 1,
        "rejected": [{"line": PLAIN_LINES + 1, "reason": "malformed"}],
    }
    return Batch(f"key-{name}", b"\n".join(lines) + b"\n", kept, [broken], answer)


def owned(client: str, number: int) -> str:
    """The text of the event with an id of its own that batch ``number`` holds first."""
    return payload(f"{client}-{number}-own")


def tail_line(number: int, log: str) -> bytes:
    """Line ``number`` of a followed log, with its newline: JSON, plain text or, now and then, broken."""
    text = payload(f"{log}-{number}")
    if number % 101 == 100:
        return b'{"broken":"%s\n' % text.encode()
    if number % 37 == 36:
        return text.encode() + b"\n"
    return _log(text) + b"\n"


def is_broken(line: bytes) -> bool:
    """Whether it must become a dead letter."""
    return line.startswith(b'{"broken"')


def _log(text: str) -> bytes:
    return _json({"message": text, "level": "INFO"})


def _request(text: str) -> bytes:
    name, _, rest = text.partition(" ")
    tags = {"request_id": name, "status": 200, "duration_ms": 12.5, "rest": rest}
    return _json({"metric": "api.request", "tags": tags})


def _own(text: str) -> bytes:
    return _json({"message": text, "event_id": f"own-{hashlib.sha256(text.encode()).hexdigest()}"})


def _json(fields: dict[str, Any]) -> bytes:
    common = {"timestamp": real_clock() // 1000, "service": "chaos", "environment": "test"}
    return json.dumps(common | fields, separators=(",", ":")).encode()
