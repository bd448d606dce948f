"""Known bytes: a file or stream is known by length and SHA-256 of what was loaded (``product.md``,
Identity).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

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


#: Bytes of a batch: a stream that is sent again is cut at the same places.
BATCH_BYTES = 1 << 20


def batches(stream: IO[bytes], name: str) -> Iterator[tuple[str, bytes]]:
    """A stream in batches of whole lines, each with a key: the same bytes at the same place of a stream of
    the same name have the same key.
    """
    so_far, carry = hashlib.sha256(name.encode() + b"\0"), b""
    while block := stream.read1(BATCH_BYTES) if hasattr(stream, "read1") else stream.read(BATCH_BYTES):
        carry += block
        while len(carry) >= BATCH_BYTES:
            cut = carry.rfind(b"\n", 0, BATCH_BYTES) + 1 or BATCH_BYTES
            batch, carry = carry[:cut], carry[cut:]
            so_far.update(batch)
            yield so_far.hexdigest(), batch
    if carry:
        so_far.update(carry)
        yield so_far.hexdigest(), carry
