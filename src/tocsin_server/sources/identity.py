"""Known bytes: a file or stream is known by length and SHA-256 of what was loaded (``product.md``,
Identity).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from tocsin_server.store.manifest import HEAD_BYTES, Content


class Fingerprint:
    """Running identity of bytes read from the beginning: length, SHA-256, and SHA-256 of the head."""

    def __init__(self) -> None:
        self.length = 0
        self._head = b""
        self._sha256 = hashlib.sha256()

    def update(self, block: bytes) -> None:
        """Reads on."""
        if len(self._head) < HEAD_BYTES:
            self._head += block[: HEAD_BYTES - len(self._head)]
        self._sha256.update(block)
        self.length += len(block)

    @property
    def sha256(self) -> bytes:
        """Of all bytes so far."""
        return self._sha256.digest()

    @property
    def head(self) -> bytes:
        """Of the first bytes, at most HEAD_BYTES."""
        return hashlib.sha256(self._head).digest()


def longest_known(blocks: Iterable[bytes], known: Sequence[Content]) -> Content | None:
    """The longest of ``known`` (shortest first) that the bytes begin with; reads no further than it must."""
    fingerprint, found, waiting = Fingerprint(), None, list(known)
    for block in blocks:
        while waiting and waiting[0].length <= fingerprint.length + len(block):
            cut = waiting[0].length - fingerprint.length
            fingerprint.update(block[:cut])
            block = block[cut:]
            content = waiting.pop(0)
            if fingerprint.sha256 == content.sha256:
                found = content
        if not waiting:
            break
        fingerprint.update(block)
    return found
