"""How far a followed file is stored, and how to know that file again after a restart."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: So many bytes at the beginning of a file, and before the place where reading goes on, are compared.
CHECKED_BYTES = 256

#: ``FS_IOC_GETVERSION``: the generation of an inode, different each time that its number is used again.
_GET_GENERATION = 0x80087601

#: Device and inode number: what the system calls one file, for as long as the file exists.
Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The first ``offset`` bytes of a file are stored; a line that begins there is not, or not whole.

    A file is the same one if device, inode, ``generation`` (0 where the file system has none) and two digests
    agree: ``head`` is the SHA-256 (hex) of the first stored bytes and ``before`` that of the last ones, at
    most 256 of each. An inode alone is never trusted: file systems use its number again at once (row T5 of
    the reliability bar). ``path`` is where the file was last seen, ``source`` the name that its lines have.
    """

    device: int
    inode: int
    generation: int
    offset: int
    head: str
    before: str
    path: str
    source: str

    @property
    def identity(self) -> Identity:
        """Device and inode number."""
        return self.device, self.inode

    def as_row(self) -> dict[str, Any]:
        """The fields as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Checkpoint:
        """What :meth:`as_row` gave. Raises TypeError when fields are missing or unknown."""
        return cls(**row)

    def fits(self, fd: int) -> bool:
        """Whether the open file still begins with the bytes that are stored."""
        if generation(fd) != self.generation or os.fstat(fd).st_size < self.offset:
            return False
        return digest(first(fd, self.offset)) == self.head and digest(last(fd, self.offset)) == self.before


def first(fd: int, offset: int) -> bytes:
    """The first of the bytes before ``offset``."""
    return os.pread(fd, min(CHECKED_BYTES, offset), 0)


def last(fd: int, offset: int) -> bytes:
    """The last of the bytes before ``offset``."""
    length = min(CHECKED_BYTES, offset)
    return os.pread(fd, length, offset - length)


def digest(checked: bytes) -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(checked).hexdigest()


def generation(fd: int) -> int:
    """The generation of the open file's inode; 0 where the file system does not tell (tmpfs, NFS)."""
    answer = bytearray(8)
    try:
        fcntl.ioctl(fd, _GET_GENERATION, answer)
    except OSError:
        return 0
    return int(struct.unpack("=I", answer[:4])[0])
