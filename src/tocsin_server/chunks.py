"""Bytes of a file or a stream, cut into chunks of whole lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: Parsed at once by one thread: large enough to make one good Parquet row group, small enough to bound
#: memory.
CHUNK_BYTES = 32 << 20

#: A line is read up to here (reliability table 3.2); of a longer one the beginning is kept and the rest
#: skipped.
MAX_LINE_BYTES = 1 << 20

#: Of a longer line: enough to see that it is one, also when its last kept byte is the ``\\r`` of a line end.
KEPT_BYTES = MAX_LINE_BYTES + 2


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines. ``position`` and ``length`` count bytes of the source; ``data`` may be shorter for a huge
    line.
    """

    position: int
    length: int
    data: bytes
    is_tail: bool = False


def cut(blocks: Iterable[bytes], position: int) -> Iterator[Chunk]:
    """Cuts blocks at ``\\n`` only (a line may hold U+2028, ``\\r`` or NUL).

    A last line without newline comes as a chunk of its own, marked ``is_tail``. Memory stays bounded by a
    block and one line of :data:`MAX_LINE_BYTES`, also for a line of gigabytes.
    """
    carry, skipped = b"", 0
    for block in blocks:
        if skipped:
            newline = block.find(b"\n")
            if newline < 0:
                skipped += len(block)
                continue
            length = len(carry) + skipped + newline + 1
            yield Chunk(position, length, carry + b"\n")
            position, block, carry, skipped = position + length, block[newline + 1 :], b"", 0
        data = carry + block if carry else block
        end = data.rfind(b"\n") + 1
        if end:
            yield Chunk(position, end, data[:end])
            position += end
        carry = data[end:]
        if len(carry) > KEPT_BYTES:
            carry, skipped = carry[:KEPT_BYTES], len(carry) - KEPT_BYTES
    if carry:
        yield Chunk(position, len(carry) + skipped, carry, is_tail=True)
